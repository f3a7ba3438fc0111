"""Weights, gradients, optimizer state and adapters by arithmetic, against torch on the meta device: to the byte."""

from functools import cache

import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
from transformers import AutoConfig, AutoModelForCausalLM

from hatrain.contract.spec import LoraSpec
from hatrain.model import token_rows
from hatrain.model.lora import adapt
from launch.memory.families import FAMILIES
from launch.memory.structure import NotKnown, adapters, structure

SIZES = {
    "vocab_size": 1088,
    "hidden_size": 192,
    "intermediate_size": 320,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "pad_token_id": 0,
}
OPTIONS = {
    "biased llama": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "tied llama": ("llama", {"tie_word_embeddings": True}),
    "wide heads": ("qwen3", {"head_dim": 64}),
    "stablelm 2": ("stablelm", {"use_qkv_bias": True}),
    "starcoder2 without biases": ("starcoder2", {"use_bias": False}),
    **{family: (family, {}) for family in FAMILIES},
}


@cache
def configured(name):
    kind, options = OPTIONS[name]
    fixed = {"stablelm": ("head_dim",), "phi": ("head_dim",), "starcoder2": ("head_dim",)}.get(kind, ())
    sizes = {key: value for key, value in SIZES.items() if key not in fixed}
    if kind == "gpt_neox":
        del sizes["num_key_value_heads"], sizes["head_dim"]
    return AutoConfig.for_model(kind, **{**sizes, **options})


def on_meta(name):
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(configured(name), dtype=torch.float32)


def elements(parameters):
    return sum(parameter.numel() for parameter in parameters)


@pytest.mark.parametrize("name", OPTIONS)
def test_weights_are_counted_as_torch_holds_them(name):
    config = configured(name)
    assert structure(config.to_dict()).weights == elements(on_meta(name).parameters())


@pytest.mark.parametrize("name", OPTIONS)
def test_a_layer_and_its_linear_modules_are_counted_by_name(name):
    known, model = structure(configured(name).to_dict()), on_meta(name)
    layers = model.base_model.layers
    assert known.layer == elements(layers[0].parameters())
    found = {
        path.rsplit(".", 1)[-1]: (module.in_features, module.out_features, module.bias is not None)
        for path, module in layers[0].named_modules()
        if isinstance(module, torch.nn.Linear)
    }
    assert {m.name: (m.inputs, m.outputs, m.bias) for m in known.linears} == found


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("modules", [None, ("mlp", "attention")])
def test_adapters_are_counted_as_peft_builds_them(name, modules):
    known, model = structure(configured(name).to_dict()), on_meta(name)
    lora = LoraSpec(rank=7, modules=modules)
    counted = adapters(known, lora)
    targets = sorted({module.name for module in counted.modules})
    default = TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING.get(known.kind)
    if modules is None and default:
        assert targets == sorted(default)
    adapted = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=7, target_modules=targets))
    assert counted.weights(known.layers) == elements(p for p in adapted.parameters() if p.requires_grad)


@pytest.mark.parametrize("name", ["llama", "tied llama", "phi", "gemma3_text"])
def test_modules_that_are_trained_whole_are_counted(name):
    known, model = structure(configured(name).to_dict()), on_meta(name)
    counted = adapters(known, LoraSpec(rank=4, modules=("attention",), modules_to_save=("embeddings",)))
    names = [known.family.embedding, known.family.head]
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=4,
        target_modules=[module.name for module in counted.modules],
        modules_to_save=names,
        ensure_weight_tying=known.tied,
    )
    adapted = get_peft_model(model, config)
    assert counted.weights(known.layers) == elements(p for p in adapted.parameters() if p.requires_grad)


@pytest.mark.parametrize("saved", [None, ("lm_head",)])
@pytest.mark.parametrize("name", ["llama", "tied llama", "gemma3_text"])
def test_the_rows_of_new_tokens_are_counted(name, saved):
    known, model = structure(configured(name).to_dict()), on_meta(name)
    lora = LoraSpec(rank=4, modules=("attention",), modules_to_save=saved)
    counted = adapters(known, lora, new_tokens=True)
    rows = token_rows.trained_rows(model, lora, {"one": 1, "two": 2})
    adapted = adapt(model, lora, rows)
    assert counted.weights(known.layers) == elements(p for p in adapted.parameters() if p.requires_grad)
    assert bool(counted.rows) == bool(rows)


def test_adapters_on_the_ends_are_counted():
    known, model = structure(configured("llama").to_dict()), on_meta("llama")
    counted = adapters(known, LoraSpec(rank=4, modules=("embeddings", "q_proj")))
    adapted = get_peft_model(
        model, LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["embed_tokens", "lm_head", "q_proj"])
    )
    assert counted.weights(known.layers) == elements(p for p in adapted.parameters() if p.requires_grad)


@pytest.mark.parametrize("family", FAMILIES)
def test_keys_that_config_json_leaves_out_have_transformers_values(family):
    """A saved configuration leaves out what is the default."""
    config = configured(family)
    written = {key: value for key, value in {**SIZES, **config.to_diff_dict()}.items() if key in config.to_dict()}
    assert structure({**written, "model_type": family}).weights == structure(config.to_dict()).weights


def test_an_unknown_family_is_refused_with_those_that_are_known():
    with pytest.raises(NotKnown, match="model_type mamba is not one whose memory is known: llama, "):
        structure({"model_type": "mamba"})
    with pytest.raises(NotKnown, match="no usable hidden_size"):
        structure({"model_type": "llama"})
