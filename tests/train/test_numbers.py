"""Losses, gradients and weights that are not finite: a run ends before they spoil a checkpoint, or skips the step."""

import json
import re
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from hatrain.contract.run import Exit
from hatrain.runtime import seal
from hatrain.train.trainer import StepTrainer
from tests.train.conftest import house_rows, metrics, spoil_gradient, weights, write_rows


@pytest.fixture
def spoil(monkeypatch):
    """Makes the gradient (or the loss) of some steps not-a-number, while the loss is finite."""

    def in_steps(*steps: int, loss: bool = False) -> None:
        spoil_gradient(monkeypatch, *steps, loss=loss)

    return in_steps


@pytest.mark.parametrize("lora", [None, {"rank": 4}], ids=["full", "lora"])
def test_a_base_that_holds_such_numbers_is_named_and_no_row_is(workplace, lora):
    broken = shutil.copytree(workplace.inputs / "base", workplace.folder / "broken")
    state = load_file(broken / "model.safetensors")
    state["model.norm.weight"][0] = torch.nan
    save_file(state, broken / "model.safetensors", {"format": "pt"})
    tried = workplace.attempt(workplace.plan(model__base=str(broken), method__lora=lora))
    assert (tried.code, checkpoints_of(tried.run)) == (Exit.FATAL, [])
    assert tried.reason.startswith(f"model.base: {broken}: ")
    assert "model.norm.weight holds values that are not finite numbers; download the model again" in tried.reason


def checkpoints_of(run) -> list[str]:
    return sorted(path.name for path in run.checkpoints.glob("checkpoint-*"))


@pytest.mark.parametrize("loss", [False, True], ids=["gradient", "loss"])
def test_a_step_that_is_not_finite_ends_the_run_with_its_rows_and_keeps_the_last_checkpoint(workplace, spoil, loss):
    spoil(5, loss=loss)
    tried = workplace.attempt(workplace.plan(method__batch_size=4, checkpoints__save_total_limit=1))
    assert tried.code is Exit.FATAL
    (line,) = tried.reason.splitlines()
    assert line.startswith(f"the {'loss' if loss else 'gradient'} of step 5 is not a finite number; its rows: ")
    lines = re.findall(r"train\.jsonl:(\d+)", line)
    assert len(lines) == 4 and all(1 <= int(number) <= 60 for number in lines)
    assert checkpoints_of(tried.run) == ["checkpoint-3"]
    assert all(torch.isfinite(tensor).all() for tensor in weights(tried.run.checkpoints / "checkpoint-3").values())
    assert not tried.run.model.exists()


def test_a_row_is_named_by_its_line_in_its_own_file(workplace, spoil):
    spoil(1)
    first, second = workplace.folder / "first.jsonl", workplace.folder / "second.jsonl"
    write_rows(first, house_rows(2, 1))
    write_rows(second, house_rows(2, 2))
    second.write_text("\n\n" + second.read_text())
    tried = workplace.attempt(workplace.plan(data__train=[str(first), str(second)]))
    assert f"its rows: {first}:1, {first}:2, {second}:3, {second}:4: training diverged" in tried.reason


def test_the_last_step_leaves_no_model_either(workplace, spoil):
    spoil(8)
    tried = workplace.attempt(workplace.plan())
    assert (tried.code, checkpoints_of(tried.run)) == (Exit.FATAL, ["checkpoint-3", "checkpoint-6"])
    assert not tried.run.model.exists()


@pytest.mark.parametrize("loss", [False, True], ids=["gradient", "loss"])
def test_skip_steps_lets_a_run_skip_some(workplace, spoil, loss):
    spoil(2, 4, loss=loss)
    tried = workplace.attempt(workplace.plan(method__skip_steps=2))
    assert (tried.code, tried.reason) == (Exit.FINISHED, "trained")
    events = [event for event in tried.run.events() if event["event"] == "step skipped"]
    assert [event["step"] for event in events] == [2, 4]
    assert all("train.jsonl:" in event["rows"] for event in events)
    assert all(torch.isfinite(tensor).all() for tensor in weights(tried.run.model).values())


def test_a_step_beyond_skip_steps_ends_the_run_also_in_a_later_attempt(workplace, spoil):
    spoil(2, 6)
    plan = workplace.plan(method__skip_steps=1)
    workplace.attempt(plan, stop_at=4)
    tried = workplace.attempt(plan)
    assert tried.code is Exit.FATAL
    assert tried.reason.startswith("the gradient of step 6 is not a finite number")


def test_metrics_stay_json_when_a_number_is_not_finite(workplace, spoil):
    spoil(2, loss=True)
    tried = workplace.attempt(workplace.plan(method__skip_steps=1))

    def refuse(name):
        raise AssertionError(name)

    lines = [json.loads(line, parse_constant=refuse) for line in tried.run.metrics.read_text().splitlines()]
    assert [line["step"] for line in metrics(tried.run) if "loss" in line] == [1, 3, 4, 5, 6, 7, 8]
    assert len(lines) >= 8


def test_a_skipped_step_changes_no_weight(workplace, spoil):
    spoil(1, 2, 3, 4, 5, 6, 7, 8)
    run = workplace.attempt(workplace.plan(method__skip_steps=8)).run
    base = weights(workplace.inputs / "base")
    assert all(torch.equal(tensor, base[name]) for name, tensor in weights(run.model).items())


def test_weights_that_are_not_finite_are_never_sealed(workplace, monkeypatch):
    original = StepTrainer._get_learning_rate  # called after the optimizer has stepped

    def spoil(self):
        if self.state.global_step == 5:
            next(self.model.parameters()).data[0] = torch.nan
        return original(self)

    monkeypatch.setattr(StepTrainer, "_get_learning_rate", spoil)
    tried = workplace.attempt(workplace.plan(checkpoints__save_total_limit=1))
    assert tried.code is Exit.FATAL
    assert "after step 6 model.embed_tokens.weight has weights that are not finite" in tried.reason
    assert checkpoints_of(tried.run) == ["checkpoint-3"]


def test_weights_too_large_for_the_saved_dtype_are_refused(workplace):
    from hatrain.train.save_model import check_finite
    from hatrain.train.trainer import NotFiniteError

    with pytest.raises(NotFiniteError, match="head as float16 has weights that are not finite"):
        check_finite({"norm": torch.ones(2), "head": torch.tensor([1e5]).half()}, "as float16")


def test_json_has_null_for_what_is_no_number(tmp_path):
    seal.append_line(tmp_path / "lines", {"loss": float("nan"), "all": [1.5, float("-inf")]})
    assert (tmp_path / "lines").read_text() == '{"loss": null, "all": [1.5, null]}\n'


# --- the loss scaling of fp16, whose scaler runs on processors too -----------------------------------------------


@pytest.fixture
def scaled(monkeypatch):
    """Trains with fp16's loss scaling, beginning at a scale; the weights stay fp32, for fp16 itself needs a GPU."""
    original = StepTrainer.create_accelerator_and_postprocess

    def at(scale: float) -> None:
        def create(self):
            original(self)
            self.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=scale)

        monkeypatch.setattr(StepTrainer, "create_accelerator_and_postprocess", create)

    return at


def test_gradients_that_overflow_while_the_scale_is_found_end_nothing(workplace, scaled):
    scaled(2.0**127)
    tried = workplace.attempt(workplace.plan())
    assert (tried.code, tried.reason) == (Exit.FINISHED, "trained")
    assert not [event for event in tried.run.events() if event["event"] == "step skipped"]
    assert all(torch.isfinite(tensor).all() for tensor in weights(tried.run.model).values())


def test_a_gradient_that_no_scale_makes_finite_ends_the_run(workplace, scaled, spoil):
    scaled(4.0)
    spoil(*range(3, 9))
    tried = workplace.attempt(workplace.plan())
    assert tried.code is Exit.FATAL
    # Steps 3 and 4 halve the scale to 1, and are skipped by the scaler.
    assert tried.reason.startswith("the gradient of step 5 is not a finite number; its rows: ")


def test_a_loss_that_is_not_finite_ends_the_run_at_any_scale(workplace, scaled, spoil):
    scaled(2.0**16)
    spoil(2, loss=True)
    tried = workplace.attempt(workplace.plan())
    assert tried.reason.startswith("the loss of step 2 is not a finite number; its rows: ")
