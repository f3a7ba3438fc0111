"""The shapes of a language model, read from its config.json: exact counts of weights and adapters, without torch."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hatrain.contract.spec import JobSpec, LoraSpec
from launch.memory.families import FAMILIES, Family


class NotKnown(ValueError):
    """A configuration whose memory cannot be predicted; the message says which key, and what is known."""


@dataclass(frozen=True)
class Linear:
    """A linear module of every layer."""

    name: str
    group: str
    """attention or mlp"""
    inputs: int
    outputs: int
    bias: bool

    @property
    def weights(self) -> int:
        return self.inputs * self.outputs


@dataclass(frozen=True)
class Structure:
    """A language model. Sizes are numbers of elements."""

    kind: str
    """model_type"""
    family: Family
    vocabulary: int
    width: int
    layers: int
    heads: int
    key_heads: int
    head_size: int
    inner: int
    """Width of the MLP."""
    activation: str
    tied: bool
    head_norms: bool
    linears: tuple[Linear, ...]
    norm_weights: int
    """Of one layer."""
    quantized_bits: int | None = None
    """Of a base that is saved quantised."""
    group_size: int = 128
    """Weights that share a scale in a base that is saved quantised."""
    packs_to: float = math.inf
    """Tokens up to which its rows can be packed: 0 where its attention cannot be replaced."""

    @property
    def queries(self) -> int:
        return self.heads * self.head_size

    @property
    def keys(self) -> int:
        return self.key_heads * self.head_size

    @property
    def layer(self) -> int:
        """Weights of one layer."""
        return sum(m.weights + m.outputs * m.bias for m in self.linears) + self.norm_weights

    @property
    def final_norm(self) -> int:
        return self.width * _PER_NORM[self.family.norm]

    @property
    def embedding(self) -> int:
        return self.vocabulary * self.width

    @property
    def head(self) -> int:
        """Weights of the output head beside the embedding: none where they are tied."""
        return (0 if self.tied else self.embedding) + (self.vocabulary if self.family.head_bias else 0)

    @property
    def weights(self) -> int:
        """All weights."""
        return self.layers * self.layer + self.embedding + self.head + self.final_norm

    @property
    def linear_weights(self) -> int:
        """The matrices of all layers, which quantisation makes smaller."""
        return self.layers * sum(module.weights for module in self.linears)


_PER_NORM = {"rms": 1, "layer": 2, "centered": 1, "bare": 0}
"""Weights of a norm, for each element of its width."""


def structure(config: Mapping[str, Any]) -> Structure:
    """Read a config.json. Raises NotKnown for a family that is not in the table, or a size that is missing."""
    is_part = config.get("model_type") == "gemma3"
    config = config.get("text_config", {}) if is_part else config
    kind = str(config.get("model_type"))
    family = FAMILIES.get(kind)
    if family is None:
        raise NotKnown(f"model_type {kind} is not one whose memory is known: {', '.join(FAMILIES)}")
    values = {"tie_word_embeddings": False, **family.defaults, **{k: v for k, v in config.items() if v is not None}}

    def size(key: str) -> int:
        value = values.get(key)
        if not isinstance(value, int) or value < 1:
            raise NotKnown(f"config.json has no usable {key}: found {value!r}")
        return value

    def flag(value: bool | str) -> bool:
        return value if isinstance(value, bool) else bool(values.get(value, False))

    width, heads, inner = size("hidden_size"), size("num_attention_heads"), size("intermediate_size")
    key_heads = size("num_key_value_heads") if "num_key_value_heads" in values else heads
    head_size = size("head_dim") if "head_dim" in values else width // heads
    queries, keys = heads * head_size, key_heads * head_size
    *ins, out = family.attention
    sizes = [queries, keys, keys] if len(ins) == 3 else [queries + 2 * keys]
    qkv, ob, mb = flag(family.qkv_bias), flag(family.out_bias), flag(family.mlp_bias)
    *ups, down = family.mlp
    up_size = 2 * inner if family.gated and len(ups) == 1 else inner
    linears = (
        *(Linear(name, "attention", width, outputs, qkv) for name, outputs in zip(ins, sizes, strict=True)),
        Linear(out, "attention", queries, width, ob),
        *(Linear(name, "mlp", width, up_size, mb) for name in ups),
        Linear(down, "mlp", inner, width, mb),
    )
    head_norms = flag(family.head_norms)
    norms = family.norms * width * _PER_NORM[family.norm]
    norms += 2 * head_size if head_norms else 0
    norms += queries + keys if family.whole_norms else 0
    quantization = values.get("quantization_config") or {}
    return Structure(
        kind=kind,
        family=family,
        vocabulary=size("vocab_size"),
        width=width,
        layers=size("num_hidden_layers"),
        heads=heads,
        key_heads=key_heads,
        head_size=head_size,
        inner=inner,
        activation=str(values.get("hidden_activation") or values.get("hidden_act") or family.activation),
        tied=bool(values["tie_word_embeddings"]),
        head_norms=head_norms,
        linears=linears,
        norm_weights=norms,
        quantized_bits=quantization.get("bits"),
        group_size=quantization.get("group_size") or 128,
        packs_to=0 if is_part or not family.packs else _rope_length(values),
    )


LONG_ROPE = ("longrope", "su", "dynamic", "dynamic_ntk")
"""Rotary embeddings that depend on the longest row beyond the original context, as in hatrain/train/packing.py."""


def _rope_length(values: Mapping[str, Any]) -> float:
    """Tokens of a row up to which its rotary embeddings do not depend on other rows."""
    rope = values.get("rope_parameters") or values.get("rope_scaling") or {}
    kinds = [part.get("rope_type") or part.get("type") for part in (rope, *rope.values()) if isinstance(part, dict)]
    if not any(kind in LONG_ROPE for kind in kinds):
        return math.inf
    places = (rope, values, values)
    names = ("original_max_position_embeddings", "original_max_position_embeddings", "max_position_embeddings")
    return next((float(place[name]) for place, name in zip(places, names, strict=True) if place.get(name)), 0.0)


# --- adapters -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Adapters:
    """What LoRA trains."""

    modules: tuple[Linear, ...]
    """The modules of every layer that get an adapter."""
    layer: int
    """Weights of the adapters of one layer."""
    ends: int
    """Weights of adapters on the embedding and the head."""
    saved: int
    """Weights of the copies of modules that are trained whole."""
    saved_ends: tuple[str, ...]
    """Which of embedding and head are trained whole."""
    row_ends: tuple[str, ...] = ()
    """Of which of embedding and head the rows of new tokens are trained."""
    rows: int = 0
    """Weights of those rows."""

    def weights(self, layers: int) -> int:
        return self.layer * layers + self.ends + self.saved + self.rows


NEW_TOKENS = 2
"""ChatML's, as in hatrain/model/tokenizer.py. A new pad token is not trained."""


def adapters(model: Structure, lora: LoraSpec, *, new_tokens: bool = False) -> Adapters:
    """Count what an adapter adds, as PEFT would build it. With `new_tokens` their rows are trained, in what of the ends
    is not trained whole. Raises NotKnown for a module that the model lacks."""
    family = model.family
    ends = {family.embedding: (model.vocabulary, model.width), family.head: (model.width, model.vocabulary)}
    saved = _names(model, lora.modules_to_save or ())
    default = family.adapted or [module.name for module in model.linears if module.group == "attention"]
    targets = [name for name in _names(model, lora.modules or default) if name not in saved]
    known = {module.name for module in model.linears} | ends.keys()
    if others := [name for name in (*targets, *saved) if name not in known]:
        raise NotKnown(f"{others[0]} is not a module of {model.kind} whose size is known: {', '.join(sorted(known))}")
    modules = tuple(module for module in model.linears if module.name in targets)
    adapted_ends = sum(lora.rank * sum(ends[name]) for name in ends if name in targets)
    whole_ends = tuple(name for name in ends if name in saved)
    untied = not model.tied or any(name in targets for name in ends)
    copies = len(whole_ends) if untied else min(1, len(whole_ends))
    whole = copies * model.embedding + (model.vocabulary if family.head_bias and family.head in whole_ends else 0)
    whole += sum((m.weights + m.outputs * m.bias) * model.layers for m in model.linears if m.name in saved)
    layer = sum(lora.rank * (module.inputs + module.outputs) for module in modules)
    by_row = tuple(name for name in ends if name not in whole_ends) if new_tokens and (untied or not whole_ends) else ()
    rows = NEW_TOKENS * model.width * (len(by_row) if untied else min(1, len(by_row)))
    return Adapters(modules, layer, adapted_ends, whole, whole_ends, by_row, rows)


def adapters_of(model: Structure, job: JobSpec) -> Adapters | None:
    """What the adapters of a job add; None without adapters."""
    lora = job.method.lora
    return adapters(model, lora, new_tokens=job.model.add_chatml_tokens) if lora else None


def trained_weights(model: Structure, job: JobSpec) -> int:
    """The weights that a job trains: of its adapters, or all."""
    adapted = adapters_of(model, job)
    return adapted.weights(model.layers) if adapted else model.weights


def _names(model: Structure, wanted: Sequence[str]) -> list[str]:
    """Replace mlp, attention and embeddings by the names of their modules."""
    groups = {
        "mlp": [module.name for module in model.linears if module.group == "mlp"],
        "attention": [module.name for module in model.linears if module.group == "attention"],
        "embeddings": [model.family.embedding, model.family.head],
    }
    return list(dict.fromkeys(name for item in wanted for name in groups.get(item, [item])))


def quantized_bytes(model: Structure, kind: str, *, double: bool = True) -> int:
    """Bytes of the layers' matrices in a quantised base, with scales: bitsandbytes' 8bit (a scale for each row) and
    4bit (a scale for each 64 weights, itself in 8 bits with `double`), or a GPTQ base as it is saved."""
    matrices = [module for module in model.linears for _ in range(model.layers)]
    if kind == "8bit":
        return sum(m.weights + 4 * m.outputs for m in matrices)
    if kind == "4bit":
        return sum(_four_bit(m.weights, double) for m in matrices)
    bits = model.quantized_bits or 4
    return sum(
        m.weights * bits // 8
        + math.ceil(math.ceil(m.inputs / _group(model, m)) * m.outputs * (2 + bits / 8))
        + 4 * m.inputs
        for m in matrices
    )


def _group(model: Structure, module: Linear) -> int:
    return model.group_size if model.group_size > 0 else module.inputs


def _four_bit(weights: int, double: bool) -> int:
    """Blocks of 64 weights; the scales of 256 blocks share one, and both have a table of 16 and 256 numbers."""
    blocks = math.ceil(weights / 64)
    packed = math.ceil(weights / 2) + 16 * 4
    return packed + (blocks + 4 * math.ceil(blocks / 256) + 256 * 4 + 4 if double else 4 * blocks)
