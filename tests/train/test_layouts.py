"""Packs of a step: no larger than they may be, with every row once, and as many for each rank."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatrain.contract.steps import share_of_rank
from hatrain.data.packs import make_pack
from hatrain.data.prefixes import order_by_prefix, prefix_groups
from hatrain.train.layouts import packed


def rows_of_homes(requests: list[int], seed: int = 0) -> list[np.ndarray]:
    """Rows of homes: so many requests each, after a prompt that begins alike for all homes."""
    draw = np.random.default_rng(seed)
    common = np.arange(40, dtype=np.int32)
    rows = []
    for count in requests:
        prompt = draw.integers(100, 900, draw.integers(80, 160)).astype(np.int32)
        for _ in range(count):
            own = draw.integers(100, 900, draw.integers(5, 60)).astype(np.int32)
            rows.append(np.concatenate([common, prompt, own]))
    order = draw.permutation(len(rows))
    return [rows[number] for number in order]


homes = st.lists(st.integers(1, 5), min_size=1, max_size=8)


@given(homes, st.integers(1, 4), st.integers(260, 2000), st.booleans(), st.integers(1, 2))
def test_packs_hold_every_row_once_within_their_size_on_equally_many_for_each_rank(requests, ranks, size, share, sides):
    rows = rows_of_homes(requests)
    units = [tuple(rows[start : start + sides]) for start in range(0, len(rows), sides)]
    size *= sides
    packs = packed(units.__getitem__, size, ranks, share=share)(range(len(units)))
    assert sorted(row for pack in packs for row in pack.rows) == list(range(len(units)))
    for pack in packs:
        assert len(make_pack([units[row] for row in pack.rows], share=share).input_ids) <= size
    shares = [share_of_rank(packs, rank, ranks) for rank in range(ranks)]
    assert len({len(part) for part in shares}) == 1
    if len(units) >= ranks * len(packs):
        assert all(any(pack.counts for pack in part) for part in shares), "a rank has nothing to do"


def test_the_rows_of_a_home_meet_in_one_pack():
    rows = rows_of_homes([4, 4, 4, 4])
    packs = packed(lambda row: (rows[row],), 700, 1, share=True)(range(16))
    tokens = sum(len(make_pack([(rows[row],) for row in pack.rows]).input_ids) for pack in packs)
    assert tokens < sum(map(len, rows)) / 2


def test_two_ranks_get_packs_of_about_the_same_size():
    rows = rows_of_homes([1] * 16)
    packs = packed(lambda row: (rows[row],), 10_000, 2, share=True)(range(16))
    sizes = [sum(len(rows[row]) for row in pack.rows) for pack in packs]
    assert len(sizes) == 2
    assert max(sizes) < 1.25 * min(sizes)


def test_no_rows_are_no_packs():
    assert packed(lambda row: (), 100, 2, share=True)([]) == []


# --- by_prefix ----------------------------------------------------------------------------------------------


@given(homes, st.integers(0, 5))
def test_groups_are_the_rows_of_a_home(requests, seed):
    rows = rows_of_homes(requests, seed)
    groups = prefix_groups(rows)
    prompts = [tuple(row[40:60]) for row in rows]
    for a in range(len(rows)):
        for b in range(a):
            if len(set(prompts)) > 1:
                assert (groups[a] == groups[b]) == (prompts[a] == prompts[b])


def by_prefix(groups: Any, rows_per_step: int, *, seed: int = 1, epoch: int = 0, rows: Any = None) -> np.ndarray:
    rows = np.arange(len(groups)) if rows is None else np.array(rows)
    return order_by_prefix(rows, np.array(groups), rows_per_step, seed, epoch)


@given(st.lists(st.integers(0, 12), min_size=1, max_size=60), st.integers(1, 9))
def test_an_epoch_by_prefix_holds_every_row_once(groups, rows_per_step):
    assert sorted(by_prefix(groups, rows_per_step)) == list(range(len(groups)))


def test_whole_groups_share_a_step_and_steps_are_full():
    groups = np.repeat(np.arange(30), 4)
    ordered = by_prefix(np.random.default_rng(0).permutation(groups), 8)
    shuffled = np.random.default_rng(0).permutation(groups)
    for start in range(0, 120, 8):
        assert len(set(shuffled[ordered[start : start + 8]])) == 2


@given(st.lists(st.integers(1, 8), min_size=1, max_size=12), st.integers(0, 20))
def test_a_group_is_divided_only_where_no_other_fits_into_what_is_left_of_a_step(sizes, seed):
    groups = np.repeat(np.arange(len(sizes)), sizes)
    waiting = set(range(len(sizes)))
    for place, group in enumerate(groups[by_prefix(groups, 8, seed=seed)].tolist()):
        left = 8 - place % 8
        if group in waiting and sizes[group] > left:
            assert all(sizes[other] > left for other in waiting)
        waiting.discard(group)


def test_a_group_larger_than_a_step_is_divided():
    ordered = by_prefix([0] * 20 + [1] * 4, 8)
    assert sorted(ordered) == list(range(24))


def test_the_order_of_groups_is_random_and_the_seed_decides():
    groups = np.repeat(np.arange(50), 2)
    assert list(by_prefix(groups, 4)) == list(by_prefix(groups, 4))
    assert list(by_prefix(groups, 4)) != list(by_prefix(groups, 4, seed=2))
    assert list(by_prefix(groups, 4)) != list(by_prefix(groups, 4, epoch=1))
    assert list(groups[by_prefix(groups, 4)]) != sorted(groups)


def test_a_row_that_is_seen_twice_in_an_epoch_is_not_twice_in_a_step():
    rows = np.random.default_rng(0).permutation(np.tile(np.arange(40), 2))
    groups = np.arange(40) // 4
    ordered = by_prefix(groups, 4, rows=rows)
    steps = [set(ordered[start : start + 4]) for start in range(0, 80, 4)]
    assert all(len(step) == 4 for step in steps)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_rows_have_groups_too(count):
    assert len(prefix_groups(rows_of_homes([1] * count))) == count
