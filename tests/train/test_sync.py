"""Copies at checkpoints.sync_to: whatever the target does, training goes on, and no copy that is still needed goes."""

import threading

import pytest

from hatrain.contract import sync
from hatrain.contract.run import Exit, RunDirectory
from hatrain.contract.sync import SyncTarget
from hatrain.runtime import seal
from hatrain.train import flow


@pytest.fixture
def run(tmp_path):
    return RunDirectory(tmp_path / "runs" / "kitchen")


def checkpoint(run, step):
    partial = run.checkpoints / ".partial"
    seal.write_text(partial / "weights", str(step))
    seal.seal(partial, run.checkpoints / f"checkpoint-{step}", step=step)


def steps(folder):
    return sorted(int(path.name.rpartition("-")[2]) for path in folder.iterdir())


def unreachable(target):
    raise ConnectionError(f"no route to {target}")


def test_an_unreachable_target_stops_neither_the_start_nor_the_end(workplace, monkeypatch, capsys):
    monkeypatch.setattr(sync, "url_to_fs", unreachable)
    tried = workplace.attempt(workplace.plan(checkpoints__sync_to="ftp://ada:hunter22@far/x", data__test=None))
    assert tried.code is Exit.FINISHED
    failed = [event for event in tried.run.events() if event["event"] == "sync failed"]
    assert failed
    assert failed[0]["target"] == "ftp://ada:***@far/x"
    assert failed[0]["reason"] == "ConnectionError: no route to ftp://ada:***@far/x"
    assert "hunter22" not in capsys.readouterr().out


def test_a_target_that_never_answers_delays_only_the_end(workplace, monkeypatch):
    answer = threading.Event()
    monkeypatch.setattr(sync, "url_to_fs", lambda target: answer.wait())
    monkeypatch.setattr(flow, "PATIENCE_SECONDS", 0.1)
    plan = workplace.plan(checkpoints__sync_to="/far", checkpoints__save_steps=1, data__test=None)
    tried = workplace.attempt(plan)
    answer.set()
    assert tried.code is Exit.FINISHED
    (failed,) = [event for event in tried.run.events() if event.get("what") == "the rest"]
    assert (failed["event"], "not copied within 0.1 s" in failed["reason"]) == ("sync failed", True)


def test_only_copies_older_than_all_that_are_here_are_removed(run, tmp_path):
    """A newer one may be all that is left of a checkpoint that was damaged here."""
    target = SyncTarget(str(tmp_path / "far"), run)
    for step in (2, 4, 6):
        checkpoint(run, step)
    target.checkpoints()
    target.wait(600)
    far = tmp_path / "far" / "kitchen" / "checkpoints"
    assert steps(far) == [2, 4, 6]
    for step in (2, 6):
        seal.remove(run.checkpoints / f"checkpoint-{step}")
    target.checkpoints()
    target.wait(600)
    assert steps(far) == [4, 6]
    assert seal.verify(far / "checkpoint-6") is None


def test_a_copy_that_was_cut_short_is_made_again(run, tmp_path):
    target = SyncTarget(str(tmp_path / "far"), run)
    checkpoint(run, 2)
    seal.write_text(tmp_path / "far" / "kitchen" / "checkpoints" / "checkpoint-2" / "weights", "ha")
    target.checkpoints()
    target.wait(600)
    assert seal.verify(tmp_path / "far" / "kitchen" / "checkpoints" / "checkpoint-2") is None
