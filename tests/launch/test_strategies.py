"""The matrix of strategies: what is granted is planned, what is not is refused with the pairs that work, and every pair
has a job that shows which it is. tests/train/test_strategies.py trains the granted ones."""

import pytest

from hatrain.contract.spec import JobSpec
from launch import planner, strategies
from launch.planner import Refusal
from launch.strategies import STRATEGIES, ZERO, matrix
from tests.plans import a_cluster, a_job
from tests.train.pairs import JOBS

TWO = {"hardware__gpus_per_node": 2, "hardware__gpu": "a6000-48gb", "model__dtype": "fp32"}


def planned(tmp_path, **changes):
    job = a_job(**changes)
    return planner.plan(job, a_cluster(), "local", workdir=tmp_path, runs_root=tmp_path / "runs")


def refused(tmp_path, **changes):
    with pytest.raises(Refusal) as raised:
        planned(tmp_path, **changes)
    return dict(raised.value.reasons)


def asking(key: str, what: str, **changes: object) -> JobSpec:
    """A job on two ranks that asks for one thing."""
    place = {"hardware__gpu": "cpu"} if what == "processors" else {}
    return a_job(**{**TWO, **place, **JOBS[key, what], **changes})


# --- the matrix ---------------------------------------------------------------------------------------------


def test_every_pair_has_a_job_that_shows_it_and_no_job_shows_nothing():
    assert {(pair.key, pair.what) for pair in matrix()} == JOBS.keys()
    assert len(matrix()) == len(JOBS) * len(STRATEGIES)


@pytest.mark.parametrize("pair", matrix(), ids=lambda pair: f"{pair.strategy}-{pair.what}")
def test_a_pair_is_planned_if_it_works_and_else_refused_with_what_does(pair):
    told = list(strategies.refusals(asking(pair.key, pair.what, hardware__sharding=pair.strategy)))
    if pair.works:
        assert (told, pair.why) == ([], "")
        return
    [(key, reason)] = told
    assert key == "hardware.sharding"
    assert reason.startswith(f"found {pair.strategy} with ")
    assert reason.endswith(pair.why)
    remedies = pair.why.partition("; ")[2]
    works = [
        other.strategy for other in matrix() if (other.key, other.what, other.works) == (*_of(pair), True)
    ]
    assert all(strategy in remedies for strategy in works)
    assert "one rank alone" in remedies or works


def _of(pair):
    return pair.key, pair.what


def test_what_a_refusal_offers_is_granted(tmp_path):
    told = refused(tmp_path, **{**TWO, "hardware__sharding": "fsdp", "method__optimizer": "adamw_8bit"})
    assert told["hardware.sharding"] == (
        "found fsdp with optimizer: adamw_8bit, which takes another step on parts of weights than on whole ones; "
        "fsdp goes with adamw, and adamw_8bit with ddp"
    )
    assert planned(tmp_path, **TWO, hardware__sharding="fsdp", method__optimizer="adamw").sharding == "fsdp"
    assert (
        planned(tmp_path, **TWO, hardware__sharding="ddp", method__optimizer="adamw_8bit").sharding == "ddp"
    )


def test_every_pair_that_does_not_work_is_told_at_once():
    job = asking("model.dtype", "fp16", hardware__sharding="zero3", method__optimizer="adafactor")
    assert [reason.partition(",")[0] for _, reason in strategies.refusals(job)] == [
        "found zero3 with optimizer: adafactor",
        "found zero3 with dtype: fp16",
    ]


def test_auto_says_which_strategy_it_is_when_that_is_refused():
    [(_, reason)] = strategies.refusals(asking("hardware.offload", "optimizer"))
    assert reason.startswith(
        "found auto, which is ddp, with offload: optimizer, which DeepSpeed alone does; "
    )
    assert reason.endswith("and optimizer with zero1, zero2 or zero3")


@pytest.mark.parametrize("key_and_what", JOBS, ids=lambda pair: pair[1])
def test_one_rank_goes_with_everything_but_offload(key_and_what):
    one = {"hardware__gpus_per_node": 1, "hardware__nodes": 1}
    job = asking(*key_and_what, hardware__sharding="zero3", **one)
    told = list(strategies.refusals(job))
    if job.hardware.offload == "none":
        assert told == []
    else:
        assert told == [
            (
                "hardware.offload",
                f"found {job.hardware.offload} with one rank, which trains without DeepSpeed; write none, or several "
                "ranks with zero1, zero2 or zero3",
            )
        ]


# --- what is decided ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "ranks", "decided"),
    [
        ("auto", 1, "none"),
        ("auto", 2, "ddp"),
        ("none", 1, "none"),
        ("ddp", 2, "ddp"),
        ("fsdp", 1, "none"),
        ("zero3", 1, "none"),
        *((strategy, 2, strategy) for strategy in ZERO),
    ],
)
def test_sharding_fits_the_number_of_ranks(tmp_path, asked, ranks, decided):
    plan = planned(tmp_path, hardware__sharding=asked, hardware__gpus_per_node=ranks)
    assert plan.sharding == decided


def test_several_ranks_that_share_nothing_are_refused(tmp_path):
    reasons = refused(tmp_path, hardware__sharding="none", hardware__gpus_per_node=2)
    assert reasons["hardware.sharding"] == (
        "found none with 2 ranks, which would train 2 models apart; "
        "write ddp, fsdp, zero1, zero2, zero3 or auto"
    )
