"""Which rows make up a step: the same for any number of ranks, every row as often as its weight says."""

import hashlib
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatrain.contract.spec import DatasetSpec
from hatrain.contract.steps import padded
from hatrain.train.step_dataset import StepDataset, epoch_rows, order_by_length
from hatrain.train.step_dataset import test_sample as sampled
from launch.rows import count_rows


def step_dataset(lengths: np.ndarray, micro_batch_size: int = 4, **options) -> StepDataset:
    settings = {
        "sizes": [len(lengths)],
        "weights": [1.0],
        "rows_per_step": 16,
        "seed": 3,
    }
    layout = padded(lengths.tolist(), micro_batch_size)
    return StepDataset(lengths, lengths // 2, layout, **(settings | options))


def steps(rows: int = 100, **options) -> StepDataset:
    return step_dataset(np.random.default_rng(7).integers(5, 90, rows), **options)


def rows_of(step) -> list[int]:
    return sorted(row for part in step.micro_batches if part.counts for row in part.rows)


def test_the_rows_that_a_run_sees_are_those_of_its_steps():
    dataset = steps()
    assert dataset.rows_until(14).tolist() == list(range(100))
    assert dataset.rows_until(2).tolist() == sorted(rows_of(dataset[0]) + rows_of(dataset[1]))


def test_of_the_last_epoch_a_run_sees_the_rows_of_its_steps_alone():
    dataset = steps(weights=[0.3])  # another draw in each epoch
    assert len(dataset) == 2
    seen = {row for index in range(2) for row in rows_of(dataset[index])}
    dataset.epoch = 1
    first, whole = rows_of(dataset[0]), {row for index in range(2) for row in rows_of(dataset[index])}
    dataset.epoch = 5
    assert dataset.rows_until(3).tolist() == sorted(seen | set(first)) != sorted(seen | whole)
    assert dataset.epoch == 5


def test_the_whole_test_set_is_the_sample_on_request():
    assert sampled(5, "all", 3) == [0, 1, 2, 3, 4]
    assert len(sampled(50, 8, 3)) == 8


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


@pytest.mark.parametrize("order", ["shuffled", "by_length", "by_prefix"])
@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
def test_a_step_is_the_same_on_any_number_of_ranks(ranks, order):
    options = {"order": order, "groups": np.arange(100) // 7}
    alone = steps(**options)
    together = [steps(**options, rank=rank, ranks=ranks) for rank in range(ranks)]
    for i in range(len(alone)):
        parts = [each[i] for each in together]
        assert sorted(row for part in parts for row in rows_of(part)) == rows_of(alone[i])
        assert len({len(part.micro_batches) for part in parts}) == 1, "ranks must run equally many micro-batches"
        assert {(part.rows, part.tokens, part.supervised) for part in parts} == {
            (alone[i].rows, alone[i].tokens, alone[i].supervised)
        }


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
    epoch = steps(order="by_length")
    assert [len(rows_of(epoch[i])) for i in range(len(epoch))] == [16] * 6 + [4]


@given(st.lists(st.tuples(st.integers(1, 40), st.floats(0.01, 3)), min_size=1, max_size=4))
def test_the_planner_counts_the_rows_that_an_epoch_has(tmp_path_factory, files):
    folder = tmp_path_factory.mktemp("files")
    for number, (size, _) in enumerate(files):
        (folder / f"{number}.jsonl").write_text("{}\n" * size)
    datasets = [DatasetSpec(path=f"{number}.jsonl", weight=weight) for number, (_, weight) in enumerate(files)]
    sizes, weights = zip(*files, strict=True)
    rows = len(epoch_rows(sizes, weights, seed=1, epoch=0))
    assert count_rows(datasets, folder) == rows
    assert steps(sum(sizes), sizes=sizes, weights=weights).rows == rows


# Recorded values: a run that an earlier version began must go on with the same rows in the same micro-batches.

SECOND_EPOCH_OF_TWO_RANKS = {
    ("shuffled", 0): [
        [(39, 0, 12), (2, 19, 22), (7, 16, 18)],
        [(12, 3, 11), (20, 5, 2), (10, 7, 18)],
        [(0, 11, 15), (14, 21, 9)],
    ],
    ("by_length", 1): [
        [(12, 12, 3), (6, 20, 20), (5,)],
        [(2, 1, 37), (19, 22, 21), (10,)],
        [(7, 16, 18), (13,)],
    ],
}


@pytest.mark.parametrize(("order", "rank"), SECOND_EPOCH_OF_TWO_RANKS)
def test_a_seed_gives_the_recorded_micro_batches(order, rank):
    lengths = np.random.default_rng(7).integers(5, 90, 40)
    files = {"sizes": [25, 15], "weights": [1.5, 0.3]}
    dataset = step_dataset(lengths, 3, **files, order=order, rank=rank, ranks=2)
    dataset.epoch = 1
    micro_batches = [[part.rows for part in dataset[i].micro_batches] for i in range(len(dataset))]
    assert micro_batches == SECOND_EPOCH_OF_TWO_RANKS[order, rank]


def test_a_long_run_has_the_recorded_order_and_layout():
    lengths = np.random.default_rng(8).integers(5, 900, 3000)
    digest = hashlib.sha256()
    for order in ("shuffled", "by_length"):
        for rank in range(3):
            dataset = step_dataset(
                lengths,
                5,
                sizes=[1000, 1500, 500],
                weights=[1, 0.5, 2.25],
                rows_per_step=60,
                order=order,
                seed=11,
                rank=rank,
                ranks=3,
            )
            for dataset.epoch in (0, 2):
                for step in (dataset[i] for i in range(len(dataset))):
                    parts = [[list(part.rows), part.counts] for part in step.micro_batches]
                    digest.update(json.dumps([parts, step.rows, step.tokens, step.supervised]).encode())
    assert digest.hexdigest() == "b211911d654874958989c07045666f530afe1c567d3dc1ec410cb18ef04c1802"
