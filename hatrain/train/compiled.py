"""Compiling the layers of a model with torch.compile: fewer, larger kernels. Our attention stays as it is."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from peft import PeftModel
from transformers import AttentionInterface

from hatrain.model import attention


def compile_layers(model: Any, *, recomputes: bool) -> str | None:
    """Compile each layer of a model, for any number of tokens, when it is first called. `recomputes`: activations are
    recomputed in the backward pass. Returns why that is not possible, if it is not."""
    if recomputes:
        return "gradient_checkpointing is on, and torch compiles nothing that it recomputes"
    base: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    layers = getattr(base.base_model, "layers", None)
    if not isinstance(layers, torch.nn.ModuleList):
        return "its layers are not in one list"
    try:
        torch.compile(_probe)(next(base.parameters()).detach().flatten()[:8])
    except Exception as error:  # of torch, Triton or a C compiler
        return f"{type(error).__name__}: {(str(error).strip().splitlines() or ['no message'])[0]}"
    # Each pack brings tensors and numbers that a compiled graph would have to be made for.
    AttentionInterface.register(attention.NAME, torch.compiler.disable(attention.attention))
    for layer in layers:
        layer.compile(dynamic=True)
    return None


@contextlib.contextmanager
def without_compiled_layers(base: Any) -> Iterator[None]:
    """Run the layers of a model without adapters as they are written, for inputs that they were not compiled for."""
    layers = getattr(base.base_model, "layers", None) or []
    compiled = [layer._compiled_call_impl for layer in layers]
    try:
        for layer in layers:
            layer._compiled_call_impl = None
        yield
    finally:
        for layer, call in zip(layers, compiled, strict=True):
            layer._compiled_call_impl = call


def _probe(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.sin() + 1
