"""The matrix of strategies: a pair that works is planned, any other is refused with the pairs that work.
tests/train/test_strategies.py trains the pairs that work."""

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


def a_job_with(key: str, what: str, **changes: object) -> JobSpec:
    """A job on two ranks with one setting."""
    hardware = {"hardware__gpu": "cpu"} if what == "processors" else {}
    return a_job(**{**TWO, **hardware, **JOBS[key, what], **changes})


# --- the matrix ---------------------------------------------------------------------------------------------


def test_every_setting_of_the_matrix_has_a_job_that_has_it():
    assert {(pair.key, pair.what) for pair in matrix()} == JOBS.keys()
    assert len(matrix()) == len(JOBS) * len(STRATEGIES)


@pytest.mark.parametrize("pair", matrix(), ids=lambda pair: f"{pair.strategy}-{pair.what}")
def test_a_pair_that_does_not_work_is_refused_with_what_does(pair):
    refusals = list(strategies.refusals(a_job_with(pair.key, pair.what, hardware__sharding=pair.strategy)))
    if pair.works:
        assert (refusals, pair.why) == ([], "")
        return
    [(key, reason)] = refusals
    assert key == "hardware.sharding"
    assert reason.startswith(f"found {pair.strategy} with ")
    assert reason.endswith(pair.why)
    remedies = pair.why.partition("; ")[2]
    works = [other.strategy for other in matrix() if (other.key, other.what, other.works) == (*_of(pair), True)]
    assert all(strategy in remedies for strategy in works)
    assert "one rank only" in remedies or works


def _of(pair):
    return pair.key, pair.what


def test_the_remedies_of_a_refusal_are_accepted(tmp_path):
    reasons = refused(tmp_path, **{**TWO, "hardware__sharding": "fsdp", "method__optimizer": "adamw_8bit"})
    assert reasons["hardware.sharding"] == (
        "found fsdp with optimizer: adamw_8bit, whose steps differ between sharded and whole weights; "
        "fsdp works with adamw, and adamw_8bit with ddp"
    )
    assert planned(tmp_path, **TWO, hardware__sharding="fsdp", method__optimizer="adamw").sharding == "fsdp"
    assert planned(tmp_path, **TWO, hardware__sharding="ddp", method__optimizer="adamw_8bit").sharding == "ddp"


def test_all_settings_that_do_not_work_are_reported_at_once():
    job = a_job_with("model.dtype", "fp16", hardware__sharding="zero3", method__optimizer="adafactor")
    assert [reason.partition(",")[0] for _, reason in strategies.refusals(job)] == [
        "found zero3 with optimizer: adafactor",
        "found zero3 with dtype: fp16",
    ]


def test_a_refusal_of_auto_names_the_strategy():
    [(_, reason)] = strategies.refusals(a_job_with("hardware.offload", "optimizer"))
    assert reason.startswith("found auto, which is ddp, with offload: optimizer, which only DeepSpeed supports; ")
    assert reason.endswith("and optimizer with zero1, zero2 or zero3")


@pytest.mark.parametrize("key_and_what", JOBS, ids=lambda pair: pair[1])
def test_one_rank_works_with_every_setting_except_offload(key_and_what):
    one = {"hardware__gpus_per_node": 1, "hardware__nodes": 1}
    job = a_job_with(*key_and_what, hardware__sharding="zero3", **one)
    refusals = list(strategies.refusals(job))
    if job.hardware.offload == "none":
        assert refusals == []
    else:
        assert refusals == [
            (
                "hardware.offload",
                f"found {job.hardware.offload} with one rank, which trains without DeepSpeed; write none, or several "
                "ranks with zero1, zero2 or zero3",
            )
        ]


# --- decisions ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sharding", "ranks", "expected"),
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
def test_sharding_fits_the_number_of_ranks(tmp_path, sharding, ranks, expected):
    plan = planned(tmp_path, hardware__sharding=sharding, hardware__gpus_per_node=ranks)
    assert plan.sharding == expected


def test_several_ranks_without_sharding_are_refused(tmp_path):
    reasons = refused(tmp_path, hardware__sharding="none", hardware__gpus_per_node=2)
    assert reasons["hardware.sharding"] == (
        "found none with 2 ranks, which would train 2 separate models; write ddp, fsdp, zero1, zero2, zero3 or auto"
    )
