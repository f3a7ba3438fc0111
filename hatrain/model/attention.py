"""Attention of packed sequences, as an implementation for transformers: each token attends to its own sequence. Without
a pack it is transformers' sdpa.

A model gets it by name. The pack comes through `packed`, is handed to the layers as their attention mask, and so also
reaches layers that are computed again in the backward pass.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from hatrain.data.packs import Segment, tokens_up_to
from hatrain.model import cpu_attention, cuda_attention
from hatrain.model.cpu_attention import HIDDEN, Block

NAME = "hatrain_packed"
"""The implementation's name in transformers."""
FLEX_BLOCK = 128
"""Tokens of a block of flex_attention's masks."""
FLEX_VARIANTS = 64
"""Of flex_attention that a process may compile."""
PAIRS = 2**24
"""Of a query and a key, that are looked at at a time to make such a mask."""


class NotReached(Exception):
    """A layer asks for something else than causal attention within a window."""


class PackLayout:
    """What attention needs to know of a pack."""

    def __init__(self, segments: tuple[Segment, ...], used: torch.Tensor):
        self.segments = segments
        self.used = used
        """Where something is predicted, in ascending order: what the last layer makes of other tokens is never read."""
        self.positions = torch.cat([torch.arange(s.position, s.position + s.end - s.start) for s in segments])
        """[tokens], the position of each token in its sequences"""
        self.reaches = torch.cat([torch.full((s.end - s.start,), s.reach) for s in segments])
        """[tokens], where the tokens end that may attend to each"""
        self.blocks = cache(self._blocks)
        self.blocks_of_used = cache(self._blocks_of_used)
        self.block_mask = cache(self._block_mask)
        self.paths = cache(functools.partial(cuda_attention.paths_of, segments))

    def _blocks(self, window: int | None) -> list[Block]:
        """Return the blocks of a layer: each segment attends to itself, and all that descends from it to all of it.

        With a window a token attends to the `window` positions that end with its own.
        """
        blocks = []
        for s in self.segments:
            own, reach = torch.arange(s.start, s.end), torch.arange(s.end, s.reach)
            is_plain = window is None or s.end - s.start <= window
            bias = None if is_plain else self._bias(own, s.start, s.end, window)
            blocks.append(Block(s.start, s.end, s.start, s.end, is_own=True, is_causal=is_plain, bias=bias))
            if s.reach > s.end:
                bias = self._bias(reach, s.start, s.end, window) if window else None
                blocks.append(Block(s.end, s.reach, s.start, s.end, bias=bias))
        return blocks

    def _blocks_of_used(self, window: int | None) -> list[Block]:
        """Return the same for the queries in `used`, numbered in that order."""
        blocks = []
        for s in self.segments:
            ends = torch.tensor([s.start, s.end, s.reach])
            first, others, last = torch.searchsorted(self.used, ends).tolist()
            if first < others:
                own = self.used[first:others]
                end = int(own[-1]) + 1
                bias = self._bias(own, s.start, end, window)
                blocks.append(Block(first, others, s.start, end, is_own=True, bias=bias))
            if others < last:
                bias = self._bias(self.used[others:last], s.start, s.end, window) if window else None
                blocks.append(Block(others, last, s.start, s.end, bias=bias))
        return blocks

    def _bias(self, queries: torch.Tensor, start: int, end: int, window: int | None) -> torch.Tensor | None:
        """Return `[queries, keys]`, 0 or HIDDEN, for the keys from `start` to `end`; None if all are seen."""
        sees = self.sees(window)(0, 0, queries[:, None], torch.arange(start, end)[None, :])
        return None if sees.all() else torch.zeros(sees.shape).masked_fill(~sees, HIDDEN)

    def sees(self, window: int | None, device: torch.device | str = "cpu") -> Callable[..., Any]:
        """Return flex_attention's mask function: whether a query attends to a key, by their places in the pack."""
        positions, reaches = self.positions.to(device), self.reaches.to(device)

        def mask(batch: Any, head: Any, query: Any, key: Any) -> Any:
            visible = (key <= query) & (query < reaches[key])
            return visible if window is None else visible & (positions[query] - positions[key] < window)

        return mask

    def _block_mask(self, window: int | None, device: torch.device) -> Any:
        """Return the mask of a layer for flex_attention. create_block_mask would hold some ten bytes for each pair of
        tokens: 10 GiB for 32,000 tokens. Here only some queries are looked at at a time."""
        from torch.nn.attention.flex_attention import BlockMask

        tokens = len(self.positions)
        blocks = -(-tokens // FLEX_BLOCK)
        sees, keys = self.sees(window, device), torch.arange(blocks * FLEX_BLOCK, device=device)
        visible = []
        for queries in keys.split(max(1, PAIRS // len(keys) // FLEX_BLOCK) * FLEX_BLOCK):
            exists = (queries < tokens)[:, None] & (keys < tokens)
            seen = sees(0, 0, queries.clamp(max=tokens - 1)[:, None], keys.clamp(max=tokens - 1)[None, :]) & exists
            visible.append(seen.view(-1, FLEX_BLOCK, blocks, FLEX_BLOCK).sum((1, 3)))
        counts = torch.cat(visible)[None, None]
        full = counts == FLEX_BLOCK**2
        return BlockMask.from_kv_blocks(
            *_numbered((counts > 0) & ~full),
            *_numbered(full),
            BLOCK_SIZE=FLEX_BLOCK,
            mask_mod=sees,
            seq_lengths=(tokens, tokens),
        )


def _numbered(blocks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return for each row how many entries of the last dimension are set, and their numbers, before the others."""
    return blocks.sum(-1, dtype=torch.int32), blocks.int().argsort(dim=-1, descending=True, stable=True).int()


@dataclass(frozen=True, slots=True)
class PackMask:
    """What a layer gets in place of a mask."""

    layout: PackLayout
    window: int | None
    last_layer: int


_current: ContextVar[PackLayout | None] = ContextVar("pack", default=None)


@contextlib.contextmanager
def packed(layout: PackLayout | None) -> Iterator[None]:
    """Let models in this context attend as the pack says; None leaves them as they are."""
    token = _current.set(layout)
    try:
        yield
    finally:
        _current.reset(token)


def mask(*args: Any, **kwargs: Any) -> Any:
    """transformers' interface for masks."""
    layout = _current.get()
    if layout is None:
        return sdpa_mask(*args, **kwargs)
    config = kwargs["config"].get_text_config()
    return PackMask(layout, window_of(kwargs["mask_function"], config), config.num_hidden_layers - 1)


def window_of(mask_function: Callable[..., Any], config: Any) -> int | None:
    """Return the sliding window of a mask function of transformers. Raises NotReached for another kind of mask."""
    window = getattr(config, "sliding_window", None)

    def sees(query: int, key: int) -> bool:
        zero = torch.tensor(0)
        return bool(mask_function(zero, zero, torch.tensor(query), torch.tensor(key)))

    far = max(getattr(config, name, None) or 0 for name in ("max_position_embeddings", "sliding_window")) + 1
    if sees(0, 1) or not sees(1, 0):
        raise NotReached("attention that is not causal")
    if sees(far, 0):
        return None
    # Two queries in a row: the start of a chunk stays where it is.
    if window and all(sees(q, q - window + 1) and not sees(q, q - window) for q in (far, far + 1)):
        return int(window)
    raise NotReached("an attention mask other than a sliding window")


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
    """transformers' interface for attention: `query` is `[batch, heads, tokens, size]`, and what is returned is
    `[batch, tokens, heads, size]`."""
    if not isinstance(attention_mask, PackMask):
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    if kwargs.get("softcap") is not None:
        raise NotReached("attention with capped scores")
    query, key, value = same_dtype(query, key, value)
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    if query.is_cuda and not dropout and cuda_attention.fits(query, value):
        paths = attention_mask.layout.paths(query.device)
        out = cuda_attention.attend(query, key, value, paths, scaling, attention_mask.window)
    elif query.is_cuda and not dropout:
        out = _flex(query, key, value, attention_mask, scaling)
    elif dropout:
        out = _whole_rows(query, key, value, attention_mask, dropout, scaling)
    elif getattr(module, "layer_idx", None) == attention_mask.last_layer:
        out = _used_on_cpu(query, key, value, attention_mask, scaling)
    else:
        out = _blocks_on_cpu(query, key, value, attention_mask, scaling)
    return out.transpose(1, 2), None


def same_dtype(*tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Autocast knows nothing of our functions, and rotary embeddings may have left queries and keys in fp32."""
    device = tensors[0].device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else tensors[-1].dtype
    return tuple(tensor.to(dtype) for tensor in tensors)


def _blocks_on_cpu(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: PackMask, scale: float
) -> torch.Tensor:
    groups = query.shape[1] // key.shape[1]
    blocks = mask.layout.blocks(mask.window)
    return cpu_attention.attend(query, repeat_kv(key, groups), repeat_kv(value, groups), blocks, scale)


def _used_on_cpu(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: PackMask, scale: float
) -> torch.Tensor:
    """The last layer's attention, and zeros where nothing is predicted."""
    groups, used = query.shape[1] // key.shape[1], mask.layout.used
    blocks = mask.layout.blocks_of_used(mask.window)
    out = cpu_attention.attend(query[:, :, used], repeat_kv(key, groups), repeat_kv(value, groups), blocks, scale)
    return torch.zeros_like(query).index_copy(2, used, out)


# --- anywhere: the keys of each segment gathered ------------------------------------------------------------


def _whole_rows(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: PackMask, dropout: float, scale: float
) -> torch.Tensor:
    """Attention of each segment to the gathered keys before it, with dropout."""
    groups = query.shape[1] // key.shape[1]
    key, value = repeat_kv(key, groups), repeat_kv(value, groups)
    parts = []
    sees = mask.layout.sees(mask.window)
    segments = mask.layout.segments
    for number, segment in enumerate(segments):
        keys = torch.from_numpy(tokens_up_to(segments, number))
        visible = sees(0, 0, torch.arange(segment.start, segment.end)[:, None], keys[None, :])
        at = keys.to(query.device)
        parts.append(
            F.scaled_dot_product_attention(
                query[:, :, segment.start : segment.end],
                key[:, :, at],
                value[:, :, at],
                attn_mask=visible.to(query.device),
                dropout_p=dropout,
                scale=scale,
            )
        )
    return torch.cat(parts, dim=2)


# --- on CUDA, for what the flash kernels do not know: fp32, old GPUs, large heads ---------------------------


def _flex(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: PackMask, scale: float) -> torch.Tensor:
    """flex_attention, compiled, with the pack's block mask. StableLM does not declare that it supports it, so it is
    called here and not through transformers."""
    out: torch.Tensor = _compiled_flex()(
        query,
        key,
        value,
        block_mask=mask.layout.block_mask(mask.window, query.device),
        scale=scale,
        enable_gqa=query.shape[1] != key.shape[1],
        kernel_options={"FORCE_USE_FLEX_ATTENTION": True},  # and not the kernel for decoding, for few queries
    )
    return out


@cache
def _compiled_flex() -> Any:
    from torch._dynamo import config
    from torch.nn.attention.flex_attention import flex_attention

    # Each model and window is compiled for itself. Beyond the limit, of 8, torch holds whole score matrices instead.
    config.recompile_limit = max(config.recompile_limit, FLEX_VARIANTS)
    return torch.compile(flex_attention, dynamic=True)


AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, mask)
