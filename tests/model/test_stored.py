"""Tokens of several rows see the keys of their own row, wherever the rows stand in the store."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name

from hatrain.model import stored
from hatrain.model.stored import Part, Parts, Store

HEADS, KEY_HEADS, SIZE = 4, 2, 8
LAYER: Any = SimpleNamespace(layer_idx=0, training=False)
LENGTHS = {1: 9, 2: 5, 3: 12, 11: 7}
"""Tokens of a row."""


def in_one_pass(store: Store, parts: list[Part], rows: dict[int, list[torch.Tensor]]) -> torch.Tensor:
    """Return `[tokens, heads, size]`."""
    query, key, value = (
        torch.cat([rows[part.row][of][:, part.start : part.end] for part in parts], dim=1)[None] for of in range(3)
    )
    mask = stored._Mask([Parts(store, 0, parts, torch.device("cpu"))], window=None)
    return stored.attention(LAYER, query, key, value, mask)[0][0]


@pytest.mark.parametrize(
    "places, copied", [((2, 3), False), ((1, 2, 3), False), ((3, 1), False), ((1, 11), True), ((11,), False)]
)
def test_rows_close_together_and_far_apart_attend_to_their_own_keys(places, copied):
    torch.manual_seed(0)
    rows = {
        place: [torch.randn(heads, length, SIZE) for heads in (HEADS, KEY_HEADS, KEY_HEADS)]
        for place, length in LENGTHS.items()
    }
    store = Store(12, 16)
    for place, length in LENGTHS.items():
        in_one_pass(store, [Part(place, 0, length - 3)], rows)
    parts = [Part(place, LENGTHS[place] - 3, 2 + number % 2) for number, place in enumerate(places)]
    assert isinstance(Parts(store, 0, parts, torch.device("cpu")).of_rows, torch.Tensor) is copied
    found = in_one_pass(store, parts, rows).split([part.tokens for part in parts])
    for part, out in zip(parts, found, strict=True):
        query, key, value = (of[None, :, : part.end] for of in rows[part.row])
        alone = F.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)
        torch.testing.assert_close(out, alone[0, :, part.start :].transpose(0, 1))
