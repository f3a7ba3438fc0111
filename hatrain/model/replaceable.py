"""Whether a model's attention can be replaced by ours, so that tokens of several sequences go through it as one row."""

from typing import Any

import torch

PACKABLE = {"full_attention", "sliding_attention"}
"""Kinds of layers, by transformers' names, that see other tokens through attention alone."""
LONG_ROPE = {"longrope", "dynamic", "dynamic_ntk"}
"""Rotary embeddings that depend on the longest sequence of a micro-batch, beyond the original context."""
PREFIX, BRANCH = 24, 8
"""Tokens of the rows that a model is checked with."""
NOISE = 1e-3
"""Differences of log-probabilities below it are rounding."""


def why_not(base: Any, longest: int) -> str | None:
    """Return why the attention of a model without adapters must stay, for sequences of at most `longest` tokens; None
    if its configuration gives no reason."""
    config = base.config
    if config.get_text_config() is not config:
        return "it is more than a language model"
    if not base._can_set_attn_implementation():
        return "its attention cannot be replaced"
    if (own := config._attn_implementation) != "sdpa":
        return f"its attention is {own}: that of packed rows is sdpa's, without capped scores and sinks"
    if others := set(getattr(config, "layer_types", None) or ()) - PACKABLE:
        return f"it has layers of kind {', '.join(sorted(others))}, which carry one row into the next"
    rope = getattr(config, "rope_parameters", None) or {}
    # Some models have one for each kind of layer.
    for part in (rope, *(part for part in rope.values() if isinstance(part, dict))):
        original = part.get("original_max_position_embeddings") or _original_context(config)
        if part.get("rope_type") in LONG_ROPE and longest > original:
            return f"its rotary embeddings depend on the longest row, beyond {original} tokens"
    return None


def _original_context(config: Any) -> int:
    names = ("original_max_position_embeddings", "max_position_embeddings")
    return next((int(size) for name in names if (size := getattr(config, name, None))), 0)


def differs(found: torch.Tensor, expected: torch.Tensor, tolerated: torch.Tensor) -> bool:
    """Whether two vectors differ by more than is tolerated, and by more than rounding."""
    error, most = (part.square().mean().sqrt() for part in (found - expected, tolerated))
    return not error <= max(NOISE, float(most))


def named(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
