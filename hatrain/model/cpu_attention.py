"""Attention on processors, block by block: some queries and the keys that they attend to. The blocks of a query are
weighted by the sums of their softmax; with the total's sums each block gives its part of the gradients."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

HIDDEN = -1e30
"""Added to the score of what a token must not see. Finite, so that a block in which a token sees nothing is no NaN."""

SMALL = 2**14
"""Scores of a head, up to which torch's flash kernel is faster than matrix products."""
CACHED = 2**19
"""Scores that are computed at a time: they stay in a core's cache."""
CHUNK = 64
"""Queries of a product, where that many fit."""


@dataclass(frozen=True, slots=True)
class Block:
    """Queries `start` to `end`, and the keys `key_start` to `key_end` that they attend to."""

    start: int
    end: int
    key_start: int
    key_end: int
    is_own: bool = False
    """Whether the keys are of the queries' own segment. Each query has one such block."""
    is_causal: bool = False
    """Whether queries and keys are the same tokens, and each attends to those before it."""
    bias: torch.Tensor | None = None
    """[queries, keys], added to the scores: 0 or HIDDEN, where not every query sees every key."""

    @property
    def queries(self) -> slice:
        return slice(self.start, self.end)

    @property
    def keys(self) -> slice:
        return slice(self.key_start, self.key_end)


class _Blocks(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, blocks: Sequence[Block], scale: float
    ) -> torch.Tensor:
        out = torch.empty_like(query)
        sums = query.new_empty(query.shape[:3], dtype=torch.float32)
        for block in sorted(blocks, key=lambda block: not block.is_own):
            own = block.queries
            part, part_sums = _kernel(query, block).forward(
                query[:, :, own], key[:, :, block.keys], value[:, :, block.keys], block, scale
            )
            if block.is_own:
                out[:, :, own], sums[:, :, own] = part, part_sums
                continue
            before = sums[:, :, own]
            total = torch.logaddexp(before, part_sums)
            earlier = out[:, :, own] * (before - total).exp()[..., None]
            out[:, :, own] = torch.addcmul(earlier, part, (part_sums - total).exp()[..., None].to(part.dtype))
            sums[:, :, own] = total
        ctx.save_for_backward(query, key, value, out, sums)
        ctx.blocks, ctx.scale = blocks, scale
        return out

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        query, key, value, out, sums = ctx.saved_tensors
        gradients = tuple(torch.zeros_like(tensor) for tensor in (query, key, value))
        for block in ctx.blocks:
            own, others = block.queries, block.keys
            parts = tuple(of[:, :, where] for of, where in zip(gradients, (own, others, others), strict=True))
            _kernel(query, block).backward(
                gradient[:, :, own],
                (query[:, :, own], key[:, :, others], value[:, :, others]),
                out[:, :, own],
                sums[:, :, own],
                block,
                ctx.scale,
                parts,
            )
        return *gradients, None, None


def attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, blocks: Sequence[Block], scale: float
) -> torch.Tensor:
    """Return attention `[1, heads, tokens, size]` of tensors of that shape."""
    out: torch.Tensor = _Blocks.apply(query, key, value, blocks, scale)
    return out


class _Flash:
    """torch's flash kernel."""

    @staticmethod
    def forward(
        query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, block: Block, scale: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the block's attention, and the logarithms of the sums of its softmax."""
        bias = None if block.bias is None else block.bias.to(query.dtype)
        kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        out, sums = kernel(query, key, value, 0.0, block.is_causal, attn_mask=bias, scale=scale)
        return out, sums

    @staticmethod
    def backward(
        gradient: torch.Tensor,
        inputs: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
        out: torch.Tensor,
        sums: torch.Tensor,
        block: Block,
        scale: float,
        gradients: tuple[torch.Tensor, ...],
    ) -> None:
        """Add the block's part to the gradients of its query, key and value. `out` and `sums` are of all blocks."""
        bias = None if block.bias is None else block.bias.to(out.dtype)
        kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
        parts = kernel(gradient, *inputs, out, sums, 0.0, block.is_causal, attn_mask=bias, scale=scale)
        for of, part in zip(gradients, parts, strict=True):
            of += part


class _Products:
    """Matrix products of some queries at a time, whose scores stay in the cache. In fp32, and without a bias."""

    @staticmethod
    def forward(
        query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, block: Block, scale: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        query, key, value = query[0] * scale, key[0], value[0]
        out = torch.empty_like(query)
        sums = query.new_empty(query.shape[:2])
        for own, seen in _chunks(query, key, block):
            weights, sums[:, own] = _softmax(query[:, own], key[:, seen], block)
            torch.bmm(weights, value[:, seen], out=out[:, own])
        return out[None], sums[None]

    @staticmethod
    def backward(
        gradient: torch.Tensor,
        inputs: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
        out: torch.Tensor,
        sums: torch.Tensor,
        block: Block,
        scale: float,
        gradients: tuple[torch.Tensor, ...],
    ) -> None:
        query, key, value = inputs[0][0] * scale, inputs[1][0], inputs[2][0]
        of_query, of_key, of_value = (of[0] for of in gradients)
        gradient, sums = gradient[0], sums[0]
        means = (gradient * out[0]).sum(-1, keepdim=True)
        for own, seen in _chunks(query, key, block):
            weights, own_sums = _softmax(query[:, own], key[:, seen], block)
            # They are of this block alone: weigh them by the block's share of all.
            share = (own_sums - sums[:, own]).exp()[..., None]
            own_gradient = gradient[:, own] * share
            of_weights = torch.bmm(own_gradient, value[:, seen].transpose(1, 2))
            of_scores = of_weights.sub_(means[:, own] * share).mul_(weights)
            of_value[:, seen].baddbmm_(weights.transpose(1, 2), own_gradient)
            of_query[:, own].baddbmm_(of_scores, key[:, seen], alpha=scale)
            of_key[:, seen].baddbmm_(of_scores.transpose(1, 2), query[:, own])


def _kernel(query: torch.Tensor, block: Block) -> type[_Flash] | type[_Products]:
    scores = (block.end - block.start) * (block.key_end - block.key_start)
    is_plain = query.dtype == torch.float32 and block.bias is None
    return _Products if is_plain and scores > SMALL else _Flash


def _chunks(query: torch.Tensor, key: torch.Tensor, block: Block) -> Iterator[tuple[slice, slice]]:
    """Yield queries of a block, and the keys that they see some of."""
    heads, queries, _ = query.shape
    size = min(CHUNK, max(16, CACHED // (heads * key.shape[1])))
    for start in range(0, queries, size):
        end = min(start + size, queries)
        yield slice(start, end), slice(0, end if block.is_causal else key.shape[1])


def _softmax(query: torch.Tensor, key: torch.Tensor, block: Block) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the weights `[heads, queries, keys]` of some queries, and the logarithms of their sums."""
    scores = torch.bmm(query, key.transpose(1, 2))
    if block.is_causal:
        queries = query.shape[1]
        scores[:, :, -queries:] += _later(queries)
    largest = scores.amax(-1)
    weights = torch.softmax(scores, -1, out=scores)  # which is faster than exp
    return weights, largest - weights.amax(-1).log()


@cache
def _later(queries: int) -> torch.Tensor:
    """[queries, queries], HIDDEN for the keys after each query. There are as many as CHUNK."""
    return torch.full((queries, queries), HIDDEN).triu(1)
