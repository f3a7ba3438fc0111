"""Several real ranks on CPUs: each strategy gives the results of one process, and is really the one that runs."""

import json
import re
import shutil
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from accelerate.utils import DistributedType
from safetensors.torch import load_file, save_file

from hatrain.contract.run import Exit, RunDirectory
from hatrain.errors import BadInput
from hatrain.evaluate.sources import find_source
from hatrain.runtime import seal
from hatrain.train import sharding
from launch.strategies import STRATEGIES, ZERO
from tests.train import together
from tests.train.conftest import Workplace, spoil_gradient, weights
from tests.train.together import (
    TWO,
    adopted,
    assert_ran,
    assert_same,
    attempt,
    left,
    logged,
    ran,
    sharded,
    two_ranks,
)


@pytest.fixture
def plan(workplace):
    return together.plans(workplace)


SPOILED = ("ddp", "zero2", "fsdp")
"""Strategies of different mechanisms: who looks at the gradient, and who steps."""


BEST = {"evaluation__keep": "best", "checkpoints__save_total_limit": 1}
SCRIPT = {"4": {"eval_loss": 1.0, "eval_accuracy": 0.5}, "8": {"eval_loss": 2.0, "eval_accuracy": 0.25}}
"""What the looks of such a run find."""


def by_accuracy(strategy: str) -> dict[str, object]:
    return {} if strategy in ("fsdp", "zero3") else {"evaluation__metric": "accuracy", "evaluation__requests": 6}


@dataclass
class Trained:
    """One job, trained by one process and by two ranks under each strategy: without a stop, and stopped and resumed."""

    alone: RunDirectory
    whole: dict[str, RunDirectory]
    parts: dict[str, RunDirectory]
    shards: dict[str, RunDirectory]
    """As `parts`, with `checkpoints.state: sharded`."""
    diverged: RunDirectory
    """On a base that is not finite."""
    spoiled: dict[str, RunDirectory]
    """With a gradient that is not finite on one rank."""
    skipped: dict[str, RunDirectory]
    """As `spoiled`, with `method.skip_steps`; `skipped_alone` by one process."""
    skipped_alone: RunDirectory
    shrunk: RunDirectory
    """Stopped on two ranks, and resumed on one."""
    best: dict[str, RunDirectory]
    """With `keep: best`, whose best look is that of step 4; by accuracy where requests can be asked."""
    best_shards: dict[str, RunDirectory]
    """The same with `checkpoints.state: sharded`."""


@pytest.fixture(scope="module")
def trained(inputs, tmp_path_factory) -> Trained:
    folder = tmp_path_factory.mktemp("together")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        workplace = Workplace(folder, inputs, patch)
        plan = together.plans(workplace)
        alone = workplace.attempt(plan("alone")).run
        whole, parts = (
            {strategy: two_ranks(plan, f"{name}-{strategy}", strategy) for strategy in STRATEGIES}
            for name in ("whole", "parts")
        )
        broken = shutil.copytree(folder / "base", folder / "broken")
        state = load_file(broken / "model.safetensors")
        state["model.norm.weight"][0] = torch.nan
        save_file(state, broken / "model.safetensors", {"format": "pt"})
        diverged = two_ranks(plan, "diverged", "zero2", model__base=str(broken))
        shards = {
            strategy: two_ranks(plan, f"shards-{strategy}", strategy, checkpoints__state="sharded")
            for strategy in ("fsdp", "zero3")
        }
        spoiled, skipped = (
            {name: two_ranks(plan, f"skip{steps}-{name}", name, method__skip_steps=steps) for name in SPOILED}
            for steps in (0, 1)
        )
        with pytest.MonkeyPatch.context() as spoil:
            spoil_gradient(spoil, 2)
            skipped_alone = workplace.attempt(plan("skipped", method__skip_steps=1)).run
        best = {name: two_ranks(plan, f"best-{name}", name, **BEST, **by_accuracy(name)) for name in STRATEGIES}
        best_shards = {
            name: two_ranks(plan, f"best-shards-{name}", name, **BEST, checkpoints__state="sharded") for name in shards
        }
        for run in (*best.values(), *best_shards.values()):
            (run.folder / "script.json").write_text(json.dumps(SCRIPT))
        attempts = [attempt(run) for run in (*whole.values(), diverged, *best.values(), *best_shards.values())]
        attempts += [attempt(run, spoiled=2) for run in (*spoiled.values(), *skipped.values())]
        shrunk = two_ranks(plan, "shrunk", "ddp")
        attempts.append(attempt(shrunk, stop_at=4))
        for run in (*parts.values(), *shards.values()):
            attempts += [attempt(run, stop_at=4), attempt(run)]
        together.start(attempts)
        workplace.attempt(plan("shrunk"))
    return Trained(alone, whole, parts, shards, diverged, spoiled, skipped, skipped_alone, shrunk, best, best_shards)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_two_ranks_give_the_results_of_one_under_the_strategy_of_the_plan(trained, strategy):
    whole, parts = trained.whole[strategy], trained.parts[strategy]
    for run, number in ((whole, 1), (parts, 1), (parts, 2)):
        for report in ran(run, number):
            assert_ran(strategy, report)
    assert_same(whole, trained.alone)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_plain_transformers_loads_what_two_ranks_save(trained, strategy):
    whole, parts = trained.whole[strategy], trained.parts[strategy]
    for folder in (whole.model, parts.checkpoints / "checkpoint-6"):
        together.assert_plain(folder, trained.alone.model)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_two_ranks_resume_to_the_bit(trained, strategy):
    assert seal.verify(trained.whole[strategy].checkpoints / "checkpoint-6") is None
    together.assert_resumed(trained.parts[strategy], trained.whole[strategy])


def test_a_run_that_resumes_on_fewer_ranks_says_so_and_misses_no_row(trained):
    """Without dropout the losses tell: of other rows they would be others."""
    (changed,) = [event for event in trained.shrunk.events() if event["event"] == "ranks changed"]
    assert (changed["checkpoint"], changed["before"], changed["now"]) == ("checkpoint-4", 2, 1)
    assert_same(trained.shrunk, trained.alone)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_best_look_is_kept_under_every_strategy(trained, strategy):
    run = trained.best[strategy]
    assert [code for code, _ in left(run, 1)] == [Exit.FINISHED, Exit.FINISHED]
    (chosen,) = [event for event in run.events() if event["event"] == "kept"]
    assert (chosen["step"], chosen["trained"]) == (4, 8)
    kept, checkpoint, last = (weights(folder) for folder in (run.model, *folders(run, 4, 8)))
    assert all(torch.equal(kept[name], checkpoint[name]) for name in kept)
    assert not all(torch.equal(kept[name], last[name]) for name in kept)
    # Asking requests changes nothing: the last step is that of a run that asks none.
    whole = weights(trained.whole[strategy].model)
    assert all(torch.equal(last[name], whole[name]) for name in whole)


@pytest.mark.parametrize("strategy", ["fsdp", "zero3"])
def test_the_best_look_is_kept_from_a_sharded_checkpoint(trained, strategy):
    kept, expected = (weights(run.model) for run in (trained.best_shards[strategy], trained.best[strategy]))
    assert all(torch.equal(kept[name], expected[name]) for name in expected)


def folders(run: RunDirectory, *steps: int) -> list[Path]:
    return [run.checkpoints / f"checkpoint-{step}" for step in steps]


@pytest.mark.parametrize("strategy", ["fsdp", "zero3"])
def test_a_sharded_checkpoint_holds_no_whole_weights_and_can_be_resumed(trained, strategy):
    run = trained.shards[strategy]
    folder = run.checkpoints / "checkpoint-6"
    assert seal.verify(folder) is None
    assert not list(folder.glob("*.safetensors"))
    together.assert_resumed(run, trained.whole[strategy])
    together.assert_plain(run.model, trained.alone.model)
    with pytest.raises(BadInput, match=r"holds no config\.json"):
        find_source(str(folder))


def test_a_base_that_is_not_finite_ends_every_rank_before_the_step(trained):
    for code, reason in left(trained.diverged, 1):
        assert code is Exit.FATAL
        assert "model.norm.weight holds values that are not finite numbers" in reason
    assert not logged(trained.diverged, "loss")


@pytest.mark.parametrize("strategy", SPOILED)
def test_a_gradient_that_is_not_finite_on_one_rank_ends_every_rank_with_the_rows_of_all(trained, strategy):
    codes, reasons = zip(*left(trained.spoiled[strategy], 1), strict=True)
    assert set(codes) == {Exit.FATAL}
    assert len(set(reasons)) == 1
    assert reasons[0].startswith("the gradient of step 2 is not a finite number; its rows: ")
    assert len(re.findall(r":\d+", reasons[0].split("its rows: ")[1])) == 8
    assert len(logged(trained.spoiled[strategy], "loss")) == 1


@pytest.mark.parametrize("strategy", SPOILED)
def test_a_skipped_step_is_skipped_by_every_rank_and_changes_nothing(trained, strategy):
    run = trained.skipped[strategy]
    assert [event["step"] for event in run.events() if event["event"] == "step skipped"] == [2]
    assert [code for code, _ in left(run, 1)] == [Exit.FINISHED, Exit.FINISHED]
    expected = weights(trained.skipped_alone.model)
    for name, tensor in weights(run.model).items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-3, atol=1e-4)


def test_four_ranks_give_the_results_of_one(workplace, plan):
    alone = workplace.attempt(plan("alone")).run
    run = adopted(plan("four", hardware__gpus_per_node=4))
    together.start([attempt(run)], ranks=4)
    for report in ran(run, 1, ranks=4):
        assert_ran("ddp", report, ranks=4)
    assert_same(run, alone)


# --- refusals ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("strategy", "library"), [("fsdp", "FSDP"), *((strategy, "DeepSpeed") for strategy in ZERO)])
def test_a_strategy_without_its_settings_is_refused(workplace, plan, strategy, library):
    tried = workplace.attempt(sharded(plan("bare"), strategy))
    assert tried.code is Exit.FATAL
    assert f"launch/accelerate.yaml: found no {library} settings" in tried.reason


def test_zero_without_the_deepspeed_settings_file_is_refused(plan):
    made = sharded(plan("run", **TWO), "zero2")
    run = adopted(made)
    (run.launch / "deepspeed.json").unlink()
    with pytest.raises(BadInput, match=r"deepspeed\.json: no such file; submit the job again"):
        sharding.configure(made, run)


def test_zero_without_deepspeed_is_refused_with_the_command_that_installs_it(plan, monkeypatch):
    made = sharded(plan("run", **TWO), "zero2")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(BadInput, match=r"zero2 needs deepspeed, .*pip install --no-build-isolation"):
        sharding.configure(made, adopted(made))


@pytest.mark.parametrize("strategy", ["fsdp", *ZERO])
def test_a_strategy_that_accelerate_would_not_run_is_refused(plan, strategy):
    accelerator = SimpleNamespace(
        is_fsdp2=False, distributed_type=DistributedType.MULTI_CPU, device=torch.device("cpu")
    )
    with pytest.raises(BadInput, match=rf"{strategy}, but accelerate would run MULTI_CPU on cpu; write ddp"):
        sharding.check_active(sharded(plan("run"), strategy), accelerator)
    sharding.check_active(plan("run"), accelerator)


def test_another_stage_of_zero_is_refused(plan):
    accelerator = SimpleNamespace(
        distributed_type=DistributedType.DEEPSPEED,
        device=torch.device("cpu"),
        state=SimpleNamespace(deepspeed_plugin=SimpleNamespace(zero_stage=2)),
    )
    with pytest.raises(BadInput, match="zero3, but accelerate would run DEEPSPEED"):
        sharding.check_active(sharded(plan("run"), "zero3"), accelerator)
    sharding.check_active(sharded(plan("run"), "zero2"), accelerator)


@pytest.mark.parametrize(
    ("before", "now", "fits"),
    [
        ("fsdp", "fsdp", True),
        ("none", "ddp", True),
        ("ddp", "fsdp", False),
        ("fsdp", "none", False),
        ("zero2", "zero3", False),
        ("zero1", "ddp", False),
        ("ddp", "zero1", False),
    ],
)
def test_a_checkpoint_of_a_strategy_with_another_state_layout_is_refused(tmp_path, plan, before, now, fits):
    (tmp_path / "partial").mkdir()
    seal.seal(tmp_path / "partial", tmp_path / "checkpoint-3", sharding=before, ranks=1)
    with nullcontext() if fits else pytest.raises(BadInput, match=f"write {before}, or .* --fresh"):
        sharding.check_strategy(tmp_path / "checkpoint-3", sharded(plan("run"), now))


@pytest.mark.parametrize("strategy", ZERO)
def test_a_checkpoint_of_another_offload_is_refused(tmp_path, plan, strategy):
    (tmp_path / "partial").mkdir()
    facts = {"sharding": strategy, "ranks": 2, "offload": "none"}
    seal.seal(tmp_path / "partial", tmp_path / "checkpoint-3", **facts)
    make = {"hardware__sharding": strategy, **TWO}
    sharding.check_strategy(tmp_path / "checkpoint-3", plan("run", **make))
    with pytest.raises(BadInput, match=r"offload: optimizer, but checkpoint-3 was saved with none, .* --fresh"):
        sharding.check_strategy(tmp_path / "checkpoint-3", plan("run", **make, hardware__offload="optimizer"))


@pytest.mark.parametrize(
    ("strategy", "fits"), [("ddp", True), ("fsdp", True), *((strategy, False) for strategy in ZERO)]
)
def test_a_checkpoint_of_another_number_of_ranks_is_refused_where_deepspeed_wrote_it(tmp_path, plan, strategy, fits):
    (tmp_path / "partial").mkdir()
    seal.seal(tmp_path / "partial", tmp_path / "checkpoint-3", sharding=strategy, ranks=4)
    problem = rf"2 ranks, but checkpoint-3 was saved under {strategy} on 4, .* use 4, or .* --fresh"
    with nullcontext() if fits else pytest.raises(BadInput, match=problem):
        sharding.check_strategy(tmp_path / "checkpoint-3", sharded(plan("run", **TWO), strategy))
