"""Attention of packs by torch's flash kernels. These run on GPUs alone, where the GPU script compares them with the
CPU; here plain matrix products stand for them, and all around them is ours."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.attention.flex_attention import flex_attention

from hatrain.data.packs import make_pack
from hatrain.model import attention, cpu_attention, cuda_attention
from hatrain.model.attention import PackLayout, PackMask

HEADS, KEY_HEADS, SIZE = 4, 2, 8
Tensors = tuple[torch.Tensor, ...]


def attention_of_sequences(query: Any, key: Any, value: Any, ends: Any, window: int, scale: float) -> torch.Tensor:
    """What the kernels compute: the last query of each sequence sees its last key."""
    groups = query.shape[1] // key.shape[1]
    parts = []
    query_ends, key_ends = (list(map(int, of)) for of in ends)
    for number in range(len(query_ends) - 1):
        q = query[query_ends[number] : query_ends[number + 1]].transpose(0, 1)
        k, v = (
            of[key_ends[number] : key_ends[number + 1]].transpose(0, 1).repeat_interleave(groups, 0)
            for of in (key, value)
        )
        behind = k.shape[1] - q.shape[1]
        distance = torch.arange(q.shape[1])[:, None] + behind - torch.arange(k.shape[1])[None, :]
        sees = (distance >= 0) & ((distance <= window) if window >= 0 else True)
        scores = (q @ k.transpose(1, 2) * scale).masked_fill(~sees, float("-inf"))
        parts.append((scores.softmax(-1) @ v).transpose(0, 1))
    return torch.cat(parts)


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    calls: list[dict[str, Any]] = []

    def window_of(is_causal: bool, options: dict[str, Any]) -> int:
        calls.append({"causal": is_causal, **options})
        assert is_causal != ("window_size_left" in options)
        return int(options.get("window_size_left", -1))

    def forward(q, k, v, q_ends, k_ends, most_q, most_k, dropout, is_causal, debug, *, scale, **options):
        assert (most_q, most_k) == (int(q_ends.diff().max()), int(k_ends.diff().max()))
        assert q_ends.dtype == k_ends.dtype == torch.int32 and dropout == 0.0
        out = attention_of_sequences(q, k, v, (q_ends, k_ends), window_of(is_causal, options), scale)
        return out, q.new_zeros(1), q.new_zeros(1), q.new_zeros(1), q.new_zeros(0)

    def backward(gradient, q, k, v, out, sums, q_ends, k_ends, *others, scale, **options):
        window = window_of(others[3], options)
        with torch.enable_grad():
            inputs = tuple(of.detach().requires_grad_() for of in (q, k, v))
            again = attention_of_sequences(*inputs, (q_ends, k_ends), window, scale)
        return torch.autograd.grad(again, inputs, gradient)

    monkeypatch.setattr(torch.ops.aten, "_flash_attention_forward", forward)
    monkeypatch.setattr(torch.ops.aten, "_flash_attention_backward", backward)
    return calls


HOME = np.arange(60, dtype=np.int32)
TREES = {
    "rows of a home": [np.concatenate([HOME, np.full(20 + n, 100 + n, dtype=np.int32)]) for n in range(3)],
    "a row within another": [HOME, HOME[:40], np.concatenate([HOME, HOME])],
    "nothing shared": [HOME + 100 * n for n in range(3)],
}


@pytest.mark.parametrize("sequences", TREES.values(), ids=TREES.keys())
@pytest.mark.parametrize("window", [None, 1, 25])
def test_each_segment_sees_its_ancestors_and_itself(kernels, sequences, window):
    segments = make_pack([[ids] for ids in sorted(sequences, key=bytes)]).segments
    tokens = segments[-1].end
    draw = torch.Generator().manual_seed(1)
    sizes = ((HEADS, tokens), (KEY_HEADS, tokens), (KEY_HEADS, tokens), (HEADS, tokens))
    *inputs, gradient = (torch.randn(1, heads, count, SIZE, generator=draw) for heads, count in sizes)
    for of in inputs:
        of.requires_grad_()
    paths = cuda_attention.paths_of(segments, torch.device("cpu"))
    assert (paths.keys is None) == all(segment.parent < 0 for segment in segments)
    found = cuda_attention.attend(*inputs, paths, 0.3, window)
    query, key, value = inputs
    blocks = PackLayout(segments, torch.arange(1)).blocks(window)
    groups = HEADS // KEY_HEADS
    expected = cpu_attention.attend(
        query, key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1), blocks, 0.3
    )
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    gradients: list[Tensors] = [torch.autograd.grad(out, inputs, gradient) for out in (found, expected)]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    assert len(kernels) == 2


class OnGpu(torch.Tensor):
    """A tensor of a processor that says it is on a GPU."""

    is_cuda = True  # type: ignore[assignment]


@pytest.mark.parametrize("window", [None, 25])
@pytest.mark.parametrize("kind", ["flash", "flex"])
def test_half_precision_goes_to_the_kernels_and_what_they_do_not_know_to_flex_attention(
    kernels, monkeypatch, kind, window
):
    sequences = TREES["rows of a home"]
    segments = make_pack([[ids] for ids in sequences]).segments
    layout = PackLayout(segments, torch.arange(1))
    tokens = segments[-1].end
    draw = torch.Generator().manual_seed(1)
    plain = [torch.randn(1, heads, tokens, 16, generator=draw) for heads in (HEADS, KEY_HEADS, KEY_HEADS)]
    monkeypatch.setattr(cuda_attention, "_has_kernels", lambda device: True)
    monkeypatch.setattr(attention, "_compiled_flex", lambda: flex_attention)
    dtype = torch.bfloat16 if kind == "flash" else torch.float32
    inputs = [of.to(dtype).as_subclass(OnGpu) for of in plain]
    found, _ = attention.attention(torch.nn.Module(), *inputs, PackMask(layout, window, 1), scaling=0.3)
    assert len(kernels) == (kind == "flash")
    repeated = [of if of.shape[1] == HEADS else of.repeat_interleave(HEADS // KEY_HEADS, 1) for of in plain]
    expected = cpu_attention.attend(*repeated, layout.blocks(window), 0.3).transpose(1, 2)
    tolerance = 2e-2 if kind == "flash" else 1e-4
    torch.testing.assert_close(found.as_subclass(torch.Tensor).float(), expected, rtol=tolerance, atol=tolerance)


def test_the_kernels_know_half_precision_and_heads_of_at_most_256(monkeypatch):
    monkeypatch.setattr(cuda_attention, "_has_kernels", lambda device: True)

    def fits(size: int, dtype: torch.dtype, value: int | None = None) -> bool:
        return cuda_attention.fits(torch.zeros(1, 1, 1, size, dtype=dtype), torch.zeros(1, 1, 1, value or size))

    assert fits(64, torch.bfloat16) and fits(256, torch.float16) and fits(80, torch.bfloat16)
    assert not fits(64, torch.float32)
    assert not fits(100, torch.bfloat16)
    assert not fits(264, torch.bfloat16)
    assert not fits(64, torch.bfloat16, value=128)
