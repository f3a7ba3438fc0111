"""Several ranks for real, on processors: each strategy trains what one process trains, and says what it ran."""

import json
import os
import shutil
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate.utils import DistributedType
from transformers import AutoModelForCausalLM, AutoTokenizer

from hatrain import seal
from hatrain.errors import BadInput
from hatrain.plan import Plan
from hatrain.run import Exit, RunDirectory
from hatrain.train import sharding
from launch import local
from tests.train.conftest import metrics, weights
from tests.train.test_dpo import dpo_plan, store  # noqa: F401 - fixtures

REPOSITORY = Path(__file__).parents[2]
LORA = {"rank": 4, "alpha": 8, "dropout": 0.0, "modules": ["q_proj", "down_proj"], "merge": True}
TWO = {"hardware__gpus_per_node": 2, "method__gradient_checkpointing": True}


def sharded(plan: Plan, strategy: str) -> Plan:
    """The plan under a strategy, which the planner grants to GPUs alone."""
    return plan.model_copy(update={"sharding": strategy})


def start(attempts: list[tuple[RunDirectory, int, int | None]], ranks: int = 2) -> None:
    """Make attempts one after another, on ranks that torchrun starts."""
    told = json.dumps([(str(run.folder), number, stop_at) for run, number, stop_at in attempts])
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(ranks)]
    subprocess.run(
        [*torchrun, "-m", "tests.train.ranks", told],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
        check=True,
    )


def adopted(plan: Plan) -> RunDirectory:
    run = RunDirectory(Path(plan.paths.run))
    run.adopt(plan, local.files(plan))
    return run


@pytest.fixture
def plan(workplace, shelf):
    """Plans of a job without dropout, which would fall on other tokens where ranks divide the rows. The last step has
    three passes for two ranks."""
    base = shutil.copytree(shelf / "base", workplace.folder / "base")
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "attention_dropout": 0.0}))

    def made(name: str, **changes: Any) -> Plan:
        return workplace.plan(name, **{"model__base": str(base), "method__micro_batch_size": 2, **changes})

    return made


def ran(run: RunDirectory, attempt: int, ranks: int = 2) -> list[dict[str, Any]]:
    """What each rank of an attempt says that ran."""
    folder = run.attempts / str(attempt)
    return [json.loads((folder / f"ran-{rank}.json").read_text()) for rank in range(ranks)]


def logged(run: RunDirectory, name: str) -> list[float]:
    """A metric at each step that has it; of a step logged twice, the last."""
    return list({line["step"]: line[name] for line in metrics(run) if name in line}.values())


def losses_on_the_test_set(run: RunDirectory) -> dict[str, float]:
    return {event["when"]: event["loss"] for event in run.events() if event["event"] == "test loss"}


def same(one: RunDirectory, other: RunDirectory, tolerance: float = 1e-4) -> None:
    """Require the same losses within a relative tolerance, and the same weights; sums over ranks round elsewhere."""
    assert len(logged(one, "loss")) > 4
    for name in ("loss", "test_loss"):
        assert logged(one, name) == pytest.approx(logged(other, name), rel=tolerance)
    norms = logged(one, "gradient_norm"), logged(other, "gradient_norm")
    assert norms[0] == pytest.approx(norms[1], rel=10 * tolerance)
    assert losses_on_the_test_set(one) == pytest.approx(losses_on_the_test_set(other), rel=tolerance)
    if tolerance < 1e-3:
        expected = weights(other.model)
        for name, tensor in weights(one.model).items():
            torch.testing.assert_close(tensor, expected[name], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_ranks_train_save_and_resume_what_one_does(workplace, plan, strategy):
    alone = workplace.attempt(plan("alone")).run
    whole, parts = (adopted(sharded(plan(name, **TWO), strategy)) for name in ("whole", "parts"))
    start(
        [(whole, whole.new_attempt().number, None)]
        + [(parts, parts.new_attempt().number, at) for at in (4, None)]
    )

    for run, attempt in ((whole, 1), (parts, 1), (parts, 2)):
        for told in ran(run, attempt):
            assert_ran(strategy, told)
    same(whole, alone)
    assert seal.damage(whole.checkpoints / "checkpoint-6") is None
    assert_resumed(parts, whole)
    for folder in (whole.model, parts.checkpoints / "checkpoint-6"):
        assert_plain(folder, alone.model)


def with_its_own_head(base: Path, out: Path) -> Path:
    """Write a base like another whose head shares no weights with its embeddings. Returns its folder."""
    shutil.copytree(base, out)
    config = json.loads((base / "config.json").read_text())
    (out / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": False}))
    AutoModelForCausalLM.from_pretrained(out).save_pretrained(out)
    assert "lm_head.weight" in weights(out)
    return out


@pytest.mark.long
def test_fsdp_goes_with_what_the_planner_grants(workplace, plan, dpo_plan):  # noqa: F811
    untied = with_its_own_head(workplace.folder / "base", workplace.folder / "untied")
    pairs = {
        "lora": (plan, {"method__lora": LORA, "method__learning_rate": 2e-2}),
        "saved": (
            plan,
            {"method__lora": {**LORA, "modules_to_save": ["lm_head"]}, "model__base": str(untied)},
        ),
        "bf16": (plan, {"model__dtype": "bf16", "model__base": str(untied)}),
        "dpo": (dpo_plan, {"method__micro_batch_size": 2}),
        "untied": (dpo_plan, {"method__micro_batch_size": 2, "model__base": str(untied)}),
        "dpo-lora": (dpo_plan, {"method__micro_batch_size": 2, "method__lora": LORA}),
    }
    alone, together, attempts = {}, {}, []
    for name, (made, changes) in pairs.items():
        alone[name] = workplace.attempt(made(f"alone-{name}", **changes)).run
        together[name] = adopted(sharded(made(name, **changes, **TWO), "fsdp"))
        attempts.append((together[name], together[name].new_attempt().number, None))
    for name in ("lora", "saved", "dpo"):
        made, changes = pairs[name]
        run = together[f"{name}-parts"] = adopted(sharded(made(f"{name}-parts", **changes, **TWO), "fsdp"))
        attempts += [(run, run.new_attempt().number, stop_at) for stop_at in (4, None)]
    start(attempts)
    for name, run in alone.items():
        told = ran(together[name], 1)[0]
        assert (told["distributed_type"], told["sharded"] > 0) == ("FSDP", True)
        same(together[name], run, tolerance=2e-3 if name == "bf16" else 1e-4)
    for name in ("lora", "saved", "dpo"):
        assert_resumed(together[f"{name}-parts"], together[name])


@pytest.mark.long
def test_activations_computed_again_meet_the_same_dropout(plan, shelf):
    base = {"model__base": str(shelf / "base"), "hardware__gpus_per_node": 2}
    runs = [
        adopted(sharded(plan(name, **base, method__gradient_checkpointing=name == "again"), "fsdp"))
        for name in ("again", "kept")
    ]
    start([(run, run.new_attempt().number, None) for run in runs])
    again, kept = (weights(run.model) for run in runs)
    assert all(torch.equal(again[name], kept[name]) for name in kept)


# --- what is refused ----------------------------------------------------------------------------------------


def test_fsdp_without_its_settings_is_refused(workplace, plan):
    tried = workplace.attempt(sharded(plan("bare"), "fsdp"))
    assert tried.code is Exit.FATAL
    assert "launch/accelerate.yaml: no FSDP settings" in tried.reason


def test_fsdp_that_would_be_something_else_is_refused(plan):
    accelerator = SimpleNamespace(
        is_fsdp2=False, distributed_type=DistributedType.MULTI_CPU, device=torch.device("cpu")
    )
    with pytest.raises(BadInput, match=r"fsdp, but accelerate would run MULTI_CPU on cpu; write ddp"):
        sharding.require(sharded(plan("run"), "fsdp"), accelerator)
    sharding.require(plan("run"), accelerator)


@pytest.mark.parametrize(
    ("before", "now", "fits"),
    [("fsdp", "fsdp", True), ("none", "ddp", True), ("ddp", "fsdp", False), ("fsdp", "none", False)],
)
def test_a_checkpoint_of_another_layout_is_refused_by_name(tmp_path, plan, before, now, fits):
    (tmp_path / "partial").mkdir()
    seal.seal(tmp_path / "partial", tmp_path / "checkpoint-3", sharding=before)
    with nullcontext() if fits else pytest.raises(BadInput, match=f"go on with {before}, or .* --fresh"):
        sharding.check_strategy(tmp_path / "checkpoint-3", sharded(plan("run"), now))


# --- what a run is held to ----------------------------------------------------------------------------------


def assert_resumed(parts: RunDirectory, whole: RunDirectory) -> None:
    """A stop after step 4 was heard by both ranks, and what came after is as if it had not been."""
    codes = [json.loads((parts.attempts / "1" / f"rank-{rank}.json").read_text())["code"] for rank in (0, 1)]
    assert codes == [Exit.REQUEUE, Exit.REQUEUE]
    steps = [line["step"] for line in metrics(parts) if "loss" in line and line["attempt"] == 2]
    assert steps == list(range(5, 5 + len(steps)))
    assert steps
    one, other = weights(parts.model), weights(whole.model)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert logged(parts, "loss") == logged(whole, "loss")


def assert_plain(folder: Path, like: Path) -> None:
    """Plain transformers loads it, whole, as the kind of model that the base is; with its tokenizer."""
    model, info = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not any(info.values())
    assert type(model) is type(AutoModelForCausalLM.from_pretrained(like))
    assert model.config.architectures == ["LlamaForCausalLM"]
    assert weights(folder).keys() == weights(like).keys()
    assert AutoTokenizer.from_pretrained(folder).chat_template


def assert_ran(strategy: str, told: dict[str, Any]) -> None:
    if strategy == "fsdp":
        assert told["distributed_type"] == "FSDP"
        assert told["sharded"] == told["parameters"] > 0
        assert 0.4 < told["held"] < 0.6
    else:
        assert (told["distributed_type"], told["wrapper"]) == ("MULTI_CPU", "DistributedDataParallel")
        assert (told["sharded"], told["held"]) == (0, 1)
    assert told["dtypes"] == ["torch.float32"]
