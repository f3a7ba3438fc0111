"""Looks at the test rows during training: the model is that of the best, whatever interrupts the run, and asking
changes nothing that is trained."""

import pytest
import torch
from safetensors.torch import load_file

from hatrain.cli.summary import rows
from hatrain.contract.run import Exit
from hatrain.evaluate import generation
from hatrain.runtime import seal
from hatrain.runtime.stop import Stop
from hatrain.train import flow
from hatrain.train.asking import Asker, rows_to_ask
from hatrain.train.looks import Looks
from launch.status import kept as shown
from tests.train.conftest import metrics, weights
from tests.train.test_dpo import dpo_plan, store  # noqa: F401 - fixtures

LORA = {"rank": 2, "modules": ["q_proj", "embed_tokens"]}
BEST = {"evaluation__keep": "best", "evaluation__eval_steps": 2, "checkpoints__save_total_limit": 1}


def script(monkeypatch, losses, seen=None):
    """Let looks find these losses, by step. What they would have found goes to `seen`."""
    original = Looks.figures

    def figures(self):
        found = original(self)
        if found is None:
            return None
        step = self.trainer.state.global_step
        if seen is not None:
            seen[step] = found["eval_loss"]
        return {**found, "eval_loss": losses[step]}

    monkeypatch.setattr(Looks, "figures", figures)


def event(run, name):
    return next(event for event in run.events() if event["event"] == name)


def saved(folder):
    return load_file(next(folder.glob("*model.safetensors")))


def assert_equal(one, other):
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    "lora",
    [None, LORA, pytest.param({**LORA, "merge": True}, marks=pytest.mark.long)],
    ids=["all weights", "lora", "merged"],
)
def test_the_model_is_that_of_the_best_look_to_the_bit(workplace, monkeypatch, lora, capsys):
    seen = {}
    script(monkeypatch, {2: 3.0, 4: 1.0, 6: 2.0, 8: 1.5}, seen)
    tried = workplace.attempt(workplace.plan(**BEST, method__lora=lora))
    assert tried.code is Exit.FINISHED, tried.reason
    run = tried.run
    # Only the best and the newest are left, although one checkpoint is kept.
    assert sorted(path.name for path in run.checkpoints.iterdir()) == ["checkpoint-4", "checkpoint-8"]
    result = run.adapter if lora else run.model
    kept, checkpoint = saved(result), saved(run.checkpoints / "checkpoint-4")
    # PEFT also writes the frozen embeddings below an adapter into a checkpoint.
    assert_equal(kept, {name: checkpoint[name] for name in kept})
    assert any(not torch.equal(kept[name], saved(run.checkpoints / "checkpoint-8")[name]) for name in kept)
    chosen = event(run, "kept")
    assert (chosen["step"], chosen["trained"], chosen["ended_early"]) == (4, 8, False)
    assert [look["loss"] for look in chosen["looks"]] == [3.0, 1.0, 2.0, 1.5]
    assert "kept step 4 of 8: test loss 1.0000, the lowest of 4 looks" in capsys.readouterr().out
    after = next(event for event in run.events() if event["event"] == "test loss" and event["when"] == "after")
    assert after["loss"] == seen[4]
    assert seal.facts(result)["steps"] == 4
    assert ("kept", "", "step 4 of 8") in [*rows(run)]


def test_a_last_step_that_is_no_multiple_of_eval_steps_is_a_look_too(workplace, monkeypatch):
    script(monkeypatch, {3: 3.0, 6: 2.0, 8: 1.0})
    run = workplace.attempt(workplace.plan(**{**BEST, "evaluation__eval_steps": 3})).run
    assert event(run, "kept")["step"] == 8
    assert_equal(weights(run.model), weights(run.checkpoints / "checkpoint-8"))


@pytest.mark.parametrize("stop_at", [*(pytest.param(step, marks=pytest.mark.long) for step in (2, 3, 5)), 4, 8])
def test_a_resumed_run_chooses_as_one_without_a_stop(workplace, monkeypatch, stop_at):
    script(monkeypatch, {2: 3.0, 4: 1.0, 6: 2.0, 8: 1.5})
    whole = workplace.attempt(workplace.plan("whole", **BEST)).run
    plan = workplace.plan("parts", **BEST)
    assert workplace.attempt(plan, stop_at=stop_at).code is Exit.REQUEUE
    again = workplace.attempt(plan)
    assert again.code is Exit.FINISHED
    one, other = ({**event(run, "kept"), "attempt": 0, "time": ""} for run in (whole, again.run))
    assert one == other
    assert_equal(weights(whole.model), weights(again.run.model))


def test_a_run_without_gain_ends_and_is_finished(workplace, monkeypatch, capsys):
    script(monkeypatch, {2: 1.0, 4: 2.0, 6: 3.0, 8: 0.5})
    tried = workplace.attempt(workplace.plan(**BEST, evaluation__stop_after=2))
    assert (tried.code, tried.reason) == (Exit.FINISHED, "trained")
    assert max(line["step"] for line in metrics(tried.run)) == 6
    assert_equal(weights(tried.run.model), weights(tried.run.checkpoints / "checkpoint-2"))
    assert "training ends after step 6: 2 looks without gain since step 2" in capsys.readouterr().out
    assert shown(tried.run) == (
        "ended after step 6: 2 looks without gain; kept step 2: test loss 1.0000, the lowest of 3 looks"
    )


def test_a_run_that_had_ended_for_want_of_gain_trains_no_further_step(workplace, monkeypatch):
    script(monkeypatch, {2: 1.0, 4: 2.0, 6: 3.0, 8: 0.5})
    plan = workplace.plan(**BEST, evaluation__stop_after=2)

    def lost(*arguments):
        raise RuntimeError("the machine was lost")

    with monkeypatch.context() as patch:
        patch.setattr(flow, "save_model", lost)
        assert workplace.attempt(plan).code is Exit.FAULT
    again = workplace.attempt(plan)
    assert again.code is Exit.FINISHED
    assert not [line for line in metrics(again.run) if line["attempt"] == 2]
    assert_equal(weights(again.run.model), weights(again.run.checkpoints / "checkpoint-2"))


def test_with_keep_last_a_run_that_ends_early_keeps_its_last_step(workplace, monkeypatch):
    script(monkeypatch, {2: 1.0, 4: 2.0, 6: 3.0, 8: 0.5})
    plan = workplace.plan(evaluation__eval_steps=2, evaluation__stop_after=2)
    run = workplace.attempt(plan).run
    assert_equal(weights(run.model), weights(run.checkpoints / "checkpoint-6"))
    assert shown(run) == "ended after step 6: 2 looks without gain"


def test_a_best_checkpoint_that_is_damaged_is_named_and_the_next_best_is_kept(workplace, monkeypatch):
    script(monkeypatch, {2: 3.0, 4: 1.0, 6: 2.0, 8: 2.5})
    plan = workplace.plan(**{**BEST, "checkpoints__save_steps": 2, "checkpoints__save_total_limit": 9})

    def damaged(self):
        file = self.trainer.context.run.checkpoints / "checkpoint-4/model.safetensors"
        file.write_bytes(file.read_bytes()[:-1])
        original(self)

    original = Looks.keep
    monkeypatch.setattr(Looks, "keep", damaged)
    run = workplace.attempt(plan).run
    assert event(run, "best passed over")["step"] == 4
    assert "bytes of" in event(run, "best passed over")["reason"]
    assert event(run, "kept")["step"] == 6
    assert_equal(weights(run.model), weights(run.checkpoints / "checkpoint-6"))


def test_a_copy_elsewhere_holds_the_checkpoints_that_are_kept_and_no_other(workplace, monkeypatch):
    script(monkeypatch, {2: 3.0, 4: 1.0, 6: 2.0, 8: 1.5})
    target = workplace.folder / "elsewhere"
    run = workplace.attempt(workplace.plan(**BEST, checkpoints__sync_to=str(target))).run
    here, there = (
        sorted(path.name for path in folder.iterdir()) for folder in (run.checkpoints, target / "run/checkpoints")
    )
    assert here == there == ["checkpoint-4", "checkpoint-8"]


# --- asking ---------------------------------------------------------------------------------------------------

ASKED = {"evaluation__metric": "accuracy", "evaluation__requests": 6, "evaluation__eval_steps": 2}


@pytest.mark.parametrize(
    ("lora", "is_own"),
    [
        (LORA, True),
        (None, False),
        pytest.param(None, True, marks=pytest.mark.long),
        pytest.param(LORA, False, marks=pytest.mark.long),
    ],
)
def test_asking_changes_nothing_that_is_trained(workplace, monkeypatch, lora, is_own, capsys):
    plain = workplace.attempt(workplace.plan("plain", method__lora=lora)).run
    if not is_own:
        monkeypatch.setattr(generation, "why_not", lambda *arguments: "the test")
    tried = workplace.attempt(workplace.plan("asked", method__lora=lora, **ASKED))
    assert tried.code is Exit.FINISHED, tried.reason
    result = "adapter" if lora else "model"
    assert_equal(saved(plain.folder / result), saved(tried.run.folder / result))
    lines = {line["step"]: line for line in metrics(tried.run) if "test_accuracy" in line}
    assert sorted(lines) == [2, 4, 6, 8]
    assert all(0 <= line["test_accuracy"] <= 1 for line in lines.values())
    assert ("answered by transformers' generate()" in capsys.readouterr().out) is not is_own


def test_the_accuracy_of_a_look_is_that_of_an_evaluation_of_its_checkpoint(workplace):
    from hatrain.data.rows import read_rows
    from hatrain.evaluate import evaluate_model
    from hatrain.evaluate.sources import find_source, load

    rate = {"method__learning_rate": 3e-2, "method__learning_rate_schedule": "constant", "method__epochs": 3}
    saved_at = {"checkpoints__save_steps": 2, "checkpoints__save_total_limit": 12}
    plan = workplace.plan(**ASKED, **rate, **saved_at)
    run = workplace.attempt(plan).run
    asked, apart = rows_to_ask(list(read_rows(workplace.inputs / "test.jsonl")), 6, plan.job.seed)
    assert apart
    found = {line["step"]: line["test_accuracy"] for line in metrics(run) if "test_accuracy" in line}
    assert len(set(found.values())) > 1  # the model learns to end its answers
    for step in found:
        model, tokenizer = load(find_source(str(run.checkpoints / f"checkpoint-{step}")))
        assert evaluate_model(model, tokenizer, asked, today=run.today()).strict_accuracy == found[step]


def test_a_stop_while_asking_is_heard_and_the_look_comes_again(workplace, monkeypatch):
    changes = {**ASKED, "evaluation__keep": "best"}
    whole = workplace.attempt(workplace.plan("whole", **changes)).run
    plan = workplace.plan("parts", **changes)

    def stopping(self):
        if self.trainer.state.global_step == 4:
            self.trainer.context.attempt.request_stop(Stop("the test", requeue=True))
        return original(self)

    original = Asker.accuracy
    with monkeypatch.context() as patch:
        patch.setattr(Asker, "accuracy", stopping)
        tried = workplace.attempt(plan)
    assert (tried.code, tried.reason) == (Exit.REQUEUE, "stopped after step 4: the test")
    again = workplace.attempt(plan)
    assert again.code is Exit.FINISHED, again.reason
    one, other = ({**event(run, "kept"), "attempt": 0, "time": ""} for run in (whole, again.run))
    assert one == other
    assert_equal(weights(whole.model), weights(again.run.model))


def test_rows_that_cannot_be_judged_are_refused_before_the_first_step(workplace):
    bad = workplace.folder / "bad.jsonl"
    bad.write_text(
        '{"conversations": [{"from": "human", "value": "turn it on"},'
        ' {"from": "gpt", "value": "ok\\n```homeassistant\\n{not json\\n```"}]}\n'
    )
    tried = workplace.attempt(workplace.plan(**ASKED, data__test=str(bad)))
    assert tried.code is Exit.FATAL
    assert "bad.jsonl:1" in tried.reason
    assert not [*tried.run.checkpoints.glob("checkpoint-*")]


def test_requests_are_drawn_apart_from_those_of_the_evaluation_where_there_are_enough(inputs):
    from hatrain.data.rows import read_rows
    from hatrain.evaluate.requests import sample

    test = list(read_rows(inputs / "test.jsonl"))
    evaluated = {row.where for row in sample(test, 10, 5)}
    asked, apart = rows_to_ask(test, 10, 5)
    assert apart
    assert len(asked) == 10
    assert not evaluated & {row.where for row in asked}
    same, apart = rows_to_ask(test, 11, 5)
    assert not apart
    assert [row.where for row in same] == [row.where for row in sample(test, 11, 5)]


@pytest.mark.long
def test_asking_leaves_compiled_layers_as_they_are(workplace):
    pytest.importorskip("torch._inductor")
    compiled = {"hardware__compile": True}
    plain = workplace.attempt(workplace.plan("plain", **compiled))
    tried = workplace.attempt(workplace.plan("asked", **compiled, **ASKED))
    assert (plain.code, tried.code) == (Exit.FINISHED, Exit.FINISHED), tried.reason
    assert_equal(weights(plain.run.model), weights(tried.run.model))


@pytest.mark.long
def test_preference_training_keeps_its_best_look_too(dpo_plan, workplace, monkeypatch):  # noqa: F811
    plan = dpo_plan("best", evaluation__eval_steps=2, evaluation__keep="best", checkpoints__save_total_limit=1)
    script(monkeypatch, dict.fromkeys(range(100), 1.0))  # equals are no gain: the first is the best
    run = workplace.attempt(plan).run
    assert event(run, "kept")["step"] == 2
    assert_equal(weights(run.model), weights(run.checkpoints / "checkpoint-2"))
