"""What each family of language models is built of, by the `model_type` of its config.json: names, biases, norms and the
values that transformers assumes for keys that are left out. tests/launch/test_memory_counts.py builds every family."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Family:
    """One family. A bias is True, False, or the key of config.json that decides."""

    attention: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj")
    """Names of the attention's linear modules, the output last; two names where queries, keys and values are one."""
    mlp: tuple[str, ...] = ("gate_proj", "up_proj", "down_proj")
    """Names of the MLP's linear modules, the output last."""
    gated: bool = True
    """Whether the MLP multiplies two projections of its input; they are one module where `mlp` has two names."""
    qkv_bias: bool | str = "attention_bias"
    out_bias: bool | str = "attention_bias"
    mlp_bias: bool | str = "mlp_bias"
    head_bias: bool = False
    norm: str = "rms"
    """rms, layer (with a bias), centered (a layer norm written out, without a bias) or bare (no weights at all)."""
    norms: int = 2
    """Norms of the width of the model, in a layer."""
    norms_after: int = 0
    """How many of them read what a block returns, not what goes into it."""
    head_norms: bool | str = False
    """Whether queries and keys are normalised for each head; a key of config.json may decide."""
    whole_norms: bool = False
    """Whether queries and keys are normalised over all heads at once."""
    exact_norm: bool = False
    """Whether a norm multiplies by its weights in fp32 before it casts."""
    parallel: bool = False
    """Whether attention and MLP read the same normalised input, and only the input is kept between layers."""
    activation: str = "silu"
    """Where config.json names none."""
    embedding: str = "embed_tokens"
    head: str = "lm_head"
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Keys that config.json may leave out, beside `tie_word_embeddings: false` and as many key heads as heads."""
    packs: bool = True
    """Whether its attention can be that of packed rows: it cannot where it caps scores."""
    adapted: tuple[str, ...] | None = None
    """What PEFT adapts unless told otherwise; all of the attention where it has no default."""


_QV = ("q_proj", "v_proj")
_TIED = {"tie_word_embeddings": True}
_GEMMA: dict[str, Any] = {
    "adapted": _QV,
    "mlp_bias": False,
    "exact_norm": True,
    "activation": "gelu_pytorch_tanh",
    "defaults": {**_TIED, "head_dim": 256, "hidden_activation": "gelu_pytorch_tanh"},
}
_NO_BIAS: dict[str, Any] = {"qkv_bias": False, "out_bias": False, "mlp_bias": False}

FAMILIES: dict[str, Family] = {
    "llama": Family(adapted=_QV),
    "mistral": Family(**_NO_BIAS, adapted=_QV),
    "qwen2": Family(qkv_bias=True, out_bias=False, mlp_bias=False, adapted=_QV),
    "qwen3": Family(mlp_bias=False, head_norms=True, adapted=_QV, defaults={"head_dim": 128}),
    "smollm3": Family(defaults=_TIED),
    "gemma": Family(**_GEMMA),
    "gemma2": Family(**_GEMMA, norms=4, packs=False),
    "gemma3_text": Family(**_GEMMA, norms=4, head_norms=True),
    "phi": Family(
        attention=("q_proj", "k_proj", "v_proj", "dense"),
        mlp=("fc1", "fc2"),
        gated=False,
        qkv_bias=True,
        out_bias=True,
        mlp_bias=True,
        head_bias=True,
        norm="layer",
        norms=1,
        parallel=True,
        activation="gelu_new",
        adapted=("q_proj", "v_proj", "fc1", "fc2"),
    ),
    "phi3": Family(
        attention=("qkv_proj", "o_proj"), mlp=("gate_up_proj", "down_proj"), **_NO_BIAS, adapted=("qkv_proj",)
    ),
    "stablelm": Family(qkv_bias="use_qkv_bias", out_bias=False, mlp_bias=False, norm="layer", adapted=_QV),
    "granite": Family(),
    "olmo": Family(mlp_bias=False, norm="bare"),
    "olmo2": Family(mlp_bias=False, whole_norms=True, exact_norm=True, norms_after=2),
    "olmo3": Family(mlp_bias=False, whole_norms=True, exact_norm=True, norms_after=2),
    "cohere": Family(mlp_bias=False, norm="centered", norms=1, parallel=True, defaults=_TIED),
    "cohere2": Family(mlp_bias=False, norm="centered", norms=1, parallel=True, defaults=_TIED),
    "starcoder2": Family(
        mlp=("c_fc", "c_proj"),
        gated=False,
        qkv_bias="use_bias",
        out_bias="use_bias",
        mlp_bias="use_bias",
        norm="layer",
        activation="gelu_pytorch_tanh",
        defaults={**_TIED, "use_bias": True},
    ),
    "gpt_neox": Family(
        attention=("query_key_value", "dense"),
        mlp=("dense_h_to_4h", "dense_4h_to_h"),
        gated=False,
        mlp_bias=True,
        norm="layer",
        parallel=True,
        activation="gelu",
        embedding="embed_in",
        head="lm_head",
        defaults={"attention_bias": True},
        adapted=("query_key_value",),
    ),
    "helium": Family(out_bias=False),
    "exaone4": Family(**_NO_BIAS, head_norms=True, norms_after=2),
    "seed_oss": Family(out_bias="attention_out_bias", defaults={"attention_bias": True, "head_dim": 128}),
    "arcee": Family(mlp=("up_proj", "down_proj"), gated=False, activation="relu2"),
    "ernie4_5": Family(
        qkv_bias="use_bias", out_bias="use_bias", mlp_bias="use_bias", defaults={**_TIED, "head_dim": 128}
    ),
    "glm": Family(out_bias=False, mlp=("gate_up_proj", "down_proj"), mlp_bias=False, defaults={"head_dim": 128}),
    "glm4": Family(
        out_bias=False,
        mlp=("gate_up_proj", "down_proj"),
        mlp_bias=False,
        norms=4,
        norms_after=2,
        defaults={"head_dim": 128},
    ),
}
"""By `model_type`."""
