"""How rows become steps: every row in one micro-batch, as many micro-batches on each rank, rounding that never loses a
file."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatrain.contract.spec import Sft
from hatrain.contract.steps import (
    MicroBatch,
    count_steps,
    divide_batch,
    padded,
    share_of_rank,
    warmup_steps,
    weighted_rows,
)


@given(
    lengths=st.lists(st.integers(1, 500), min_size=1, max_size=60),
    size=st.integers(1, 9),
    ranks=st.integers(1, 5),
)
def test_every_row_is_in_one_micro_batch_and_ranks_run_equally_many(lengths, size, ranks):
    micro_batches = padded(lengths, size)(range(len(lengths)))
    shares = [share_of_rank(micro_batches, rank, ranks) for rank in range(ranks)]
    counted = [row for share in shares for micro_batch in share if micro_batch.counts for row in micro_batch.rows]
    assert sorted(counted) == list(range(len(lengths)))
    assert all(0 < len(micro_batch.rows) <= size for share in shares for micro_batch in share)
    assert len({len(share) for share in shares}) == 1


def test_rows_of_similar_length_share_a_micro_batch_and_equal_ones_keep_their_order():
    layout = padded([5, 9, 5, 7, 9, 1], 2)
    assert layout([0, 1, 2, 3, 4, 5]) == [MicroBatch((1, 4)), MicroBatch((3, 0)), MicroBatch((2, 5))]
    assert layout([2, 0, 5]) == [MicroBatch((2, 0)), MicroBatch((5,))]


def test_a_rank_with_fewer_micro_batches_repeats_the_shortest_row_without_counting_it():
    micro_batches = padded([3, 2, 1], 1)(range(3))
    assert share_of_rank(micro_batches, 1, 2) == (MicroBatch((1,)), MicroBatch((2,), counts=False))


def test_no_rows_give_no_micro_batches():
    assert share_of_rank(padded([], 4)([]), 0, 2) == ()


@pytest.mark.parametrize(
    ("rows", "weight", "expected"),
    [(10, 1, 10), (10, 0.27, 3), (10, 0.23, 2), (10, 0.25, 2), (10, 0.35, 4), (1, 0.1, 1), (0, 2, 0)],
)
def test_weights_round_to_the_nearest_row_and_leave_at_least_one(rows, weight, expected):
    assert weighted_rows(rows, weight) == expected


@pytest.mark.parametrize(
    ("rows", "epochs", "per_epoch", "total"),
    [(8, 1, 2, 2), (9, 1, 3, 3), (9, 2, 3, 6), (9, 0.5, 3, 2), (1, 0.1, 1, 1)],
)
def test_part_of_a_step_is_a_step(rows, epochs, per_epoch, total):
    steps = count_steps(rows, Sft(batch_size=4, epochs=epochs))
    assert (steps.rows, steps.per_epoch, steps.total) == (rows, per_epoch, total)


@pytest.mark.parametrize(("most", "total"), [(1, 1), (5, 5), (6, 6), (7, 6)])
def test_max_steps_only_shortens_a_run(most, total):
    assert count_steps(9, Sft(batch_size=4, epochs=2, max_steps=most)).total == total


@pytest.mark.parametrize(("share", "expected"), [(0, 0), (0.03, 1), (0.1, 1), (0.11, 2), (1, 10)])
def test_warm_up_is_a_share_of_the_steps_rounded_up(share, expected):
    method = Sft(batch_size=4, learning_rate_warmup=share)
    assert warmup_steps(count_steps(40, method), method) == expected


def test_a_batch_divides_exactly_or_not_at_all():
    batch = divide_batch(24, 3, 2)
    assert batch is not None
    assert (batch.rows_per_step, batch.micro_batch_size, batch.accumulation, batch.ranks) == (24, 3, 4, 2)
    assert divide_batch(25, 3, 2) is None
    assert divide_batch(4, 3, 2) is None
