"""Trackers show each logged step under one id, wait for nobody, and fail without ending the training."""

import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from hatrain.contract.run import Exit, RunDirectory
from hatrain.train import trackers
from hatrain.train.trackers import Guarded, tracked_id
from tests.plans import a_plan
from tests.train.conftest import weights

STATE = SimpleNamespace(global_step=3, max_steps=3)


class Recording:
    """A tracker that keeps what it gets. `act` is called at each step."""

    name = "recording"

    def __init__(self, act=lambda: None):
        self.act, self.calls = act, []

    def begin(self, args, state, model):
        self.calls.append(("begin", state.global_step))
        return "nowhere"

    def log(self, args, state, values):
        self.act()
        self.calls.append((state.global_step, values))

    def end(self, args, state):
        self.calls.append(("end", state.global_step))


def fail(error: BaseException):
    def act():
        raise error

    return act


@pytest.fixture
def run(tmp_path) -> RunDirectory:
    plan = a_plan(tmp_path)
    made = RunDirectory(Path(plan.paths.run))
    made.adopt(plan, {})
    return made


def tracked(monkeypatch, *made) -> None:
    monkeypatch.setattr("hatrain.train.trainer.trackers", lambda plan, run: [Guarded(each, run) for each in made])


def test_every_logged_step_reaches_a_tracker_once_and_in_order(workplace, monkeypatch):
    tracker = Recording()
    tracked(monkeypatch, tracker)
    plan = workplace.plan()
    workplace.attempt(plan, stop_at=4)
    workplace.attempt(plan)
    # The test loss of the step that the second attempt went on from came before its first step.
    assert [step for step, _ in tracker.calls] == ["begin", 1, 2, 3, 4, "end", "begin", 4, 5, 6, 7, 8, 8, "end"]
    values = tracker.calls[1][1]
    assert {"loss", "learning_rate", "gradient_norm", "tokens_per_second", "memory", "epoch"} <= set(values)
    assert "test_loss" in tracker.calls[7][1]


def test_training_ends_with_the_same_weights_when_a_tracker_fails(workplace, monkeypatch, capfd):
    plain = workplace.attempt(workplace.plan("plain"))
    tracked(monkeypatch, Recording(fail(RuntimeError("no network"))), Recording(fail(SystemExit(1))))
    failing = workplace.attempt(workplace.plan("failing"))
    assert failing.code is Exit.FINISHED
    one, other = weights(plain.run.model), weights(failing.run.model)
    assert all(torch.equal(one[name], other[name]) for name in one)
    said = capfd.readouterr().out
    assert "recording tracks this attempt no further, training goes on: RuntimeError: no network\n" in said
    reasons = [event["reason"] for event in failing.run.events() if event["event"] == "tracker failed"]
    assert sorted(reasons) == ["RuntimeError: no network", "SystemExit: 1"]


def test_a_tracker_that_does_not_answer_is_left_behind(run, monkeypatch, capsys):
    monkeypatch.setattr(trackers, "LAST_SECONDS", 0.05)
    answers = threading.Event()
    hanging, fine = Guarded(Recording(answers.wait), run), Guarded(Recording(), run)
    for each in (hanging, fine):
        each.begin(None, STATE, None)
        each.log(None, STATE, {"loss": 1.0})
    deadline = time.monotonic() + 600
    while len(fine.tracker.calls) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    trackers.end([hanging, fine], None, STATE)
    answers.set()
    assert "training goes on: still sending 0.05 s after the last step" in capsys.readouterr().out
    assert ("end", 3) not in hanging.tracker.calls


def test_a_tracker_far_behind_is_left_out_and_nothing_waits(run, monkeypatch, capsys):
    monkeypatch.setattr(trackers, "MOST_WAITING", 5)
    answers = threading.Event()
    guarded = Guarded(Recording(answers.wait), run)
    for _ in range(20):
        guarded.log(None, STATE, {"loss": 1.0})
    answers.set()
    assert "5 logged steps behind" in capsys.readouterr().out


def test_a_secret_in_a_trackers_error_is_hidden(run, monkeypatch, capsys):
    monkeypatch.setenv("WANDB_API_KEY", "0123456789abcdef")
    guarded = Guarded(Recording(fail(ValueError("bad key 0123456789abcdef"))), run)
    guarded.log(None, STATE, {"loss": 1.0})
    trackers.end([guarded], None, STATE)
    assert "ValueError: bad key ***" in capsys.readouterr().out
    assert "0123456789abcdef" not in run.record_file.read_text()


def test_the_id_stays_the_same_until_the_run_begins_anew(tmp_path):
    def started(name: str, time: str) -> tuple:
        plan = a_plan(tmp_path, name=name)
        run = RunDirectory(tmp_path / f"{name}-{time}" / name)
        run.folder.mkdir(parents=True)
        run.record_file.write_text(f'{{"time": "{time}", "event": "submitted"}}\n')
        return plan, run

    first = started("kitchen", "10:00")
    one = tracked_id(*first)
    first[1].record("attempt begun", attempt=2)
    assert tracked_id(*first) == one and len(one) == 16
    # Set aside and begun anew, or another name.
    assert len({one, tracked_id(*started("kitchen", "11:00")), tracked_id(*started("hall", "10:00"))}) == 3


def test_without_trackers_nothing_but_the_runs_own_files_is_written(workplace):
    run = workplace.attempt(workplace.plan(logging__trackers=[])).run
    assert not run.tensorboard.exists() and not run.trackers.exists()
    assert run.metrics.exists()
