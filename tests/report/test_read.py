"""A run is read in whatever state it is, and no file in it breaks a report."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hatrain.report import page, several
from hatrain.report.read import read_run
from tests.report.runs import a_finished_run, a_run, begin, end, evaluate, log

FILES = ("record.jsonl", "metrics.jsonl", "evaluation.json", "failures-after.jsonl", "lease.json")
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=6,
)
KEYS = st.sampled_from(
    [
        "event",
        "attempt",
        "when",
        "loss",
        "code",
        "reasons",
        "seconds",
        "step",
        "steps",
        "test_loss",
        "tokens_per_second",
        "memory",
        "before",
        "after",
        "skipped",
        "by_language",
        "strict_accuracy",
        "strict_interval",
        "requests",
        "problems",
        "kind",
        "answer",
        "host",
        "versions",
        "predicted",
        "device",
        "allocated",
        "reserved",
        "ended",
        "ranks",
        "time",
    ]
)
LINES = st.lists(
    st.dictionaries(KEYS, VALUES | st.sampled_from(["attempt begun", "outcome", "test loss", "memory"]), max_size=6),
    max_size=4,
)


def test_a_finished_run_has_its_curves_attempts_and_failures(tmp_path):
    run = read_run(a_finished_run(tmp_path))
    assert (run.state, run.reason) == ("finished", "")
    assert [attempt.outcome for attempt in run.attempts] == ["requeue", "finished"]
    assert run.attempts[0].reasons == ("entry: stopped after step 500: preempted",)
    assert [attempt.steps for attempt in run.attempts] == [(10, 500), (510, 1000)]
    assert run.seconds == 122
    assert len(run.failures) == 25 and len(run.failures[0]["problems"]) == 3
    assert (run.test_loss("before"), run.figure("after", "strict_accuracy")) == (6.9, 0.8)


def test_a_step_that_two_attempts_logged_counts_once_with_the_later_values(tmp_path):
    run = a_run(tmp_path)
    log(run, [10, 20], 40, attempt=1)
    log(run, [20, 30], 40, attempt=2)
    read = read_run(run)
    losses = [line for line in read.metrics if "loss" in line]
    assert [(line["step"], line["attempt"]) for line in losses] == [(10, 1), (20, 2), (30, 2)]


def test_a_line_about_test_requests_takes_no_other_lines_place(tmp_path):
    run = a_run(tmp_path)
    log(run, [10], 10)
    with run.metrics.open("a") as file:
        file.write('{"attempt": 1, "step": 10, "steps": 10, "test_accuracy": 0.5}\n')
    lines = read_run(run).metrics
    assert [next(name for name in ("loss", "test_loss", "test_accuracy") if name in line) for line in lines] == [
        "loss",
        "test_accuracy",
        "test_loss",
    ]


def test_a_run_that_has_not_started(tmp_path):
    run = read_run(a_run(tmp_path))
    assert (run.state, run.attempts, run.metrics, run.evaluation) == ("not started", (), (), {})


def test_a_running_run(tmp_path):
    run = a_run(tmp_path)
    begin(run, 1)
    with run.lease.held():
        read = read_run(run)
    assert (read.state, read.attempts[0].outcome) == ("running", "running")


def test_a_run_whose_attempt_was_killed(tmp_path):
    run = a_run(tmp_path)
    begin(run, 1)
    read = read_run(run)
    assert (read.state, read.attempts[0].outcome) == ("lost", "ended without a word")


@pytest.mark.parametrize(("code", "state"), [(75, "stopped"), (78, "failed"), (1, "failed")])
def test_a_run_that_ended_says_why(tmp_path, code, state):
    run = a_run(tmp_path)
    begin(run, 1)
    end(run, 1, code, training="a reason")
    read = read_run(run)
    assert (read.state, read.reason) == (state, "training: a reason")


def test_a_value_that_is_no_number_is_left_out(tmp_path):
    run = a_run(tmp_path)
    log(run, [1], 30)
    with run.metrics.open("a") as file:
        file.write('{"step": 2, "loss": NaN}\n{"step": 3, "loss": 1e999}\n{"step": 3, "loss": 1' + "0" * 400 + "}\n")
    assert [line["step"] for line in read_run(run).metrics] == [1]
    assert all(math.isfinite(value) for value in read_run(run).metrics[0].values())


@settings(max_examples=30)
@given(content=st.dictionaries(st.sampled_from(FILES), LINES), evaluation=st.dictionaries(KEYS, VALUES))
def test_whatever_is_in_the_files_of_a_run_a_page_is_written(content, evaluation, tmp_path_factory):
    pytest.importorskip("plotly")
    folder = tmp_path_factory.mktemp("run")
    run = a_run(folder)
    evaluate(run, 0.5)
    for name, lines in content.items():
        (run.folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    run.evaluation.write_text(
        json.dumps({"before": evaluation, "after": {**evaluation, "by_language": {"en": evaluation}}})
    )
    assert page.report([run]).startswith("<!doctype html>")
    assert page.report([run, run]).startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (2e-5, "2e-05"),
        (True, "True"),
        (None, ""),
        (["mlp", "attention"], "mlp, attention"),
        ([{"path": "a.jsonl", "weight": 1.0}, {"path": "b.jsonl", "weight": 0.5}], "a.jsonl, b.jsonl × 0.5"),
    ],
)
def test_a_value_of_a_job_is_shown_as_a_user_writes_it(value, text):
    assert several.shown(value) == text
