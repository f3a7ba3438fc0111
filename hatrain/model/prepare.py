"""Prepares a base model for training: quantisation, embeddings for new tokens, adapters, and the tokenizer's special
tokens in its configuration. Trained weights are fp32, frozen ones `model.dtype`."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from transformers import (
    AutoTokenizer,
    BitsAndBytesConfig,
    GPTQConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from hatrain.contract import extras
from hatrain.contract.spec import EightBit, FourBit, Gptq, LoraSpec, ModelSpec
from hatrain.data.template import stop_ids
from hatrain.errors import BadInput
from hatrain.model import lora as adapters
from hatrain.model import token_rows
from hatrain.model.base import DTYPES, hub_errors, load_config, load_model
from hatrain.runtime.waiting import waiting

EMBEDDING_MULTIPLE = 64
"""Embeddings are resized to a multiple of this, which GPUs multiply faster."""


def new_tokens(spec: ModelSpec, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Return the tokens of `tokenizer` that the base model's tokenizer does not have, by id."""
    if not (spec.add_pad_token or spec.add_chatml_tokens):
        return []
    with hub_errors("tokenizer", spec.base, spec.revision):
        own = AutoTokenizer.from_pretrained(spec.base, revision=spec.revision, trust_remote_code=spec.trust_remote_code)
    base_vocabulary, vocabulary = own.get_vocab(), tokenizer.get_vocab()
    return sorted(vocabulary.keys() - base_vocabulary.keys(), key=vocabulary.__getitem__)


def resize_embeddings(model: Any, tokenizer: Any, added: Sequence[str]) -> None:
    """Add rows to the embeddings if a token has none, and initialise new tokens with the mean of the old ones. Under
    ZeRO-3 a collective call."""
    rows = _rows(model.get_input_embeddings())
    ids = tokenizer.convert_tokens_to_ids(list(added))
    if len(tokenizer) > rows:
        model.resize_token_embeddings(len(tokenizer), pad_to_multiple_of=EMBEDDING_MULTIPLE, mean_resizing=False)
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
    with torch.no_grad(), gathered(tensors.values()):
        for tensor in tensors.values():
            old = torch.ones(tensor.shape[0], dtype=torch.bool, device=tensor.device)
            old[fresh] = False
            tensor[fresh] = tensor[old].float().mean(dim=0).to(tensor.dtype)


def _rows(embeddings: Any) -> int:
    """The rows of an embedding; under ZeRO-3 a sharded weight has no shape."""
    weight = embeddings.weight
    return int(getattr(weight, "ds_shape", weight.shape)[0])


@contextlib.contextmanager
def gathered(parameters: Iterable[torch.Tensor]) -> Iterator[None]:
    """Gather weights that ZeRO-3 sharded; changes by rank 0 are kept. A collective call."""
    parts = [parameter for parameter in parameters if hasattr(parameter, "ds_id")]
    if not parts:
        yield
        return
    import deepspeed

    with deepspeed.zero.GatheredParameters(parts, modifier_rank=0):
        yield


def set_special_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Set the tokenizer's eos, bos and pad in the model's and the generation configuration.

    A generation configuration with several eos tokens keeps the others (Llama 3 has three). The tokens that end a reply
    in the chat template are added: GLM's replies end with the next turn's header.
    """
    text = model.config.get_text_config()
    text.eos_token_id, text.bos_token_id = tokenizer.eos_token_id, tokenizer.bos_token_id
    text.pad_token_id = tokenizer.pad_token_id
    generation = model.generation_config
    ends = generation.eos_token_id
    ends = ends if isinstance(ends, list) else [] if ends is None else [ends]
    others = [token for token in ends if token != tokenizer.eos_token_id] if len(ends) > 1 else []
    others += [token for token in stop_ids(tokenizer) if token not in (tokenizer.eos_token_id, *others)]
    generation.eos_token_id = [tokenizer.eos_token_id, *others] if others else tokenizer.eos_token_id
    generation.bos_token_id, generation.pad_token_id = tokenizer.bos_token_id, tokenizer.pad_token_id


def quantization_options(spec: ModelSpec, device: str) -> dict[str, Any]:
    """Return the options for `from_pretrained`. Raises BadInput when the quantisation is not possible here."""
    dtype = DTYPES[spec.dtype]
    if isinstance(spec.quantization, EightBit | FourBit) and (
        problems := extras.problems("quant", f"model.quantization: {spec.quantization.kind}")
    ):
        raise BadInput(problems)
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
            # Inference kernels compute no gradients. Of the training kernels the CPU's default turns into an inference
            # kernel in the first forward pass without gradients, and stays one.
            kernel = "gptq_torch" if device == "cpu" else "auto_trainable"
            config = GPTQConfig(bits=_gptq_bits(spec), backend=kernel)
    return {"quantization_config": config, "device_map": {"": device}}


def _gptq_bits(spec: ModelSpec) -> int:
    """The bits that a base was quantised to. Raises BadInput when it was not, or GPTQ is not installed."""
    if missing := extras.absent("gptq"):
        raise BadInput(
            f"model.quantization: gptq needs {' and '.join(missing)}, which have their own environment, .venv-gptq; "
            "install it with make gptq, and run the job with .venv-gptq/bin/hatrain"
        )
    config = load_config(spec.base, revision=spec.revision, trust_remote_code=spec.trust_remote_code)
    own = getattr(config, "quantization_config", None) or {}
    if own.get("quant_method") != "gptq":
        raise BadInput(
            f"model.quantization: found gptq, but {spec.base} is not quantised with GPTQ (quant_method: "
            f"{own.get('quant_method')}); accepted: 8bit, 4bit or null"
        )
    return int(own["bits"])


def keep_layout(model: Any) -> None:
    """Keep 4-bit weights in their layout.

    On some CPUs bitsandbytes repacks them in the first forward pass without gradients (`Linear4bit.forward`). The
    repacked weights pass no gradients, and their scales lose precision.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def prepare(
    spec: ModelSpec, lora: LoraSpec | None, tokenizer: PreTrainedTokenizerBase, device: str
) -> tuple[Any, list[str]]:
    """Return the model to train, and the tokens that were added to it.

    Without adapters all weights are trained, in fp32. With them the base is frozen, in `spec.dtype` or quantised, and
    adapters, `modules_to_save` and the rows of new tokens are fp32. Raises BadInput for settings that cannot be
    combined.
    """
    if spec.quantization and lora is None:
        raise BadInput(
            f"model.quantization: {spec.quantization.kind} weights cannot be trained; add method.lora, or remove it"
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
    resize_embeddings(model, tokenizer, added)
    set_special_tokens(model, tokenizer)
    if lora is None:
        return model, added
    # A pad token is masked and never supervised, so it needs no training.
    vocabulary = tokenizer.get_vocab()
    tokens = {token: vocabulary[token] for token in added if token != tokenizer.pad_token}
    rows, tied = token_rows.trained_rows(model, lora, tokens), adapters.is_tied(model)
    adapted = adapters.adapt(model, lora, rows)
    token_rows.check_tied(adapted, rows, tied)
    return adapted, added


def merged(
    spec: ModelSpec,
    adapter: str,
    tokenizer: PreTrainedTokenizerBase,
    added: Sequence[str],
    rows: Mapping[str, torch.Tensor],
) -> PreTrainedModel:
    """Merge an adapter folder into the full-precision base, in fp32 on the CPU. Raises BadInput when the merged model
    does not compute on some rows what the adapter does."""
    base = load_model(spec.base, revision=spec.revision, trust_remote_code=spec.trust_remote_code)
    resize_embeddings(base, tokenizer, added)
    set_special_tokens(base, tokenizer)
    with waiting("merging the adapter"):
        return adapters.merge(adapter, base, rows)
