"""Supervised fine-tuning of a model with a few thousand weights."""

import json
import math
import shutil

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from transformers import AutoModelForCausalLM, AutoTokenizer

from hatrain.contract.run import Exit
from hatrain.train.trainer import StepTrainer
from tests.train.conftest import house_rows, metrics, weights, write_rows


def ids_and_labels(tokenizer, row) -> tuple[list[int], list[int]]:
    """A row in the ChatML format, written out by hand."""
    ids, labels = [], []
    for turn in row["conversations"]:
        role = {"system": "system", "human": "user", "gpt": "assistant"}[turn["from"]]
        head = tokenizer(f"<|im_start|>{role}\n", add_special_tokens=False)["input_ids"]
        body = tokenizer(turn["value"] + "<|im_end|>", add_special_tokens=False)["input_ids"]
        tail = tokenizer("\n", add_special_tokens=False)["input_ids"]
        ids += head + body + tail
        labels += [-100] * len(head) + (body if role == "assistant" else [-100] * len(body)) + [-100] * len(tail)
    return ids, labels


def plain_loss(model, tokenizer, rows) -> float:
    """The mean loss of the replies' tokens, computed with nothing but transformers."""
    total = count = 0
    for row in rows:
        ids, labels = ids_and_labels(tokenizer, row)
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0, :-1]
        total += F.cross_entropy(logits, torch.tensor(labels[1:]), ignore_index=-100, reduction="sum").item()
        count += sum(label != -100 for label in labels[1:])
    return total / count


def test_a_run_learns_and_its_model_loads_with_plain_transformers(workplace):
    tried = workplace.attempt(workplace.plan(method__epochs=4, evaluation__sample="all"))
    assert (tried.code, tried.reason) == (Exit.FINISHED, "trained")
    test_loss = {event["when"]: event["loss"] for event in tried.run.events() if event["event"] == "test loss"}
    assert test_loss["after"] < 0.5 * test_loss["before"]
    rows = house_rows(20, 2)
    base, model = (AutoModelForCausalLM.from_pretrained(path) for path in (workplace.inputs / "base", tried.run.model))
    tokenizer = AutoTokenizer.from_pretrained(tried.run.model)
    assert tokenizer.chat_template
    assert model.config.use_cache
    assert plain_loss(base, tokenizer, rows) == pytest.approx(test_loss["before"], rel=1e-4)
    assert plain_loss(model, tokenizer, rows) == pytest.approx(test_loss["after"], rel=1e-4)


def test_each_test_loss_of_a_run_is_over_the_same_sample(workplace):
    original = StepTrainer.test_loss
    asked: list[list[int]] = []

    def test_loss(self, rows):
        asked.append(list(rows))
        return original(self, rows)

    workplace.monkeypatch.setattr(StepTrainer, "test_loss", test_loss)
    assert workplace.attempt(workplace.plan()).code is Exit.FINISHED
    assert len(asked) > 2 and len(asked[0]) == 8
    assert all(rows == asked[0] for rows in asked)


def test_the_micro_batch_size_changes_no_result(workplace):
    """Nor does the padding: the loss is weighted over the whole step."""
    ends = []
    for micro in (1, 8):
        plan = workplace.plan(f"micro-{micro}", method__micro_batch_size=micro, model__base=without_dropout(workplace))
        ends.append(workplace.attempt(plan))
    first, second = (weights(tried.run.model) for tried in ends)
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=1e-3, atol=1e-4)
    assert [line["loss"] for line in metrics(ends[0].run) if "loss" in line] == pytest.approx(
        [line["loss"] for line in metrics(ends[1].run) if "loss" in line], rel=1e-4
    )


def without_dropout(workplace) -> str:
    folder = workplace.folder / "base-without-dropout"
    if not folder.exists():
        shutil.copytree(workplace.inputs / "base", folder)
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "attention_dropout": 0.0}))
    return str(folder)


@pytest.mark.parametrize("order", ["shuffled", "by_length"])
def test_a_resumed_run_ends_with_the_same_weights_to_the_bit(workplace, order):
    whole = workplace.attempt(workplace.plan("whole", data__order=order, method__epochs=2))
    plan = workplace.plan("parts", data__order=order, method__epochs=2)
    stopped = workplace.attempt(plan, stop_at=5)
    assert stopped.code is Exit.REQUEUE
    assert "after step 5: the test" in stopped.reason
    again = workplace.attempt(plan, stop_at=11, requeue=False)
    assert again.code is Exit.STOPPED
    finished = workplace.attempt(plan)
    assert finished.code is Exit.FINISHED
    one, other = weights(whole.run.model), weights(finished.run.model)
    assert all(torch.equal(one[name], other[name]) for name in one)
    losses = [[line["loss"] for line in metrics(run) if "loss" in line] for run in (whole.run, finished.run)]
    assert losses[0] == losses[1]


def test_computing_the_test_loss_changes_no_weights(workplace):
    often = workplace.attempt(workplace.plan("often", evaluation__eval_steps=1))
    never = workplace.attempt(workplace.plan("never", data__test=None))
    one, other = weights(often.run.model), weights(never.run.model)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert not any("test_loss" in line for line in metrics(never.run))


def test_a_stop_before_the_first_step_ends_the_run_at_once(workplace):
    from hatrain.contract.run import RunDirectory
    from hatrain.runtime.stop import Stop

    plan = workplace.plan()
    original = RunDirectory.new_attempt

    def stopped_attempt(self):
        attempt = original(self)
        attempt.request_stop(Stop("early", requeue=True))
        return attempt

    workplace.monkeypatch.setattr(RunDirectory, "new_attempt", stopped_attempt)
    tried = workplace.attempt(plan)
    assert (tried.code, tried.reason) == (Exit.REQUEUE, "stopped before the first step: early")
    assert not tried.run.model.exists()


def test_a_stop_interrupts_the_test_loss(workplace):
    from hatrain.runtime.stop import Stop

    original = StepTrainer.test_loss

    def test_loss(self, rows):
        if self.state.global_step == 4:
            self.context.attempt.request_stop(Stop("in evaluation", requeue=True))
        return original(self, rows)

    workplace.monkeypatch.setattr(StepTrainer, "test_loss", test_loss)
    tried = workplace.attempt(workplace.plan())
    assert tried.code is Exit.REQUEUE
    assert sorted(path.name for path in tried.run.checkpoints.iterdir()) == ["checkpoint-3", "checkpoint-4"]


@pytest.mark.parametrize("when", [0, 4, 8], ids=["before training", "in training", "after training"])
def test_a_test_loss_that_was_cut_short_is_computed_again_without_a_trace(workplace, when):
    """At each of its places; the weights are those of a run that nothing interrupted."""
    from hatrain.runtime.stop import Stop
    from hatrain.train.trainer import StepTrainer

    whole = workplace.attempt(workplace.plan("whole", checkpoints__save_steps=100)).run
    original = StepTrainer.test_loss

    def test_loss(self, rows):
        if self.state.global_step == when and self.context.attempt.number == 1:
            self.context.attempt.request_stop(Stop("in the test loss", requeue=True))
        return original(self, rows)

    workplace.monkeypatch.setattr(StepTrainer, "test_loss", test_loss)
    plan = workplace.plan("parts", checkpoints__save_steps=100)
    assert workplace.attempt(plan).code is Exit.REQUEUE
    again = workplace.attempt(plan)
    assert again.code is Exit.FINISHED
    one, other = weights(whole.model), weights(again.run.model)
    assert all(torch.equal(one[name], other[name]) for name in one)
    losses = [[line["loss"] for line in run.events() if line["event"] == "test loss"] for run in (whole, again.run)]
    assert losses[0] == losses[1]
    tested = [
        {line["step"]: line["test_loss"] for line in metrics(run) if "test_loss" in line} for run in (whole, again.run)
    ]
    assert tested[0] == tested[1]
    trained = [line["step"] for line in metrics(again.run) if "loss" in line]
    assert len(trained) == len(set(trained))


def test_a_finish_that_was_interrupted_trains_nothing_again(workplace, monkeypatch):
    from hatrain.train import flow

    def killed(*arguments):
        raise KeyboardInterrupt

    plan = workplace.plan(checkpoints__save_steps=100)
    with monkeypatch.context() as patch:
        patch.setattr(flow, "save_model", killed)
        assert workplace.attempt(plan).code is Exit.FAULT
    steps = len(metrics(workplace.attempt(plan).run))
    run = workplace.attempt(plan).run
    assert run.model.exists()
    assert steps == len(metrics(run))


def test_checkpoints_are_rotated_by_step(workplace):
    tried = workplace.attempt(workplace.plan(checkpoints__save_steps=1, checkpoints__save_total_limit=2))
    assert sorted(path.name for path in tried.run.checkpoints.iterdir()) == ["checkpoint-7", "checkpoint-8"]


def test_without_save_steps_each_epoch_is_saved(workplace):
    tried = workplace.attempt(workplace.plan(checkpoints__save_steps=None, method__epochs=2))
    assert sorted(path.name for path in tried.run.checkpoints.iterdir()) == ["checkpoint-16", "checkpoint-8"]


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


DAMAGES = {
    "an empty folder": lambda folder: (shutil.rmtree(folder), folder.mkdir()),
    "a truncated optimizer": lambda folder: cut(folder / "optimizer.pt"),
    "truncated weights": lambda folder: cut(folder / "model.safetensors"),
    "no trainer state": lambda folder: (folder / "trainer_state.json").unlink(),
    "no manifest": lambda folder: (folder / "manifest.json").unlink(),
    "a flipped byte": lambda folder: (folder / "scheduler.pt").write_bytes(
        bytes([(folder / "scheduler.pt").read_bytes()[0] ^ 1]) + (folder / "scheduler.pt").read_bytes()[1:]
    ),
}


def test_every_damaged_checkpoint_is_skipped_by_name(workplace, capsys):
    plan = workplace.plan(checkpoints__save_steps=1, checkpoints__save_total_limit=9)
    stopped = workplace.attempt(plan, stop_at=7)
    for step, damage in zip(range(2, 8), DAMAGES.values(), strict=True):
        damage(stopped.run.checkpoints / f"checkpoint-{step}")
    capsys.readouterr()
    finished = workplace.attempt(plan)
    assert finished.code is Exit.FINISHED
    assert "resuming from checkpoint-1\n" in capsys.readouterr().out
    skipped = [event for event in finished.run.events() if event["event"] == "checkpoint passed over"]
    assert [event["checkpoint"] for event in skipped] == [f"checkpoint-{step}" for step in range(7, 1, -1)]
    assert len({event["reason"] for event in skipped}) > 3
    assert {path.name for path in (finished.run.checkpoints / "set-aside").iterdir()} == {
        f"checkpoint-{step}" for step in range(2, 8)
    }


def test_a_checkpoint_of_another_job_is_passed_over_and_set_aside(workplace, capsys):
    """A LoRA checkpoint in a run of all weights has other files, and would be a traceback."""
    lora = workplace.plan("lora", method__lora={"rank": 2, "modules": ["q_proj"]})
    other = workplace.attempt(lora, stop_at=5).run
    plan = workplace.plan()
    run = workplace.attempt(plan, stop_at=2).run
    shutil.copytree(other.checkpoints / "checkpoint-5", run.checkpoints / "checkpoint-5")
    capsys.readouterr()
    finished = workplace.attempt(plan)
    assert finished.code is Exit.FINISHED
    out = capsys.readouterr().out
    assert "skipped checkpoint-5: it is another job's" in out
    assert "resuming from checkpoint-2\n" in out
    assert (run.checkpoints / "set-aside/checkpoint-5/adapter_model.safetensors").exists()


def test_other_rows_than_those_of_the_checkpoint_are_refused(workplace):
    own = workplace.folder / "own.jsonl"
    write_rows(own, house_rows(40, 1))
    plan = workplace.plan(data__train=str(own))
    workplace.attempt(plan, stop_at=2)
    write_rows(own, house_rows(40, 9))
    tried = workplace.attempt(plan)
    assert tried.code is Exit.FATAL
    assert f"{own}: has changed since checkpoint-2 was trained on it" in tried.reason


def test_a_loss_that_is_not_finite_is_fatal(workplace):
    tried = workplace.attempt(workplace.plan(method__learning_rate=1e18, method__gradient_clip=0))
    assert tried.code is Exit.FATAL
    assert "training diverged" in tried.reason


def test_out_of_gpu_memory_is_fatal(workplace):
    from hatrain.train.sft import SftTrainer

    def full(self, model, batch):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    workplace.monkeypatch.setattr(SftTrainer, "micro_batch_loss", full)
    tried = workplace.attempt(workplace.plan(data__test=None))
    assert tried.code is Exit.FATAL
    assert "micro_batch_size" in tried.reason


def test_any_other_error_is_a_fault_that_may_be_retried(workplace):
    from hatrain.train.sft import SftTrainer

    def broken(self, model, batch):
        raise RuntimeError("a link went down")

    with workplace.monkeypatch.context() as patch:
        patch.setattr(SftTrainer, "micro_batch_loss", broken)
        tried = workplace.attempt(workplace.plan())
    assert (tried.code, tried.reason) == (Exit.FAULT, "RuntimeError: a link went down")
    assert workplace.attempt(workplace.plan()).code is Exit.FINISHED


def test_a_base_without_a_chat_template_is_refused_with_the_remedy(workplace):
    base = workplace.folder / "bare"
    shutil.copytree(workplace.inputs / "base", base)
    plan = workplace.plan(model__base=str(base))
    (base / "chat_template.jinja").unlink()
    tried = workplace.attempt(plan)
    assert tried.code is Exit.FATAL
    assert "add_chatml_tokens" in tried.reason


def test_the_learning_rate_rises_from_above_zero_and_is_a_cosine_that_ends_at_zero(workplace):
    tried = workplace.attempt(workplace.plan(method__learning_rate=1e-3, method__learning_rate_warmup=0.25))
    rates = [line["learning_rate"] for line in metrics(tried.run) if "loss" in line]
    warmup, total = 2, 8
    expected = [
        1e-3
        * (
            (step + 1) / (warmup + 1)
            if step < warmup
            else 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))
        )
        for step in range(total)
    ]
    assert rates == pytest.approx(expected) and rates[0] == pytest.approx(1e-3 / 3)


def test_the_first_step_of_a_warm_up_changes_the_weights(workplace):
    changes = {"method__learning_rate": 1e-2, "method__learning_rate_warmup": 1.0, "method__epochs": 0.01}
    tried = workplace.attempt(workplace.plan(**changes))
    (line,) = [line for line in metrics(tried.run) if "loss" in line]
    assert line["step"] == 1 and line["learning_rate"] == pytest.approx(5e-3)
    before, after = weights(workplace.inputs / "base"), weights(tried.run.model)
    assert any(not torch.equal(before[name], after[name].to(before[name].dtype)) for name in before)


def test_every_step_is_logged_with_its_metrics(workplace):
    tried = workplace.attempt(workplace.plan())
    trained = [line for line in metrics(tried.run) if "loss" in line]
    assert [line["step"] for line in trained] == list(range(1, 9))
    for name in (
        "loss",
        "learning_rate",
        "gradient_norm",
        "tokens_per_second",
        "supervised_tokens_per_second",
        "memory",
        "epoch",
    ):
        assert all(math.isfinite(line[name]) for line in trained), name
    assert all(line["tokens_per_second"] > line["supervised_tokens_per_second"] for line in trained)
    test_steps = [line["step"] for line in metrics(tried.run) if "test_loss" in line]
    assert test_steps == [4, 8]


def test_tensorboard_shows_no_step_twice_after_a_resume(workplace):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    plan = workplace.plan(checkpoints__save_steps=3, checkpoints__save_total_limit=9)
    workplace.attempt(plan, stop_at=5)
    # The checkpoint of the stop is lost, so the next attempt repeats steps.
    run = workplace.attempt(plan, stop_at=6).run
    shutil.rmtree(run.checkpoints / "checkpoint-5", ignore_errors=True)
    shutil.rmtree(run.checkpoints / "checkpoint-6", ignore_errors=True)
    workplace.attempt(plan)
    board = EventAccumulator(str(run.tensorboard))
    board.Reload()
    assert [point.step for point in board.Scalars("train/loss")] == list(range(1, 9))


def test_an_overlong_row_is_dropped_and_counted(workplace, capsys):
    tried = workplace.attempt(workplace.plan(method__ctx_size=80))
    assert tried.code is Exit.FINISHED
    assert "longer than ctx_size dropped" in capsys.readouterr().out


def test_checkpoints_and_the_model_are_copied_to_sync_to(workplace):
    from hatrain.runtime import seal

    target = workplace.folder / "elsewhere"
    tried = workplace.attempt(
        workplace.plan(checkpoints__sync_to=str(target), checkpoints__save_steps=2, checkpoints__save_total_limit=2)
    )
    assert tried.code is Exit.FINISHED
    copied = target / "run"
    assert sorted(path.name for path in (copied / "checkpoints").iterdir()) == [
        "checkpoint-6",
        "checkpoint-8",
    ]
    for folder in (*(copied / "checkpoints").iterdir(), copied / "model"):
        assert seal.verify(folder) is None


def test_a_failed_copy_is_reported_and_does_not_end_the_run(workplace, capsys):
    file = workplace.folder / "file"
    file.write_text("not a folder")
    tried = workplace.attempt(workplace.plan(checkpoints__sync_to=str(file)))
    assert tried.code is Exit.FINISHED
    assert "not copied to" in capsys.readouterr().out
    assert any(event["event"] == "sync failed" for event in tried.run.events())


def test_an_unknown_protocol_in_sync_to_is_refused(workplace):
    tried = workplace.attempt(workplace.plan(checkpoints__sync_to="carrier-pigeon://loft"))
    assert tried.code is Exit.FATAL
    assert "checkpoints.sync_to" in tried.reason
