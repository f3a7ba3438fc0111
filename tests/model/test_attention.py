"""Attention of packs, block by block and by mask function, is what a dense mask gives."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from hypothesis import given, settings
from hypothesis import strategies as st

from hatrain.data.packs import make_pack
from hatrain.model import attention, cpu_attention
from hatrain.model.attention import PackLayout, PackMask

HEADS, SIZE = 2, 16


def rows() -> Any:
    """Sequences of homes with requests: prefixes of prefixes, and ends of their own."""
    lengths = st.tuples(st.integers(1, 60), st.lists(st.tuples(st.integers(0, 60), st.integers(1, 60)), max_size=5))

    def grown(drawn: Any) -> list[np.ndarray]:
        first, others = drawn
        made = [np.arange(first, dtype=np.int32)]
        for number, (kept, own) in enumerate(others, start=1):
            made.append(np.concatenate([made[-1][:kept], np.full(own, 1000 + number, dtype=np.int32)]))
        return made

    return lengths.map(grown)


def layout_of(sequences: list[np.ndarray]) -> tuple[PackLayout, torch.Tensor, torch.Tensor]:
    """The layout of a pack, [tokens, tokens] whether a token is in the other's sequence before it, and positions."""
    pack = make_pack([(ids,) for ids in sequences])
    tokens = len(pack.input_ids)
    sees = torch.zeros(tokens, tokens, dtype=torch.bool)
    for number in range(len(sequences)):
        at = torch.from_numpy(pack.tokens_of(number))
        sees[at[:, None], at[None, :]] |= torch.ones(len(at), len(at)).tril().bool()
    return PackLayout(pack.segments, torch.arange(0, tokens, 3)), sees, torch.from_numpy(pack.position_ids)


def drawn(tokens: int, heads: int = HEADS, seed: int = 0) -> list[torch.Tensor]:
    torch.manual_seed(seed)
    shape = (1, tokens, heads, SIZE)
    return [torch.randn(shape).transpose(1, 2).requires_grad_() for _ in range(3)]


def both(attend: Any, tensors: list[torch.Tensor]) -> list[torch.Tensor]:
    """What a function returns, and the gradients of what it was given."""
    for tensor in tensors:
        tensor.grad = None
    out = attend(*tensors)
    torch.manual_seed(1)
    out.backward(torch.randn(out.shape))
    return [out.detach(), *(tensor.grad for tensor in tensors)]


@pytest.mark.parametrize("small", [0, 2**14], ids=["products", "flash"])
@given(rows(), st.sampled_from([None, 1, 5, 20, 64]))
@settings(max_examples=25)
def test_blocks_give_what_a_dense_mask_gives(small, sequences, window):
    layout, sees, positions = layout_of(sequences)
    if window:
        sees &= positions[:, None] - positions[None, :] < window
    tensors = drawn(len(positions))
    scale = 0.3
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cpu_attention, "SMALL", small)
        patch.setattr(cpu_attention, "CACHED", 2000)  # few queries at a time
        found = both(lambda q, k, v: cpu_attention.attend(q, k, v, layout.blocks(window), scale), tensors)
    expected = both(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, attn_mask=sees, scale=scale), tensors)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@given(rows(), st.sampled_from([None, 1, 5, 20]))
@settings(max_examples=25)
def test_the_last_layer_attends_where_something_is_predicted(sequences, window):
    layout, sees, positions = layout_of(sequences)
    if window:
        sees &= positions[:, None] - positions[None, :] < window
    used = torch.zeros(len(positions), dtype=torch.bool).index_fill(0, layout.used, True)
    tensors = drawn(len(positions))
    mask = PackMask(layout, window, 1)
    found = both(lambda q, k, v: attention._used_on_cpu(q, k, v, mask, 0.3), tensors)
    expected = both(
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, attn_mask=sees, scale=0.3) * used[:, None], tensors
    )
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@given(rows(), st.sampled_from([None, 1, 5, 20]))
@settings(max_examples=25)
def test_gathered_keys_give_what_a_dense_mask_gives(sequences, window):
    layout, sees, positions = layout_of(sequences)
    if window:
        sees &= positions[:, None] - positions[None, :] < window
    tensors = drawn(len(positions))
    mask = PackMask(layout, window, 1)
    found = both(lambda q, k, v: attention._whole_rows(q, k, v, mask, 0.0, 0.3), tensors)
    expected = both(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, attn_mask=sees, scale=0.3), tensors)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@given(rows(), st.sampled_from([None, 1, 5, 20]))
def test_the_mask_function_of_flex_attention_is_the_dense_mask(sequences, window):
    layout, sees, positions = layout_of(sequences)
    if window:
        sees &= positions[:, None] - positions[None, :] < window
    at = torch.arange(len(positions))
    assert torch.equal(layout.sees(window)(0, 0, at[:, None], at[None, :]), sees)


@pytest.mark.parametrize("window", [None, 150])
@pytest.mark.parametrize("lengths", [(300, 700, 520), (640, 640), (90,)])
def test_the_block_mask_is_that_of_torch_with_few_queries_looked_at_at_a_time(lengths, window, monkeypatch):
    from torch.nn.attention.flex_attention import create_block_mask

    home = np.arange(260, dtype=np.int32)
    sequences = [np.concatenate([home[:length], np.full(length, 1000 + length, dtype=np.int32)]) for length in lengths]
    layout, _, positions = layout_of(sequences)
    tokens = len(positions)
    expected = create_block_mask(layout.sees(window), None, None, tokens, tokens, device="cpu")
    largest = []
    sees = layout.sees

    def watched(window: Any, device: Any) -> Any:
        def mask(batch: Any, head: Any, query: Any, key: Any) -> Any:
            largest.append((query * key).numel())
            return sees(window, device)(batch, head, query, key)

        return mask

    monkeypatch.setattr(attention, "PAIRS", 2**17)
    monkeypatch.setattr(layout, "sees", watched)
    found = layout.block_mask(window, torch.device("cpu"))
    assert max(largest) <= max(2**17, 128 * (tokens + 127))
    assert found.seq_lengths == expected.seq_lengths
    for name in ("kv_num_blocks", "full_kv_num_blocks", "q_num_blocks", "full_q_num_blocks"):
        assert torch.equal(getattr(found, name), getattr(expected, name)), name
    for kind in ("kv", "full_kv", "q", "full_q"):
        numbers = getattr(expected, f"{kind}_num_blocks")
        for row, count in enumerate(numbers[0, 0].tolist()):
            one, other = (getattr(mask, f"{kind}_indices")[0, 0, row, :count] for mask in (found, expected))
            assert torch.equal(one, other), (kind, row)


@pytest.mark.parametrize("window", [None, 20])
def test_flex_attention_with_the_block_mask_gives_what_blocks_give(window):
    """Forward only: flex_attention has no backward pass on processors. On CUDA this path has not been measured."""
    from torch.nn.attention.flex_attention import flex_attention

    sequences = [
        np.arange(150, dtype=np.int32)[: 100 + 10 * n] + (1000 * n) * (np.arange(100 + 10 * n) > 80) for n in range(4)
    ]
    layout, _, positions = layout_of([ids.astype(np.int32) for ids in sequences])
    query, key, value = (tensor.detach() for tensor in drawn(len(positions)))
    block_mask = layout.block_mask(window, torch.device("cpu"))
    found = flex_attention(query, key, value, block_mask=block_mask, scale=0.3)
    expected = cpu_attention.attend(query, key, value, layout.blocks(window), 0.3)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_a_window_is_read_from_the_mask_function_of_transformers():
    from transformers import Gemma3TextConfig
    from transformers.masking_utils import (
        causal_mask_function,
        chunked_causal_mask_function,
        sliding_window_causal_mask_function,
    )

    config = Gemma3TextConfig(sliding_window=16, max_position_embeddings=512)
    assert attention.window_of(causal_mask_function, config) is None
    assert attention.window_of(sliding_window_causal_mask_function(16), config) == 16
    with pytest.raises(attention.NotReached):
        attention.window_of(sliding_window_causal_mask_function(17), config)
    with pytest.raises(attention.NotReached):
        attention.window_of(chunked_causal_mask_function(16, torch.zeros(1, dtype=int)), config)
    with pytest.raises(attention.NotReached):
        attention.window_of(lambda *_: torch.tensor(True), config)


def test_without_a_pack_attention_is_that_of_sdpa():
    from tests.train.test_packing import model_of

    ids = torch.randint(3, 90, (2, 30))
    mask = torch.ones_like(ids)
    mask[1, 20:] = 0
    model = model_of("gemma3 with a window").eval()
    expected = model(input_ids=ids, attention_mask=mask).logits
    model.set_attn_implementation(attention.NAME)
    torch.testing.assert_close(model(input_ids=ids, attention_mask=mask).logits, expected)
