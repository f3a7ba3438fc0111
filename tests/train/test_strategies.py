"""Every pair that the matrix of strategies grants, trained for real on two processors and held to what one process
trains; what quick tests train already is in test_sharding.py, a GPTQ base in test_gptq.py."""

import json
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch

from hatrain.contract.plan import Plan
from hatrain.contract.run import Exit, RunDirectory
from launch.strategies import STRATEGIES, ZERO, matrix
from tests.models import BASES
from tests.train import together
from tests.train.conftest import Workplace, weights
from tests.train.pairs import JOBS, LORA, LORA_CHANGES, OWN_HEAD
from tests.train.test_dpo import dpo_plan, store  # noqa: F401 - fixtures
from tests.train.test_workstation import job_file
from tests.train.test_workstation import run as command
from tests.train.together import attempt, ran, same, two_ranks

pytestmark = pytest.mark.long

TOGETHER: dict[str, dict[str, Any]] = {
    "dpo-lora": {"method__kind": "dpo", **LORA_CHANGES},
    "dpo-own-head": {"method__kind": "dpo", "model__base": OWN_HEAD},
    "lora-bf16": {"model__dtype": "bf16", **LORA_CHANGES},
    "saved-bf16": {
        "model__dtype": "bf16",
        "model__base": OWN_HEAD,
        "method__lora": {**LORA, "modules_to_save": ["lm_head"]},
    },
    "new-tokens-saved": {
        "model__add_chatml_tokens": True,
        "model__base": OWN_HEAD,
        "method__lora": {**LORA, "modules_to_save": ["embed_tokens", "lm_head"]},
    },
}
"""Several things at once, that might get in each other's way."""
RESUMED = ("lora", "modules_to_save", "dpo")
"""Jobs that are stopped and gone on with as well."""
ELSEWHERE = ("gptq", "several-nodes", "optimizer", "all")
"""What tests of their own show."""


@pytest.fixture
def made(workplace, store, dpo_plan) -> Callable[..., Plan]:  # noqa: F811
    """Makes plans, of preference training where the changes say so."""
    sft = together.plans(workplace)
    heads = {
        kind: together.with_its_own_head(base, workplace.folder / f"own-head-{kind}")
        for kind, base in (("sft", workplace.folder / "base"), ("dpo", store / "base"))
    }

    def plan(name: str, **changes: Any) -> Plan:
        kind = changes.get("method__kind", "sft")
        if changes.get("model__base") == OWN_HEAD:
            changes["model__base"] = str(heads[kind])
        if kind == "sft":
            return sft(name, **changes)
        return dpo_plan(name, **{"method__micro_batch_size": 2, **changes})

    return plan


def alone(
    workplace: Workplace, made: Callable[..., Plan], name: str, changes: dict[str, Any]
) -> RunDirectory:
    """The same job by one process, where nothing is offloaded or sharded."""
    plain = {
        key: value for key, value in changes.items() if not key.startswith(("hardware__", "checkpoints__"))
    }
    tried = workplace.attempt(made(f"alone-{name}", **plain))
    assert tried.code is Exit.FINISHED, tried.reason
    return tried.run


def tolerance(changes: dict[str, Any]) -> float:
    """What losses may differ by, relatively: sums over ranks round elsewhere, in bf16 by more."""
    return 2e-3 if changes.get("model__dtype") == "bf16" else 1e-4


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_strategy_goes_with_all_that_the_matrix_grants_it(workplace, made, strategy):
    granted = {
        pair.what.replace(" ", "-"): JOBS[pair.key, pair.what]
        for pair in matrix()
        if pair.works and pair.strategy == strategy
    }
    jobs = {
        name: changes for name, changes in granted.items() if changes and name not in ELSEWHERE
    } | TOGETHER
    expected = {name: alone(workplace, made, name, changes) for name, changes in jobs.items()}
    runs = {name: two_ranks(made, name, strategy, **changes) for name, changes in jobs.items()}
    parts = {name: two_ranks(made, f"{name}-parts", strategy, **jobs[name]) for name in RESUMED}
    attempts = [attempt(run) for run in runs.values()]
    for run in parts.values():
        attempts += [attempt(run, stop_at=4), attempt(run)]
    together.start(attempts)
    for name, run in runs.items():
        for told in ran(run, 1):
            assert_spread(strategy, told, jobs[name])
        same(run, expected[name], tolerance(jobs[name]))
    for name, run in parts.items():
        together.assert_resumed(run, runs[name])


def assert_spread(strategy: str, told: dict[str, Any], changes: dict[str, Any]) -> None:
    """The strategy really ran, and what is frozen is held in the dtype that the job says."""
    frozen = (
        {"torch.bfloat16"} if "method__lora" in changes and changes.get("model__dtype") == "bf16" else set()
    )
    packed = {"4bit": {"torch.uint8"}, "8bit": {"torch.int8"}}.get(
        changes.get("model__quantization", ""), set()
    )
    dtypes = {"torch.float32"} | frozen | packed
    assert set(told["dtypes"]) == dtypes
    together.assert_ran(strategy, {**told, "dtypes": ["torch.float32"]})


@pytest.mark.parametrize("strategy", ["fsdp", "zero3"])
def test_weights_of_every_family_are_spread(workplace, made, bases, strategy):
    jobs = {
        family: {
            "model__base": str(bases(family)),
            "model__add_chatml_tokens": family == "phi",  # which was never taught to chat
            "method__ctx_size": 512,
            "method__learning_rate": 1e-3,
        }
        for family in BASES
    }
    expected = {family: alone(workplace, made, family, changes) for family, changes in jobs.items()}
    runs = {family: two_ranks(made, family, strategy, **changes) for family, changes in jobs.items()}
    together.start([attempt(run) for run in runs.values()])
    for family, run in runs.items():
        for told in ran(run, 1):
            together.assert_ran(strategy, told)
        # Losses alone: a key's bias moves no attention, so its gradient is what rounding leaves, and AdamW follows it.
        same(run, expected[family], tolerance=1e-3)


@pytest.mark.parametrize("strategy", ["fsdp", "zero3"])
def test_activations_computed_again_meet_the_same_dropout(workplace, shelf, strategy):
    changes = {"model__base": str(shelf / "base"), "method__micro_batch_size": 2}
    runs = []
    for checkpointing in (True, False):
        plan = workplace.plan(
            f"again-{checkpointing}",
            **changes,
            hardware__gpus_per_node=2,
            hardware__sharding="zero3",
            method__gradient_checkpointing=checkpointing,
        )
        runs.append(together.adopted(together.sharded(plan, strategy)))
    together.start([attempt(run) for run in runs])
    again, kept = (weights(run.model) for run in runs)
    assert all(torch.equal(again[name], kept[name]) for name in kept)


# --- offload: DeepSpeed compiles its Adam for processors, in minutes, the first time -------------------------


@pytest.mark.parametrize(
    ("offload", "strategy"), [*(("optimizer", strategy) for strategy in ZERO), ("all", "zero3")]
)
def test_what_is_offloaded_trains_what_is_not(workplace, made, offload, strategy):
    jobs = {"all-weights": {}, "lora": LORA_CHANGES, "bf16": JOBS["model.dtype", "bf16"]}
    expected = {name: alone(workplace, made, name, changes) for name, changes in jobs.items()}
    runs = {
        name: two_ranks(made, name, strategy, **changes, hardware__offload=offload)
        for name, changes in jobs.items()
    }
    parts = two_ranks(made, "parts", strategy, hardware__offload=offload)
    together.start([*map(attempt, runs.values()), attempt(parts, stop_at=4), attempt(parts)])
    for name, run in runs.items():
        for told in ran(run, 1):
            assert_spread(strategy, told, jobs[name])
            assert (told["offload"], told["optimizer"]) == (offload, "DeepSpeedCPUAdam")
        same(run, expected[name], tolerance(jobs[name]))
    together.assert_resumed(parts, runs["all-weights"])


def test_a_job_under_zero_is_planned_trained_and_judged_from_one_command(tmp_path, shelf):
    job = job_file(tmp_path, shelf, gpus_per_node=2, sharding="zero3")
    told = command(tmp_path, sys.executable, "-m", "hatrain", "train", str(job))
    assert told.returncode == 0, told.stderr
    run = RunDirectory(tmp_path / "runs/both")
    assert run.done.exists()
    assert next(event for event in run.events() if event["event"] == "attempt begun")["sharding"] == "zero3"
    judged = json.loads(run.evaluation.read_text())
    assert judged["after"]["loss"] < judged["before"]["loss"]
    assert judged["after"]["requests"] >= 4
    together.assert_plain(tmp_path / "models/both", shelf / "base")


# --- several nodes, and other numbers of ranks ---------------------------------------------------------------


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_two_nodes_train_what_one_process_does(workplace, made, strategy):
    expected = alone(workplace, made, "sft", {})
    run = two_ranks(made, "nodes", strategy)
    together.start_nodes([attempt(run)])
    for told in ran(run, 1):
        together.assert_ran(strategy, told)
    same(run, expected)


@pytest.mark.parametrize(("strategy", "state"), [("ddp", "full"), ("fsdp", "full"), ("fsdp", "sharded")])
def test_another_number_of_ranks_goes_on(workplace, made, strategy, state):
    expected = alone(workplace, made, "sft", {})
    run = two_ranks(made, "grown", strategy, checkpoints__state=state)
    together.start([attempt(run, stop_at=4)])
    run = two_ranks(made, "grown", strategy, checkpoints__state=state, hardware__gpus_per_node=4)
    together.start([attempt(run)], ranks=4)
    for told in ran(run, 2, ranks=4):
        together.assert_ran(strategy, told, ranks=4)
    same(run, expected, looks=False)
