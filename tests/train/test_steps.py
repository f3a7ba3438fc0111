"""Which rows make up a step: the same for any number of ranks, every row as often as its weight says."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatrain.train.steps import Steps, epoch_rows, layout, order_by_length


def steps(rows: int = 100, **options) -> Steps:
    lengths = np.random.default_rng(7).integers(5, 90, rows)
    settings = {
        "sizes": [rows],
        "weights": [1.0],
        "rows_per_step": 16,
        "micro_batch_size": 4,
        "by_length": False,
        "seed": 3,
    }
    return Steps(lengths, lengths // 2, **(settings | options))


def rows_of(step) -> list[int]:
    return sorted(row for part in step.passes if part.counts for row in part.rows)


def test_an_epoch_holds_every_row_once():
    epoch = steps()
    assert len(epoch) == 7
    assert sorted(row for i in range(7) for row in rows_of(epoch[i])) == list(range(100))


def test_the_last_step_holds_what_is_left():
    assert len(rows_of(steps()[6])) == 4


def test_epochs_differ_and_the_seed_decides():
    one, same, other = steps(), steps(), steps(seed=4)
    first = rows_of(one[0])
    assert rows_of(same[0]) == first
    assert rows_of(other[0]) != first
    one.epoch = 1
    assert rows_of(one[0]) != first


@pytest.mark.parametrize("by_length", [False, True])
@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
def test_a_step_is_the_same_on_any_number_of_ranks(ranks, by_length):
    alone = steps(by_length=by_length)
    together = [steps(by_length=by_length, rank=rank, ranks=ranks) for rank in range(ranks)]
    for i in range(len(alone)):
        parts = [each[i] for each in together]
        assert sorted(row for part in parts for row in rows_of(part)) == rows_of(alone[i])
        assert len({len(part.passes) for part in parts}) == 1, "ranks must take equally many passes"
        assert {(part.rows, part.tokens, part.supervised) for part in parts} == {
            (alone[i].rows, alone[i].tokens, alone[i].supervised)
        }


@given(
    lengths=st.lists(st.integers(1, 500), min_size=1, max_size=60),
    micro=st.integers(1, 9),
    ranks=st.integers(1, 5),
)
def test_a_layout_gives_every_row_to_one_pass(lengths, micro, ranks):
    dealt = layout(np.arange(len(lengths)), np.array(lengths), micro, ranks)
    counting = [row for passes in dealt for part in passes if part.counts for row in part.rows]
    assert sorted(counting) == list(range(len(lengths)))
    assert all(len(part.rows) <= micro for passes in dealt for part in passes)
    assert len({len(passes) for passes in dealt}) == 1


def test_weights_say_how_often_rows_are_seen():
    rows = epoch_rows([10, 10], [2.0, 0.5], seed=1, epoch=0)
    assert len(rows) == 25
    assert all((rows == row).sum() == 2 for row in range(10))
    assert sum((rows == row).sum() for row in range(10, 20)) == 5


def test_a_share_of_rows_changes_from_epoch_to_epoch_but_not_in_size():
    epochs = [set(epoch_rows([1000], [0.3], seed=1, epoch=epoch)) for epoch in range(3)]
    assert [len(rows) for rows in epochs] == [300, 300, 300]
    assert epochs[0] != epochs[1] != epochs[2]


def test_by_length_puts_the_longest_first_and_wastes_less():
    lengths = np.random.default_rng(1).integers(5, 500, 1000)
    rows = np.random.default_rng(2).permutation(1000)
    ordered = order_by_length(rows, lengths, 16, seed=1, epoch=0)
    assert sorted(ordered) == list(range(1000))
    assert lengths[ordered[:16]].max() == lengths.max()

    def padding(order):
        groups = [lengths[order[i : i + 16]] for i in range(0, 992, 16)]
        return sum(group.max() * 16 - group.sum() for group in groups)

    assert padding(ordered) < 0.2 * padding(rows)
    means = [lengths[ordered[i : i + 16]].mean() for i in range(0, 992, 16)]
    assert np.abs(np.diff(means)).mean() > 20, "steps must come at random, not from long to short"


def test_a_short_last_step_stays_last_by_length():
    epoch = steps(by_length=True)
    assert [len(rows_of(epoch[i])) for i in range(len(epoch))] == [16] * 6 + [4]
