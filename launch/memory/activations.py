"""Bytes that one token leaves in a layer between the forward and the backward pass: what autograd keeps, operation by
operation, under autocast. tests/launch/test_memory_activations.py traces every family."""

from collections.abc import Sequence
from dataclasses import dataclass

from hatrain.contract.spec import LoraSpec
from launch.memory.families import Family
from launch.memory.structure import Linear, Structure, adapters

FP32 = 4
BYTES = {"bf16": 2, "fp16": 2, "fp32": 4}
WRITTEN_OUT = ("gelu_new",)
"""Activations that are computed step by step, so that each step is kept."""


@dataclass(frozen=True)
class Dtypes:
    """Bytes of a number in matrix products, and whether all weights are trained: then they and what is between the
    layers are fp32, because autocast leaves embeddings so."""

    product: int
    trains_base: bool

    @property
    def casts(self) -> bool:
        """Whether each product casts its own copy of its input."""
        return self.product != FP32


@dataclass(frozen=True)
class Kept:
    """Bytes that one token leaves in a layer."""

    before: int
    """In norms and attention."""
    mlp: int
    """In the MLP. The trainer runs that of the last layer where something is predicted only."""

    @property
    def layer(self) -> int:
        return self.before + self.mlp


def kept(model: Structure, lora: LoraSpec | None, dtype: str, *, padded_to: int = 0) -> Kept:
    """What one token leaves in a layer. Rows that are padded, to so many tokens, need a mask: the attention then
    repeats keys and values for every head, and each layer has its own copy of the mask."""
    kinds = Dtypes(BYTES[dtype], lora is None)
    adapted = adapters(model, lora) if lora else None
    masked = kinds.product * (2 * (model.queries - model.keys) + padded_to) if padded_to else 0
    trained = model.linears if adapted is None else adapted.modules
    of_attention, of_mlp = ([m for m in trained if m.group == group] for group in ("attention", "mlp"))
    before = _norms(model, kinds) + _inputs(model, kinds, of_attention, lora) + _attention(model, kinds) + masked
    inputs = _inputs(model, kinds, of_mlp, lora)
    if model.family.parallel and model.family.norms == 1 and not _is_copied(kinds, lora):
        inputs -= FP32 * model.width * (_reads(model, of_attention) and _reads(model, of_mlp))  # the same
    return Kept(before, inputs + _between(model, kinds))


def _norms(model: Structure, kinds: Dtypes) -> int:
    """The norms of the width of the model, their inputs included, and those of queries and keys."""
    family, width = model.family, model.width
    after = _norm(family, width, kinds, of_product=True)
    own = family.norms_after * after + (family.norms - family.norms_after) * _norm(family, width, kinds)
    if family.parallel and family.norms == 2 and (kinds.trains_base or not kinds.casts):
        own -= FP32 * width  # both read the same
    if model.head_norms or family.whole_norms:
        own += _norm(family, model.queries + model.keys, kinds, of_product=True)
        own += FP32 * (model.heads + model.key_heads - 1 if model.head_norms else 1)
    return own


def _norm(family: Family, width: int, kinds: Dtypes, *, of_product: bool = False) -> int:
    """Its input in fp32, a number or two for each token, and what its weights multiply, where they are trained.
    `of_product`: its input comes from a matrix product."""
    match family.norm:
        case "layer" | "bare":
            return FP32 * width + 2 * FP32
        case "centered":
            own = 2 * FP32 * width + FP32
        case _:
            own = FP32 * width + FP32
    multiplied = kinds.product if of_product and not family.exact_norm else FP32
    return own + (multiplied * width if kinds.trains_base else 0)


def _inputs(model: Structure, kinds: Dtypes, trained: Sequence[Linear], lora: LoraSpec | None) -> int:
    """The inputs of linear modules of one block, attention or MLP, whose weights or adapters are trained. What the
    attention gives to its output is counted there, unless it is copied."""
    own = lora.rank * kinds.product * len(trained) if lora else 0
    if lora and lora.dropout > 0:
        own += sum(module.inputs for module in trained)
    attention, down = _output(model, "attention"), _output(model, "mlp")
    if _is_copied(kinds, lora):
        return own + sum(kinds.product * module.inputs for module in trained if lora or module != attention)
    return own + FP32 * (model.width * _reads(model, trained) + (down.inputs if down in trained else 0))


def _reads(model: Structure, trained: Sequence[Linear]) -> bool:
    """Whether one of the modules reads what goes into its block."""
    return any(module != _output(model, module.group) for module in trained)


def _is_copied(kinds: Dtypes, lora: LoraSpec | None) -> bool:
    """Whether each module has a copy of its input: one that autocast or dropout makes."""
    return kinds.casts or (lora is not None and lora.dropout > 0)


def _output(model: Structure, group: str) -> Linear:
    return [module for module in model.linears if module.group == group][-1]


def _attention(model: Structure, kinds: Dtypes) -> int:
    """Queries, keys, values, the result, and a number for each query of each head."""
    queries, keys = model.queries, model.keys
    fused = len(model.family.attention) == 2
    values = queries + 2 * keys if fused else keys
    return kinds.product * (2 * queries + keys + values) + FP32 * model.heads


def _between(model: Structure, kinds: Dtypes) -> int:
    """What the MLP keeps between its products."""
    inner = model.inner
    if model.activation in WRITTEN_OUT:
        return (FP32 + FP32 + kinds.product + FP32) * inner
    if model.activation == "relu2":
        return kinds.product * inner
    return (3 if model.family.gated else 1) * kinds.product * inner
