"""Every combination that the matrix of strategies allows, trained on two CPU ranks and compared with one process. Quick
tests are in test_sharding.py, a GPTQ base in test_gptq.py."""

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
from tests.train.together import assert_same, attempt, ran, two_ranks

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
    "rows-own-head": {"model__add_chatml_tokens": True, "model__base": OWN_HEAD, **LORA_CHANGES},
    "rows-bf16": {"model__add_chatml_tokens": True, "model__dtype": "bf16", **LORA_CHANGES},
    "new-tokens-saved": {
        "model__add_chatml_tokens": True,
        "model__base": OWN_HEAD,
        "method__lora": {**LORA, "modules_to_save": ["embed_tokens", "lm_head"]},
    },
}
"""Combinations of several settings."""
RESUMED = ("lora", "modules_to_save", "dpo", "rows-of-new-tokens")
"""Jobs that are also stopped and resumed."""
ELSEWHERE = ("gptq", "several-nodes", "optimizer", "all")
"""Covered by other tests."""


@pytest.fixture
def made(workplace, store, dpo_plan) -> Callable[..., Plan]:  # noqa: F811
    """Makes plans, of preference training with `method__kind="dpo"`."""
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


def alone(workplace: Workplace, made: Callable[..., Plan], name: str, changes: dict[str, Any]) -> RunDirectory:
    """The same job by one process, without offload and sharding."""
    plain = {key: value for key, value in changes.items() if not key.startswith(("hardware__", "checkpoints__"))}
    tried = workplace.attempt(made(f"alone-{name}", **plain))
    assert tried.code is Exit.FINISHED, tried.reason
    return tried.run


def tolerance(changes: dict[str, Any]) -> float:
    """Relative tolerance of losses: sums over ranks round differently, most in bf16."""
    return 2e-3 if changes.get("model__dtype") == "bf16" else 1e-4


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_strategy_works_with_everything_that_the_matrix_allows(workplace, made, strategy):
    allowed = {
        pair.what.replace(" ", "-"): JOBS[pair.key, pair.what]
        for pair in matrix()
        if pair.works and pair.strategy == strategy
    }
    jobs = {name: changes for name, changes in allowed.items() if changes and name not in ELSEWHERE} | TOGETHER
    expected = {name: alone(workplace, made, name, changes) for name, changes in jobs.items()}
    runs = {name: two_ranks(made, name, strategy, **changes) for name, changes in jobs.items()}
    parts = {name: two_ranks(made, f"{name}-parts", strategy, **jobs[name]) for name in RESUMED if name in jobs}
    attempts = [attempt(run) for run in runs.values()]
    for run in parts.values():
        attempts += [attempt(run, stop_at=4), attempt(run)]
    together.start(attempts)
    for name, run in runs.items():
        for report in ran(run, 1):
            assert_strategy(strategy, report, jobs[name])
        assert_same(run, expected[name], tolerance(jobs[name]))
    for name, run in parts.items():
        together.assert_resumed(run, runs[name])


def assert_strategy(strategy: str, report: dict[str, Any], changes: dict[str, Any]) -> None:
    """The strategy really ran, and frozen weights have the job's dtype."""
    frozen = {"torch.bfloat16"} if "method__lora" in changes and changes.get("model__dtype") == "bf16" else set()
    packed = {"4bit": {"torch.uint8"}, "8bit": {"torch.int8"}}.get(changes.get("model__quantization", ""), set())
    dtypes = {"torch.float32"} | frozen | packed
    assert set(report["dtypes"]) == dtypes
    together.assert_ran(strategy, {**report, "dtypes": ["torch.float32"]})


@pytest.mark.parametrize("strategy", ["fsdp", "zero3"])
def test_weights_of_every_family_are_sharded(workplace, made, bases, strategy):
    jobs = {
        family: {
            "model__base": str(bases(family)),
            "model__add_chatml_tokens": family == "phi",  # a base model without a chat template
            "method__ctx_size": 512,
            "method__learning_rate": 1e-3,
        }
        for family in BASES
    }
    expected = {family: alone(workplace, made, family, changes) for family, changes in jobs.items()}
    runs = {family: two_ranks(made, family, strategy, **changes) for family, changes in jobs.items()}
    together.start([attempt(run) for run in runs.values()])
    for family, run in runs.items():
        for report in ran(run, 1):
            together.assert_ran(strategy, report)
        # Losses only: a key's bias does not change attention, so its gradient is rounding noise, which AdamW amplifies.
        assert_same(run, expected[family], tolerance=1e-3)


@pytest.mark.parametrize("strategy", ["fsdp", "zero3"])
def test_recomputed_activations_have_the_same_dropout(workplace, inputs, strategy):
    changes = {"model__base": str(inputs / "base"), "method__micro_batch_size": 2}
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


# --- offload: DeepSpeed compiles its CPU Adam at first use, which takes minutes -------------------------


@pytest.mark.parametrize(("offload", "strategy"), [*(("optimizer", strategy) for strategy in ZERO), ("all", "zero3")])
def test_offloaded_training_gives_the_results_of_one_process(workplace, made, offload, strategy):
    jobs = {"all-weights": {}, "lora": LORA_CHANGES, "bf16": JOBS["model.dtype", "bf16"]}
    expected = {name: alone(workplace, made, name, changes) for name, changes in jobs.items()}
    runs = {
        name: two_ranks(made, name, strategy, **changes, hardware__offload=offload) for name, changes in jobs.items()
    }
    parts = two_ranks(made, "parts", strategy, hardware__offload=offload)
    together.start([*map(attempt, runs.values()), attempt(parts, stop_at=4), attempt(parts)])
    for name, run in runs.items():
        for report in ran(run, 1):
            assert_strategy(strategy, report, jobs[name])
            assert (report["offload"], report["optimizer"]) == (offload, "DeepSpeedCPUAdam")
        assert_same(run, expected[name], tolerance(jobs[name]))
    together.assert_resumed(parts, runs["all-weights"])


def test_a_job_under_zero_is_planned_trained_and_evaluated_by_one_command(tmp_path, inputs):
    job = job_file(tmp_path, inputs, gpus_per_node=2, sharding="zero3")
    done = command(tmp_path, sys.executable, "-m", "hatrain", "train", str(job))
    assert done.returncode == 0, done.stderr
    run = RunDirectory(tmp_path / "runs/both")
    assert run.done.exists()
    assert next(event for event in run.events() if event["event"] == "attempt begun")["sharding"] == "zero3"
    figures = json.loads(run.evaluation.read_text())
    assert figures["after"]["loss"] < figures["before"]["loss"]
    assert figures["after"]["requests"] >= 4
    together.assert_plain(tmp_path / "models/both", inputs / "base")


# --- several nodes, and other numbers of ranks ---------------------------------------------------------------


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_two_nodes_give_the_results_of_one_process(workplace, made, strategy):
    expected = alone(workplace, made, "sft", {})
    run = two_ranks(made, "nodes", strategy)
    together.start_nodes([attempt(run)])
    for report in ran(run, 1):
        together.assert_ran(strategy, report)
    assert_same(run, expected)


@pytest.mark.parametrize(("strategy", "state"), [("ddp", "full"), ("fsdp", "full"), ("fsdp", "sharded")])
def test_a_run_resumes_on_another_number_of_ranks(workplace, made, strategy, state):
    expected = alone(workplace, made, "sft", {})
    run = two_ranks(made, "grown", strategy, checkpoints__state=state)
    together.start([attempt(run, stop_at=4)])
    run = two_ranks(made, "grown", strategy, checkpoints__state=state, hardware__gpus_per_node=4)
    together.start([attempt(run)], ranks=4)
    for report in ran(run, 2, ranks=4):
        together.assert_ran(strategy, report, ranks=4)
    assert_same(run, expected, with_test_loss=False)
