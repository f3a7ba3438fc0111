"""Low-rank adapters: the modules that they adapt, and merging them into a full-precision base."""

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import ModulesToSaveWrapper
from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
from transformers import PreTrainedModel

from hatrain.contract.spec import LoraSpec
from hatrain.errors import BadInput, nearest

GROUPS = ("mlp", "attention", "embeddings")
_ATTENTION = ("self_attn", "attn", "attention")
_MLP = ("mlp", "feed_forward", "block_sparse_moe")


def _is_linear(module: torch.nn.Module) -> bool:
    """Whether a module is torch's Linear or a quantised replacement of it."""
    return isinstance(module, torch.nn.Linear) or "Linear" in type(module).__name__


def groups(model: PreTrainedModel) -> dict[str, list[str]]:
    """Return the model's module names for mlp, attention and embeddings, in the order of the model.

    mlp and attention are the linear modules in a block of that name; embeddings are the input embedding and the output
    head (for Phi: fc1,fc2 · q_proj,k_proj,v_proj,dense · embed_tokens,lm_head).
    """
    names: dict[str, dict[str, None]] = {group: {} for group in GROUPS}
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    for path, module in model.named_modules():
        *parents, name = path.split(".")
        if any(module is end for end in ends):
            names["embeddings"][name] = None
        elif not _is_linear(module):
            continue
        elif any(parent in _ATTENTION for parent in parents):
            names["attention"][name] = None
        elif any(parent in _MLP for parent in parents):
            names["mlp"][name] = None
    return {group: list(members) for group, members in names.items()}


def default_modules(model: PreTrainedModel) -> list[str]:
    """The modules that PEFT adapts by default in this architecture; without a default, the attention's."""
    named = TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING.get(model.config.model_type)
    return list(named) if isinstance(named, list) else groups(model)["attention"]


def expand(wanted: Sequence[str], model: PreTrainedModel, key: str, *, whole: bool = False) -> list[str]:
    """Replace the names of groups by those of their modules.

    Adapters need linear modules or embeddings; with `whole` any module with weights is accepted. Raises BadInput for
    other names.
    """
    known = groups(model)
    names = list(dict.fromkeys(name for item in wanted for name in known.get(item, [item])))
    all_names = list(dict.fromkeys(name for group in known.values() for name in group))
    available = {
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
        if name not in available
    ]
    if problems:
        raise BadInput(problems)
    return names


def adapted_names(model: PreTrainedModel, lora: LoraSpec) -> tuple[list[str], list[str]]:
    """Return the names of the modules that get an adapter, and of those that are trained and saved whole. Raises
    BadInput when none gets an adapter."""
    saved = expand(lora.modules_to_save or (), model, "method.lora.modules_to_save", whole=True)
    modules = expand(lora.modules, model, "method.lora.modules") if lora.modules else default_modules(model)
    targets = [name for name in modules if name not in saved]
    if not targets:
        raise BadInput(
            f"method.lora.modules: nothing to adapt, because modules_to_save has {', '.join(modules)} too; "
            "choose other modules, or remove them from modules_to_save"
        )
    return targets, saved


def adapt(model: PreTrainedModel, lora: LoraSpec, rows: Mapping[str, list[int]] | None = None) -> PeftModel:
    """Return the model with new adapters, and with rows of its embeddings to train (`token_rows.trained_rows`). All
    other weights are frozen; trained ones are fp32."""
    targets, saved = adapted_names(model, lora)
    ends = set(groups(model)["embeddings"])
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=lora.rank,
        lora_alpha=lora.alpha,  # type: ignore[arg-type] # PEFT only divides it by the rank
        lora_dropout=lora.dropout,
        target_modules=targets,
        modules_to_save=saved or None,
        trainable_token_indices=dict(rows) if rows else None,
        # Tied ends that are saved whole stay tied. With an adapter on either they become two matrices.
        ensure_weight_tying=is_tied(model) and not ends.isdisjoint(saved) and ends.isdisjoint(targets),
    )
    dtype = model.dtype
    adapted = get_peft_model(model, config)
    quantized = getattr(model, "is_loaded_in_8bit", False) or getattr(model, "is_loaded_in_4bit", False)
    for parameter in trained(adapted):
        # On a quantised base adapters start at bf16 values, as QLoRA's authors advise; they are trained in fp32.
        parameter.data = (parameter.data.bfloat16() if quantized else parameter.data).float()
    # The frozen layers after an embedding that is trained in fp32 need their own dtype.
    adapted.get_input_embeddings().register_forward_hook(lambda module, args, output: output.to(dtype))
    # PEFT would write embeddings that were resized, whole, beside what is trained of them.
    adapted.save_pretrained = functools.partial(adapted.save_pretrained, save_embedding_layers=False)  # type: ignore
    return adapted


def trained(model: torch.nn.Module) -> Iterable[torch.nn.Parameter]:
    return (parameter for parameter in model.parameters() if parameter.requires_grad)


MERGE_TOLERANCE = 1e-3
"""Largest difference between a merged model's logits and its adapter's, as a share of the largest logit. In fp32,
rounding makes about 1e-5."""


def merge(adapter: Any, base: PreTrainedModel, rows: Mapping[str, torch.Tensor]) -> PreTrainedModel:
    """Merge an adapter folder into a full-precision base, and compare both on some rows (`input_ids` and
    `attention_mask`, each `[rows, tokens]`).

    Tied embeddings are untied if an adapter changes either of them. Raises BadInput when the merged model's logits are
    not the adapter's.
    """
    config = PeftConfig.from_pretrained(str(adapter))
    ends = set(groups(base)["embeddings"])
    adapted = PeftModel.from_pretrained(base, str(adapter))
    wanted = _logits(adapted, rows)
    if is_tied(base) and ends & set(config.target_modules or ()):
        untie(base)
    merged: PreTrainedModel = adapted.merge_and_unload()
    difference = (_logits(merged, rows) - wanted).abs().max() / wanted.abs().max().clamp(min=1e-6)
    if not difference <= MERGE_TOLERANCE:
        raise BadInput(
            f"method.lora.merge: the merged model is not the trained one: its logits differ by {difference:.2g} of the "
            f"largest (accepted: {MERGE_TOLERANCE:g}); model/ was not written; set merge: false and use adapter/"
        )
    return merged


def _logits(model: Any, rows: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Logits of the rows' tokens, without padding: `[tokens, vocabulary]`."""
    was_training = model.training
    model.eval()
    with torch.no_grad():
        logits = model(**rows, use_cache=False).logits[rows["attention_mask"].bool()].float()
    model.train(was_training)
    return logits


def is_tied(model: PreTrainedModel) -> bool:
    """Whether embeddings and head are one matrix."""
    return bool(model.config.get_text_config().tie_word_embeddings)


def untie(model: Any) -> None:
    """Give the output head its own copy of the weights."""
    head = model.get_output_embeddings()
    head = head.get_base_layer() if isinstance(head, BaseTunerLayer) else head
    if isinstance(head, ModulesToSaveWrapper):
        head = head.original_module
    head.weight = torch.nn.Parameter(head.weight.detach().clone())
    for config in (model.config, model.config.get_text_config()):
        config.tie_word_embeddings = False
