"""Attention of packs on NVIDIA GPUs, by the flash kernels that torch brings: each segment is a sequence of its own,
with the keys of its ancestors and its own. Nothing is compiled, whatever the shapes."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch

from hatrain.data.packs import Segment, tokens_up_to

LARGEST_SIZE = 256
"""Of a head, that the kernels know."""
OLDEST = (8, 0)
"""The compute capability that they need."""


@dataclass(frozen=True, slots=True, eq=False)
class Paths:
    """The queries and the keys of each segment, as the kernels want them."""

    keys: torch.Tensor | None
    """[keys], where the keys of all segments are in the pack; None if each segment has only its own."""
    query_ends: torch.Tensor
    """[segments + 1], int32: where the queries of each segment end, after a 0"""
    key_ends: torch.Tensor
    """[segments + 1], int32: where the keys of each segment end among `keys`, after a 0"""
    most_queries: int
    most_keys: int


def paths_of(segments: Sequence[Segment], device: torch.device) -> Paths:
    """Return the paths of a pack's segments. A segment's last query sees all of its keys."""
    keys = [tokens_up_to(segments, number) for number in range(len(segments))]
    queries = [s.end - s.start for s in segments]
    lengths = [len(part) for part in keys]
    return Paths(
        torch.from_numpy(np.concatenate(keys)).to(device) if lengths != queries else None,
        _ends(queries, device),
        _ends(lengths, device),
        max(queries),
        max(lengths),
    )


def _ends(lengths: Sequence[int], device: torch.device) -> torch.Tensor:
    return torch.tensor([0, *lengths]).cumsum(0).to(torch.int32).to(device)


def fits(query: torch.Tensor, value: torch.Tensor) -> bool:
    """Whether the kernels know such tensors."""
    size = query.shape[-1]
    return (
        query.dtype in (torch.bfloat16, torch.float16)
        and size == value.shape[-1]
        and size % 8 == 0
        and size <= LARGEST_SIZE
        and _has_kernels(query.device)
    )


@cache
def _has_kernels(device: torch.device) -> bool:
    return torch.version.cuda is not None and torch.cuda.get_device_capability(device) >= OLDEST


def attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, paths: Paths, scale: float, window: int | None
) -> torch.Tensor:
    """Return attention `[1, heads, tokens, size]` of tensors of that shape; keys and values may have fewer heads."""
    out: torch.Tensor = _Flash.apply(*(of[0].transpose(0, 1) for of in (query, key, value)), paths, scale, window)
    return out.transpose(0, 1)[None]


class _Flash(torch.autograd.Function):
    """Of tensors `[tokens, heads, size]`. What was gathered is not kept for the backward pass."""

    @staticmethod
    def forward(
        ctx: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        paths: Paths,
        scale: float,
        window: int | None,
    ) -> torch.Tensor:
        out, sums, state, unused, _ = torch.ops.aten._flash_attention_forward(
            query, *_gathered(key, value, paths), *_lengths(paths), 0.0, window is None, False, **_reach(scale, window)
        )
        ctx.save_for_backward(query, key, value, out, sums, state, unused)
        ctx.paths, ctx.scale, ctx.window = paths, scale, window
        return out

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        query, key, value, out, sums, state, unused = ctx.saved_tensors
        paths, window = ctx.paths, ctx.window
        inputs = (gradient.contiguous(), query, *_gathered(key, value, paths), out, sums, *_lengths(paths))
        of_query, *others = torch.ops.aten._flash_attention_backward(
            *inputs, 0.0, window is None, state, unused, **_reach(ctx.scale, window)
        )
        if paths.keys is not None:
            # Summed in fp32: a prefix has a part from each row.
            others = [
                torch.zeros(of.shape, dtype=torch.float32, device=of.device)
                .index_add_(0, paths.keys, part.float())
                .to(of.dtype)
                for of, part in zip((key, value), others, strict=True)
            ]
        return of_query, *others, None, None, None


def _gathered(key: torch.Tensor, value: torch.Tensor, paths: Paths) -> tuple[torch.Tensor, torch.Tensor]:
    return (key, value) if paths.keys is None else (key[paths.keys], value[paths.keys])


def _lengths(paths: Paths) -> tuple[torch.Tensor, torch.Tensor, int, int]:
    return paths.query_ends, paths.key_ends, paths.most_queries, paths.most_keys


def _reach(scale: float, window: int | None) -> dict[str, Any]:
    """The kernels count the positions before a query's own."""
    return {"scale": scale, **({} if window is None else {"window_size_left": window - 1, "window_size_right": 0})}
