"""A base model made ready to be trained: quantised if asked for, with room for new tokens, adapters in place, and of
one mind with its tokenizer. What comes out is trained in fp32 and frozen in `model.dtype`."""

import contextlib
import importlib.util
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from transformers import (
    AutoTokenizer,
    BitsAndBytesConfig,
    GPTQConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from hatrain.contract.spec import EightBit, FourBit, Gptq, LoraSpec, ModelSpec
from hatrain.errors import BadInput
from hatrain.model import lora as adapters
from hatrain.model.base import DTYPES, hub_errors, load_config, load_model

EMBEDDING_MULTIPLE = 64
"""Embeddings grow to a multiple of this, which matrix units like."""


def new_tokens(spec: ModelSpec, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Return the tokens that `tokenizer` has beyond those of the base model's own, by id."""
    if not (spec.add_pad_token or spec.add_chatml_tokens):
        return []
    with hub_errors("tokenizer", spec.base):
        own = AutoTokenizer.from_pretrained(
            spec.base, revision=spec.revision, trust_remote_code=spec.trust_remote_code
        )
    known, vocabulary = own.get_vocab(), tokenizer.get_vocab()
    return sorted(vocabulary.keys() - known.keys(), key=vocabulary.__getitem__)


def make_room(model: Any, tokenizer: Any, added: Sequence[str]) -> None:
    """Grow the embeddings if a token has no row, and start the rows of new tokens at the mean of the old ones. Under
    ZeRO-3 a collective call."""
    rows = _rows(model.get_input_embeddings())
    ids = tokenizer.convert_tokens_to_ids(list(added))
    if len(tokenizer) > rows:
        model.resize_token_embeddings(
            len(tokenizer), pad_to_multiple_of=EMBEDDING_MULTIPLE, mean_resizing=False
        )
    fresh = sorted({*ids, *range(rows, _rows(model.get_input_embeddings()))})
    if not fresh:
        return
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    tensors = {
        id(tensor): tensor
        for end in ends
        for name in ("weight", "bias")
        if (tensor := getattr(end, name, None)) is not None
    }
    with torch.no_grad(), whole(tensors.values()):
        for tensor in tensors.values():
            old = torch.ones(tensor.shape[0], dtype=torch.bool, device=tensor.device)
            old[fresh] = False
            tensor[fresh] = tensor[old].float().mean(dim=0).to(tensor.dtype)


def _rows(embeddings: Any) -> int:
    """Return the tokens that an embedding has rows for; ZeRO-3 leaves no shape to a weight that is in parts."""
    weight = embeddings.weight
    return int(getattr(weight, "ds_shape", weight.shape)[0])


@contextlib.contextmanager
def whole(parameters: Iterable[torch.Tensor]) -> Iterator[None]:
    """Have weights whole, whatever ZeRO-3 made of them; what rank 0 changes in them stays. A collective call."""
    parts = [parameter for parameter in parameters if hasattr(parameter, "ds_id")]
    if not parts:
        yield
        return
    import deepspeed

    with deepspeed.zero.GatheredParameters(parts, modifier_rank=0):
        yield


def agree(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Make the model's and the generation's configuration say the tokenizer's eos, bos and pad.

    A generation that may end on several tokens keeps the others (Llama 3 ends on three).
    """
    text = model.config.get_text_config()
    text.eos_token_id, text.bos_token_id = tokenizer.eos_token_id, tokenizer.bos_token_id
    text.pad_token_id = tokenizer.pad_token_id
    generation = model.generation_config
    ends = generation.eos_token_id
    ends = ends if isinstance(ends, list) else [] if ends is None else [ends]
    others = [token for token in ends if token != tokenizer.eos_token_id] if len(ends) > 1 else []
    generation.eos_token_id = [tokenizer.eos_token_id, *others] if others else tokenizer.eos_token_id
    generation.bos_token_id, generation.pad_token_id = tokenizer.bos_token_id, tokenizer.pad_token_id


def quantization_options(spec: ModelSpec, device: str) -> dict[str, Any]:
    """Return what `from_pretrained` needs to read the base in fewer bits. Raises BadInput when it cannot here."""
    dtype = DTYPES[spec.dtype]
    match spec.quantization:
        case None:
            return {}
        case EightBit():
            config: Any = BitsAndBytesConfig(load_in_8bit=True)
        case FourBit(type=kind, double=double):
            config = BitsAndBytesConfig(
                load_in_4bit=True,
                bnb_4bit_quant_type=kind,
                bnb_4bit_use_double_quant=double,
                bnb_4bit_compute_dtype=dtype,
            )
        case Gptq():
            # Kernels for answering pass no gradient on. Of those that do, the CPU's first choice turns into one for
            # answering at the first look without gradients, and stays one.
            kernel = "gptq_torch" if device == "cpu" else "auto_trainable"
            config = GPTQConfig(bits=_gptq_bits(spec), backend=kernel)
    return {"quantization_config": config, "device_map": {"": device}}


def _gptq_bits(spec: ModelSpec) -> int:
    """Return the bits that a base was quantised to. Raises BadInput when it was not, or cannot be read here."""
    missing = [name for name in ("gptqmodel", "optimum") if importlib.util.find_spec(name) is None]
    if missing:
        raise BadInput(
            f"model.quantization: gptq needs {' and '.join(missing)}, in an environment of its own, .venv-gptq: run "
            "the job with .venv-gptq/bin/hatrain; what installs it is: make gptq"
        )
    config = load_config(spec.base, revision=spec.revision, trust_remote_code=spec.trust_remote_code)
    own = getattr(config, "quantization_config", None) or {}
    if own.get("quant_method") != "gptq":
        raise BadInput(
            f"model.quantization: gptq, but {spec.base} was not quantised with GPTQ (its configuration says "
            f"{own.get('quant_method') or 'nothing of it'}); accepted here: 8bit, 4bit or null"
        )
    return int(own["bits"])


def keep_layout(model: Any) -> None:
    """Keep 4-bit weights in the layout that they were quantised to.

    On some CPUs bitsandbytes packs them anew at the first look without gradients (`Linear4bit.forward`); no gradient
    passes through what it makes of them, and their scales lose digits.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def prepare(
    spec: ModelSpec, lora: LoraSpec | None, tokenizer: PreTrainedTokenizerBase, device: str
) -> tuple[Any, list[str]]:
    """Return the model to train, and the tokens that were added to it.

    Without adapters every weight is trained, in fp32; with them the base is frozen in `spec.dtype` (or quantised),
    and the adapters and `modules_to_save` are fp32. Raises BadInput for what cannot be combined.
    """
    if spec.quantization and lora is None:
        raise BadInput(
            f"model.quantization: {spec.quantization.kind} weights cannot be trained; add method.lora, or drop it"
        )
    added = new_tokens(spec, tokenizer)
    model = load_model(
        spec.base,
        revision=spec.revision,
        trust_remote_code=spec.trust_remote_code,
        dtype=DTYPES[spec.dtype] if lora else torch.float32,
        **quantization_options(spec, device),
    )
    keep_layout(model)
    make_room(model, tokenizer, added)
    agree(model, tokenizer)
    if lora is None:
        return model, added
    # A pad token is never looked at and never said, so nothing of it wants training.
    adapters.check_new_tokens(model, lora, [token for token in added if token != tokenizer.pad_token])
    return adapters.adapt(model, lora), added


def merged(
    spec: ModelSpec, adapter: str, tokenizer: PreTrainedTokenizerBase, added: Sequence[str]
) -> PreTrainedModel:
    """Return a full-precision base with an adapter folder merged into it, in fp32 on the CPU."""
    base = load_model(spec.base, revision=spec.revision, trust_remote_code=spec.trust_remote_code)
    make_room(base, tokenizer, added)
    agree(base, tokenizer)
    return adapters.merge(adapter, base)
