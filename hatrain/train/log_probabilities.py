"""Log-probabilities of a batch's labels, computed inside the model's own forward pass: DDP, FSDP2, ZeRO-3, autocast and
adapters work as they do for logits. The last layer's MLP and the output head run at the labels' positions only."""

import functools
import types
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from peft import PeftModel
from torch.utils.checkpoint import checkpoint

from hatrain.model.attention import PackLayout, packed

LOGIT_BYTES = 2**29
"""Bytes of fp32 logits at a time. Beyond that they are computed in chunks, and again in the backward pass."""


def add_log_probabilities(model: Any) -> None:
    """Let `model(…, positions=…, targets=…, pack=…)` return the log-probabilities of targets, `[labels]`, in fp32.

    `positions` count through the flattened `input_ids`, in ascending order; `pack` is the layout of packed sequences,
    or None. Call it before the model is wrapped for training. Other calls are the model's own.
    """
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    original = base.forward
    only_used = OnlyUsed.of_last_mlp(base)
    base._reads_whole_logits = False

    @functools.wraps(type(base).forward)
    def forward(
        self: Any,
        *args: Any,
        positions: torch.Tensor | None = None,
        targets: torch.Tensor | None = None,
        pack: PackLayout | None = None,
        **kwargs: Any,
    ) -> Any:
        only_used.positions = None
        if positions is None or targets is None:
            return original(*args, **kwargs)
        with packed(pack):
            if self._reads_whole_logits:
                logits = original(*args, use_cache=False, **kwargs).logits.flatten(0, 1)[positions]
                return -F.cross_entropy(logits.float(), targets, reduction="none")
            only_used.positions = torch.unique_consecutive(positions)
            hidden = self.base_model(*args, use_cache=False, **kwargs).last_hidden_state
        hidden = hidden.flatten(0, 1)[positions]
        # The head is called as a module: PEFT, FSDP2 and ZeRO-3 replace it, or gather its weights in a hook.
        head = functools.partial(_head, self.get_output_embeddings(), _softcap(self.config))
        chunk = max(1, LOGIT_BYTES // (4 * self.config.get_text_config().vocab_size))
        if len(positions) <= chunk:
            return head(hidden, targets)
        parts = zip(hidden.split(chunk), targets.split(chunk), strict=True)
        return torch.cat([checkpoint(head, *part, use_reentrant=False) for part in parts])

    base.forward = types.MethodType(forward, base)


def read_whole_logits(model: Any) -> None:
    """Let a model compute the logits of every position in its own way: its head is not only one module."""
    for module in model.modules():
        if hasattr(module, "_reads_whole_logits"):
            module._reads_whole_logits = True


class OnlyUsed:
    """Hooks that run a module, which treats each token alone, at some positions, and leave zeros at the others."""

    def __init__(self) -> None:
        self.positions: torch.Tensor | None = None
        """In the flattened tokens; None for all. They stay until the next forward pass, for layers that are computed
        again in the backward pass."""

    @classmethod
    def of_last_mlp(cls, model: Any) -> "OnlyUsed":
        """Hook the MLP of the last layer: what it adds where nothing is predicted is never read."""
        hooks = cls()
        layers = getattr(model.base_model, "layers", None)
        mlp = getattr(layers[-1], "mlp", None) if layers else None
        if isinstance(mlp, torch.nn.Module):
            mlp.register_forward_pre_hook(hooks.before)
            mlp.register_forward_hook(hooks.after)
        return hooks

    def before(self, module: torch.nn.Module, args: tuple[Any, ...]) -> Any:
        if self.positions is None:
            return None
        hidden, *others = args
        self.shape = hidden.shape[:-1]
        return (hidden.flatten(0, 1)[self.positions][None], *others)

    def after(self, module: torch.nn.Module, args: tuple[Any, ...], out: torch.Tensor) -> torch.Tensor | None:
        if self.positions is None:
            return None
        whole = out.new_zeros(self.shape.numel(), out.shape[-1])
        return whole.index_copy(0, self.positions, out[0]).view(*self.shape, -1)


def _softcap(config: Any) -> float | None:
    return getattr(config.get_text_config(), "final_logit_softcapping", None)


def _head(head: torch.nn.Module, softcap: float | None, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    logits = head(hidden)
    if softcap:
        logits = torch.tanh(logits / softcap) * softcap
    return -F.cross_entropy(logits.float(), targets, reduction="none")
