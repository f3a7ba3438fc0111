"""Activations by arithmetic, against what autograd keeps of one and two layers on fake tensors: within 5 %."""

import pytest
import torch

from hatrain.contract.spec import LoraSpec
from launch.memory.activations import kept
from launch.memory.families import FAMILIES
from launch.memory.structure import structure
from tests.launch.memory_trace import Trace

TOKENS = 1000
SIZES = {
    "vocab_size": 1088,
    "hidden_size": 512,
    "intermediate_size": 1408,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "max_position_embeddings": 4096,
}
WITHOUT = {
    "phi": ("head_dim",),
    "stablelm": ("head_dim",),
    "starcoder2": ("head_dim",),
    "gpt_neox": ("head_dim", "num_key_value_heads"),
}


def config_of(family, layers):
    sizes = {key: value for key, value in SIZES.items() if key not in WITHOUT.get(family, ())}
    return {**sizes, "model_type": family, "num_hidden_layers": layers}


def per_layer(family, **options):
    """Bytes of a token that the second of two layers adds."""
    one, two = (Trace(config_of(family, layers), TOKENS, **options).activations for layers in (1, 2))
    return (two - one) / TOKENS


LORA = {
    "all": (LoraSpec(rank=16, modules=("mlp", "attention")), "all-linear"),
    "without dropout": (LoraSpec(rank=16, modules=("mlp", "attention"), dropout=0), "all-linear"),
}


SOME = ("llama", "phi", "stablelm", "gemma3_text")
"""The others take minutes together."""
EVERY = [pytest.param(family, marks=() if family in SOME else pytest.mark.long) for family in FAMILIES]


@pytest.mark.parametrize("family", EVERY)
def test_a_layer_keeps_what_is_predicted(family):
    known = structure(config_of(family, 1))
    assert kept(known, None, "bf16").layer == pytest.approx(per_layer(family), rel=0.05)


@pytest.mark.parametrize("family", EVERY)
@pytest.mark.parametrize("kind", LORA)
def test_a_layer_with_adapters_keeps_what_is_predicted(family, kind):
    spec, targets = LORA[kind]
    known = structure(config_of(family, 1))
    lora = {"r": spec.rank, "target_modules": targets, "lora_dropout": spec.dropout}
    assert kept(known, spec, "bf16").layer == pytest.approx(per_layer(family, lora=lora), rel=0.05)


@pytest.mark.long
@pytest.mark.parametrize("family", ["llama", "stablelm", "phi", "phi3", "gemma3_text", "qwen3"])
@pytest.mark.parametrize("modules", [("q_proj", "v_proj"), ("attention",), ("mlp",)])
def test_a_layer_with_some_adapters_keeps_what_is_predicted(family, modules):
    known = structure(config_of(family, 1))
    if modules == ("q_proj", "v_proj") and family == "phi3":
        modules = ("qkv_proj",)
    groups = {group: [m.name for m in known.linears if m.group == group] for group in ("attention", "mlp")}
    spec = LoraSpec(rank=8, modules=modules)
    targets = [name for wanted in modules for name in groups.get(wanted, [wanted])]
    lora = {"r": 8, "target_modules": targets, "lora_dropout": spec.dropout}
    assert kept(known, spec, "bf16").layer == pytest.approx(per_layer(family, lora=lora), rel=0.05)


@pytest.mark.long
@pytest.mark.parametrize("family", ["llama", "stablelm", "phi", "phi3", "gemma3_text", "qwen3", "gpt_neox"])
@pytest.mark.parametrize("kind", [None, *LORA])
def test_in_fp32_nothing_is_cast(family, kind):
    known = structure(config_of(family, 1))
    spec, targets = LORA[kind] if kind else (None, None)
    lora = {"r": spec.rank, "target_modules": targets, "lora_dropout": spec.dropout} if spec else None
    traced = per_layer(family, lora=lora, dtype=torch.float32)
    assert kept(known, spec, "fp32").layer == pytest.approx(traced, rel=0.05)


@pytest.mark.parametrize(("family", "lora"), [("llama", False), ("llama", True), ("stablelm", False)])
def test_with_checkpointing_a_layer_keeps_its_input(family, lora):
    options = {"lora": {"r": 16, "target_modules": "all-linear", "lora_dropout": 0.05}} if lora else {}
    traced = per_layer(family, checkpointing=True, **options)
    assert (2 if lora else 4) * SIZES["hidden_size"] == pytest.approx(traced, rel=0.05)
