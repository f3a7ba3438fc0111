"""Low-rank adapters: which modules of a model they go to, and how they are merged into a full-precision base."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model
from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
from transformers import PreTrainedModel

from hatrain.contract.spec import LoraSpec
from hatrain.errors import BadInput, nearest

GROUPS = ("mlp", "attention", "embeddings")
_ATTENTION = ("self_attn", "attn", "attention")
_MLP = ("mlp", "feed_forward", "block_sparse_moe")


def _is_linear(module: torch.nn.Module) -> bool:
    """Whether a module multiplies by a weight matrix: torch's own Linear, or a quantised stand-in of it."""
    return isinstance(module, torch.nn.Linear) or "Linear" in type(module).__name__


def groups(model: PreTrainedModel) -> dict[str, list[str]]:
    """Return the model's own module names for mlp, attention and embeddings, in the order of the model.

    mlp and attention are the linear modules inside a block of that name; embeddings are the input embedding and
    the output head (for Phi: fc1,fc2 · q_proj,k_proj,v_proj,dense · embed_tokens,lm_head).
    """
    found: dict[str, dict[str, None]] = {group: {} for group in GROUPS}
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    for path, module in model.named_modules():
        *parents, name = path.split(".")
        if any(module is end for end in ends):
            found["embeddings"][name] = None
        elif not _is_linear(module):
            continue
        elif any(parent in _ATTENTION for parent in parents):
            found["attention"][name] = None
        elif any(parent in _MLP for parent in parents):
            found["mlp"][name] = None
    return {group: list(names) for group, names in found.items()}


def default_modules(model: PreTrainedModel) -> list[str]:
    """Return the modules that PEFT adapts for this architecture, or the attention's where it names none."""
    named = TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING.get(model.config.model_type)
    return list(named) if isinstance(named, list) else groups(model)["attention"]


def expand(wanted: Sequence[str], model: PreTrainedModel, key: str, *, whole: bool = False) -> list[str]:
    """Return module names with the group words replaced.

    An adapter goes to a matrix or an embedding; with `whole` any module that has weights will do. Raises BadInput for
    a name that no such module of the model has.
    """
    known = groups(model)
    names = list(dict.fromkeys(name for word in wanted for name in known.get(word, [word])))
    all_names = list(dict.fromkeys(name for group in known.values() for name in group))
    there = {
        path.rsplit(".", 1)[-1]
        for path, module in model.named_modules()
        if _is_linear(module)
        or isinstance(module, torch.nn.Embedding)
        or (whole and any(True for _ in module.parameters()))
    }
    problems = [
        f"{key}: found {name}, which {type(model).__name__} does not have; accepted: "
        f"{', '.join(all_names)}, or {' | '.join(GROUPS)}{nearest(name, all_names)}"
        for name in names
        if name not in there
    ]
    if problems:
        raise BadInput(problems)
    return names


def check_new_tokens(model: PreTrainedModel, lora: LoraSpec, added: Sequence[str]) -> None:
    """Raise BadInput when tokens were added but their embeddings would stay as they are."""
    if not added:
        return
    embeddings = groups(model)["embeddings"]
    trained = set(expand(lora.modules_to_save or (), model, "method.lora.modules_to_save", whole=True))
    frozen = [name for name in embeddings if name not in trained]
    if frozen:
        raise BadInput(
            f"method.lora.modules_to_save: the new tokens {' '.join(added)} would stay untrained, for "
            f"{', '.join(frozen)} {'is' if len(frozen) == 1 else 'are'} frozen; add: "
            f"modules_to_save: [{', '.join(embeddings)}]"
        )


def adapt(model: PreTrainedModel, lora: LoraSpec) -> PeftModel:
    """Return the model with fresh adapters. Everything else in it is frozen; what is trained is fp32."""
    save = expand(lora.modules_to_save or (), model, "method.lora.modules_to_save", whole=True) or None
    modules = expand(lora.modules, model, "method.lora.modules") if lora.modules else default_modules(model)
    targets = [name for name in modules if name not in (save or [])]
    if not targets:
        raise BadInput(
            f"method.lora.modules: nothing is left to adapt, for modules_to_save has {', '.join(modules)} too; "
            "name other modules, or leave them out of modules_to_save"
        )
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=lora.rank,
        lora_alpha=lora.alpha,  # type: ignore[arg-type] # PEFT only divides it by the rank
        lora_dropout=lora.dropout,
        target_modules=targets,
        modules_to_save=save,
        ensure_weight_tying=bool(save) and bool(model.config.tie_word_embeddings),
    )
    dtype = model.dtype
    adapted = get_peft_model(model, config)
    quantized = getattr(model, "is_loaded_in_8bit", False) or getattr(model, "is_loaded_in_4bit", False)
    for parameter in trained(adapted):
        # On a quantised base adapters start at bf16 values, as QLoRA's authors advise; they are trained in fp32.
        parameter.data = (parameter.data.bfloat16() if quantized else parameter.data).float()
    # An embedding that is trained in fp32 still speaks the dtype of the frozen layers after it.
    adapted.get_input_embeddings().register_forward_hook(lambda module, args, output: output.to(dtype))
    return adapted


def trained(model: torch.nn.Module) -> Iterable[torch.nn.Parameter]:
    """Return the parameters that training changes."""
    return (parameter for parameter in model.parameters() if parameter.requires_grad)


def merge(adapter: Any, base: PreTrainedModel) -> PreTrainedModel:
    """Return a full-precision base with an adapter folder merged into it.

    Where the head shares the embedding's weights and an adapter sits on either, the two part: what the adapter adds
    to one is not for the other.
    """
    config = PeftConfig.from_pretrained(str(adapter))
    if base.config.tie_word_embeddings and set(config.target_modules or ()) & set(groups(base)["embeddings"]):
        untie(base)
    return PeftModel.from_pretrained(base, str(adapter)).merge_and_unload()


def untie(model: Any) -> None:
    """Give the output head weights of its own."""
    head = model.get_output_embeddings()
    head.weight = torch.nn.Parameter(head.weight.detach().clone())
    model.config.tie_word_embeddings = False
