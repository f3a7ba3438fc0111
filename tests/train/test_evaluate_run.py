"""The evaluation at the end of a run: before and after training, kept over a stop."""

import json
import re

from hatrain.cli.summary import paths, rows
from hatrain.contract.run import Exit
from hatrain.evaluate import run as evaluation
from hatrain.runtime import counting
from hatrain.runtime.stop import Stop


def evaluate(tried, plan):
    return evaluation.evaluate_run(plan, tried.run, tried.attempt)


def test_a_run_is_evaluated_before_and_after_training(workplace, capsys):
    plan = workplace.plan(evaluation__requests=6)
    tried = workplace.attempt(plan)
    assert evaluate(tried, plan) == (Exit.FINISHED, "evaluated")
    figures = json.loads(tried.run.evaluation.read_text())
    assert set(figures) == {"before", "after"}
    for when in figures:
        assert figures[when]["requests"] >= 6
        assert 0 <= figures[when]["strict_accuracy"] <= 1
    losses = {event["when"]: event["loss"] for event in tried.run.events() if event["event"] == "test loss"}
    assert {when: figures[when]["loss"] for when in figures} == losses
    assert (tried.run.folder / "failures-after.jsonl").exists()
    table = {what: (before, after) for what, before, after in rows(tried.run)}
    assert table["test loss"] == (f"{losses['before']:.3f}", f"{losses['after']:.3f}")
    assert any("strict accuracy" in what for what in table)
    assert dict(paths(tried.run, workplace.folder))["model"] == "runs/run/model"


def test_the_test_loss_and_the_evaluation_say_how_far_they_are(workplace, capsys):
    workplace.monkeypatch.setattr(counting, "FIRST_SECONDS", 0.0)
    plan = workplace.plan(evaluation__requests=6, evaluation__sample="all", method__packing="off")
    evaluate(workplace.attempt(plan), plan)
    lines = capsys.readouterr().out.splitlines()
    assert any(re.fullmatch(r"test loss: \d+ of 20 rows, [\d,.]+ rows/s, \d+ s left", line) for line in lines)
    # They come in one batch, and all are answered at once: what is left is judged.
    for when in ("before", "after"):
        assert any(line.startswith(f"evaluation {when} training: 1 of ") for line in lines)


def test_an_evaluation_resumes_after_a_stop(workplace, capsys):
    plan = workplace.plan(evaluation__requests=6)
    tried = workplace.attempt(plan)
    original = evaluation._evaluate

    def stopped_after_the_first(plan, run, attempt, when, rows):
        if when == "after":
            attempt.request_stop(Stop("the test", requeue=True))
        return original(plan, run, attempt, when, rows)

    with workplace.monkeypatch.context() as patch:
        patch.setattr(evaluation, "_evaluate", stopped_after_the_first)
        code, reason = evaluate(tried, plan)
    assert (code, reason) == (Exit.REQUEUE, "stopped while evaluating the model after training")
    assert set(json.loads(tried.run.evaluation.read_text())) == {"before"}
    (tried.attempt.folder / "STOP").unlink()
    capsys.readouterr()
    assert evaluate(tried, plan)[0] is Exit.FINISHED
    output = capsys.readouterr().out
    assert "before training" not in output
    assert "after training" in output


def test_rows_that_cannot_be_judged_do_not_fail_a_trained_run(workplace):
    plan = workplace.plan(evaluation__requests=6)
    tried = workplace.attempt(plan)
    bad = workplace.folder / "bad.jsonl"
    turns = [
        {"from": "human", "value": "turn it on"},
        {"from": "gpt", "value": "ok\n```homeassistant\n{not json\n```"},
    ]
    bad.write_text(json.dumps({"conversations": turns}) + "\n")
    other = plan.model_copy(
        update={"job": plan.job.model_copy(update={"data": plan.job.data.model_copy(update={"test": str(bad)})})}
    )
    code, reason = evaluate(tried, other)
    assert code is Exit.FINISHED
    assert reason.startswith("not evaluated: ")
    assert "skipped" in json.loads(tried.run.evaluation.read_text())
