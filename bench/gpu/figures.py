"""Arithmetic of the measurements."""

from collections.abc import Iterable, Mapping
from typing import Any

PEAK_FLOPS = 989e12
"""Dense bf16 operations per second of an H100 SXM or H200, from NVIDIA's data sheets."""

FULL, LORA = 6, 4
"""Operations per weight and token: 2 forward, 2 for the gradients of activations, 2 for those of weights. With LoRA the
base's weights have none."""


def mfu(weights: int, tokens: int, seconds: float, *, factor: int = FULL, peak: float = PEAK_FLOPS) -> float:
    """The share of the GPU's peak that training uses: `factor` × weights × real tokens / seconds / peak. Attention is
    not counted, and neither is padding."""
    return factor * weights * tokens / seconds / peak


def busy(intervals: Iterable[tuple[float, float]]) -> float:
    """The time covered by (start, end) intervals. Kernels of several streams overlap, and count once."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(intervals):
        if end > reached:
            total += end - max(start, reached)
            reached = end
    return total


def distance(found: Mapping[str, Any], expected: Mapping[str, Any]) -> float:
    """‖found − expected‖ / ‖expected‖ over all tensors of two state dicts, in double precision. Raises ValueError when
    their names differ."""
    if found.keys() != expected.keys():
        raise ValueError(f"different tensors: {sorted(found.keys() ^ expected.keys())[:5]}")
    difference = sum(float((found[name].double() - expected[name].double()).pow(2).sum()) for name in expected)
    norm = sum(float(expected[name].double().pow(2).sum()) for name in expected)
    return float((difference / norm) ** 0.5) if norm else float(difference > 0)


def most_expensive(events: Iterable[tuple[str, float, float]], count: int) -> list[tuple[str, int, float, float]]:
    """(name, calls, seconds, share of all events' seconds) of the names that took the longest, from events as (name,
    start, end)."""
    calls: dict[str, int] = {}
    seconds: dict[str, float] = {}
    for name, start, end in events:
        calls[name] = calls.get(name, 0) + 1
        seconds[name] = seconds.get(name, 0.0) + end - start
    total = sum(seconds.values())
    longest = sorted(seconds, key=lambda name: -seconds[name])[:count]
    return [(name, calls[name], seconds[name], seconds[name] / total if total else 0.0) for name in longest]
