"""Attention of tokens of several sequences in one row to the keys and values that are stored of each, as an
implementation for transformers. Nothing is padded but the scores of rows with few tokens.

A row's key of position p is stored at place p. So keys that a row need not see are later ones, and are overwritten.
"""

import contextlib
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from hatrain.model.attention import NotReached, same_dtype, window_of

NAME = "hatrain_stored"
"""The implementation's name in transformers."""
SHORT = 8
"""Tokens of a row, up to which rows attend together, padded to the longest of them."""
SPARSE = 3
"""One row in so many, below which the keys of rows are copied to stand together."""


class Store:
    """Keys and values of some rows, of each layer: `[heads, rows, places, size]`."""

    def __init__(self, rows: int, places: int):
        self.rows, self.places = rows, places
        self.layers: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    @property
    def bytes(self) -> int:
        return sum(of.numel() * of.element_size() for pair in self.layers.values() for of in pair)

    def of_layer(self, layer: int, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the keys and values of a layer, zeros at first. `key` and `value` are `[1, heads, tokens, size]`."""
        if layer not in self.layers:
            # Hidden places must hold numbers: nothing times NaN is NaN.
            key, value = (of.new_zeros(of.shape[1], self.rows, self.places, of.shape[3]) for of in (key, value))
            self.layers[layer] = key, value
        return self.layers[layer]

    def take(self, row: int, other: "Store", of_row: int, places: int) -> None:
        """Copy the first places of a row of another store, or of this one."""
        for layer, pair in other.layers.items():
            own = self.of_layer(layer, *(of[None, :, 0] for of in pair))
            for to, of in zip(own, pair, strict=True):
                to[:, row, :places] = of[:, of_row, :places]

    def keep(self, rows: int) -> None:
        """Drop the rows after the first so many, and give their memory back."""
        self.rows = rows
        self.layers = {
            layer: (key[:, :rows].clone(), value[:, :rows].clone()) for layer, (key, value) in self.layers.items()
        }


@dataclass(frozen=True, slots=True)
class Part:
    """Consecutive tokens of a row in a forward pass."""

    row: int
    start: int
    """Position of the first; those before it are stored."""
    tokens: int

    @property
    def end(self) -> int:
        return self.start + self.tokens


class Parts:
    """What attention needs to know of the tokens that belong to the rows of one store."""

    def __init__(self, store: Store, first: int, parts: Sequence[Part], device: torch.device):
        self.store, self.first, self.device = store, first, device
        self.tokens = sum(part.tokens for part in parts)
        self.rows = torch.tensor([part.row for part in parts for _ in range(part.tokens)], device=device)
        positions = [position for part in parts for position in range(part.start, part.end)]
        self.positions = torch.tensor(positions, device=device)
        starts, at = [], first
        for part in parts:
            starts.append(at)
            at += part.tokens
        self.long = [(part, at) for part, at in zip(parts, starts, strict=True) if part.tokens > SHORT]
        self.short = [(part, at) for part, at in zip(parts, starts, strict=True) if part.tokens <= SHORT]
        self.end = max((part.end for part, _ in self.short), default=0)
        self.width = max((part.tokens for part, _ in self.short), default=0)
        if self.short:
            self._lay_out()
        self.bias = cache(self._bias)

    @property
    def slice(self) -> slice:
        return slice(self.first, self.first + self.tokens)

    def _lay_out(self) -> None:
        """Where the short parts are in the forward pass, `[rows, width]`, and back."""
        rows = sorted({part.row for part, _ in self.short})
        first, count = rows[0], rows[-1] + 1 - rows[0]
        # Keys of rows that stand far apart are copied: else all those between would be read.
        self.of_rows: slice | torch.Tensor = slice(first, first + count)
        line = {row: row - first for row in rows}
        if SPARSE * len(rows) <= count:
            self.of_rows, count = torch.tensor(rows, device=self.device), len(rows)
            line = {row: number for number, row in enumerate(rows)}
        at = [[0] * self.width for _ in range(count)]
        seen = [[0] * self.width for _ in range(count)]
        places, tokens = [], []
        for part, start in self.short:
            for number in range(part.tokens):
                at[line[part.row]][number], seen[line[part.row]][number] = start + number, part.start + number
                places.append(line[part.row] * self.width + number)
                tokens.append(start + number)
        self.at, self.seen = torch.tensor(at, device=self.device), torch.tensor(seen, device=self.device)
        self.filled, self.of_tokens = (torch.tensor(of, device=self.device) for of in (places, tokens))

    def _bias(self, window: int | None, groups: int, dtype: torch.dtype) -> torch.Tensor:
        """Return `[rows, 1, groups × width, places]`, added to the scores of the short parts."""
        places = torch.arange(self.end, device=self.device)
        visible = _visible(self.seen[..., None], places, window)
        bias = torch.zeros(visible.shape, dtype=dtype, device=self.device).masked_fill_(~visible, float("-inf"))
        return bias.repeat(1, groups, 1)[:, None]


def _visible(queries: torch.Tensor, keys: torch.Tensor, window: int | None) -> torch.Tensor:
    visible = keys <= queries
    return visible if window is None else visible & (queries - keys < window)


@dataclass(frozen=True, slots=True)
class _Mask:
    """What a layer gets in place of a mask."""

    of_stores: Sequence[Parts]
    window: int | None


_current: ContextVar[Sequence[Parts] | None] = ContextVar("stored", default=None)


@contextlib.contextmanager
def stored(of_stores: Sequence[Parts]) -> Iterator[None]:
    """Let models in this context attend to what is stored, and store the keys and values of their tokens."""
    token = _current.set(of_stores)
    try:
        yield
    finally:
        _current.reset(token)


@contextlib.contextmanager
def replaced(base: Any) -> Iterator[bool]:
    """Give a model without adapters this attention, and its own back. Yields whether the model took it."""
    own = base.config._attn_implementation
    base.set_attn_implementation(NAME)
    try:
        yield base.config._attn_implementation == NAME
    finally:
        base.set_attn_implementation(own)


def mask(*args: Any, **kwargs: Any) -> Any:
    """transformers' interface for masks."""
    of_stores = _current.get()
    if of_stores is None:
        return sdpa_mask(*args, **kwargs)
    return _Mask(of_stores, window_of(kwargs["mask_function"], kwargs["config"].get_text_config()))


def attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: Any,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """transformers' interface for attention: `query` is `[1, heads, tokens, size]`, and what is returned is
    `[1, tokens, heads, size]`."""
    if not isinstance(attention_mask, _Mask):
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    if kwargs.get("softcap") is not None:
        raise NotReached("attention with capped scores")
    layer: Any = module.layer_idx
    query, key, value = same_dtype(query, key, value)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    out = query.new_empty(query.shape[2], query.shape[1], value.shape[-1])
    for parts in attention_mask.of_stores:
        keys, values = parts.store.of_layer(layer, key, value)
        keys[:, parts.rows, parts.positions] = key[0, :, parts.slice]
        values[:, parts.rows, parts.positions] = value[0, :, parts.slice]
        for part, at in parts.long:
            own = slice(at, at + part.tokens)
            of_row = [of[None, :, part.row, : part.end] for of in (keys, values)]
            out[own] = _one(query[:, :, own], *of_row, start=part.start, scale=scale, window=attention_mask.window)
        if parts.short:
            out[parts.of_tokens] = _together(query[0], keys, values, parts, scale, attention_mask.window)
    return out[None], None


def _one(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *, start: int, scale: float, window: int | None
) -> torch.Tensor:
    """Return `[tokens, heads, size]`, for the last tokens of a row, from position `start` on."""
    end = key.shape[2]
    is_plain = window is None or end <= window
    visible = None
    if start or not is_plain:
        places = torch.arange(end, device=query.device)
        visible = _visible(places[start:, None], places, window)
    out = F.scaled_dot_product_attention(
        query, key, value, visible, is_causal=visible is None, scale=scale, enable_gqa=query.shape[1] != key.shape[1]
    )
    return out[0].transpose(0, 1)


def _together(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, parts: Parts, scale: float, window: int | None
) -> torch.Tensor:
    """Return `[tokens, heads, size]` of the short parts. Heads that share their keys are queries beside each other."""
    heads, size = query.shape[0], query.shape[2]
    shared = keys.shape[0]
    groups, (rows, width) = heads // shared, parts.at.shape
    padded = query[:, parts.at].view(shared, groups, rows, width, size).permute(2, 0, 1, 3, 4)
    out = F.scaled_dot_product_attention(
        padded.reshape(rows, shared, groups * width, size),
        keys[:, parts.of_rows, : parts.end].transpose(0, 1),
        values[:, parts.of_rows, : parts.end].transpose(0, 1),
        parts.bias(window, groups, query.dtype),
        scale=scale,
    )
    out = out.view(rows, shared, groups, width, -1).permute(0, 3, 1, 2, 4).reshape(rows * width, heads, -1)
    return out[parts.filled]


AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, mask)
