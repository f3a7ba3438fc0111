"""Submitting to this machine."""

import json
import os
import signal

import pytest

from hatrain.contract.run import RunDirectory
from tests.launch.workspace import DEADLINE, a_workspace


@pytest.fixture
def workspace(tmp_path):
    with a_workspace(tmp_path) as workspace:
        yield workspace


def test_a_followed_run_shows_its_output_and_the_paths_of_its_files(workspace):
    code, out, err = workspace.hatrain("submit", "kitchen", "--follow")
    assert code == 0, err
    assert "training finish in attempt 1" in out
    assert "kitchen: finished (0)" in out
    assert "model   runs/kitchen/model" in out
    assert (workspace.folder / "models" / "kitchen" / "weights").exists()


def test_the_record_has_who_submitted_what(workspace):
    workspace.hatrain("submit", "jobs/kitchen.yaml", "--follow", "--set", "seed=7")
    submitted = workspace.run.events()[0]
    assert submitted["event"] == "submitted"
    assert submitted["command"] == "hatrain submit jobs/kitchen.yaml --follow --set seed=7"
    assert submitted["versions"]["python"]
    assert {"user", "host", "commit", "cluster"} <= set(submitted)


def test_a_run_is_restarted_after_a_fault(workspace):
    code, out, _ = workspace.hatrain("submit", "kitchen", "--follow", behavior="die,finish")
    assert code == 0
    assert "restarting" in out
    assert len(workspace.run.all_attempts()) == 2


def test_a_run_that_only_faults_ends_when_its_retries_are_used_up(workspace):
    code, out, _ = workspace.hatrain("submit", "kitchen", "--follow", behavior="die")
    assert code == 78
    assert "retries used up" in out
    assert len(workspace.run.all_attempts()) == 2


def test_a_run_that_cannot_succeed_is_not_restarted(workspace):
    code, out, _ = workspace.hatrain("submit", "kitchen", "--follow", behavior="fatal")
    assert code == 78
    assert "out of GPU memory" in out
    assert len(workspace.run.all_attempts()) == 1


def test_a_run_continues_without_being_followed(workspace):
    code, out, _ = workspace.hatrain("submit", "kitchen", behavior="die,finish")
    assert code == 0
    assert "hatrain logs kitchen --follow" in out
    assert "hatrain stop kitchen" in out
    workspace.until(workspace.run.done.exists, "the run finishes")


def test_a_run_outlives_the_command_that_follows_it(workspace):
    follower = workspace.start("submit", "kitchen", "--follow", behavior="stop")
    workspace.until(workspace.is_training, "training starts")
    follower.terminate()
    follower.wait(timeout=DEADLINE)
    assert not workspace.has_ended()
    assert workspace.hatrain("stop", "kitchen")[0] == 0
    workspace.until(workspace.has_ended, "the run ends")


def test_ctrl_c_asks_the_run_to_save_and_waits_until_it_has(workspace):
    follower = workspace.start("submit", "kitchen", "--follow", behavior="slow-stop")
    workspace.until(workspace.is_training, "training starts")
    follower.send_signal(signal.SIGINT)
    workspace.until((workspace.run.attempts / "1" / "STOP").exists, "the stop file")
    follower.send_signal(signal.SIGINT)
    out, err = follower.communicate(timeout=DEADLINE)
    assert follower.returncode == 130
    assert err.count("Ctrl-C: kitchen: attempt 1 saves a checkpoint") == 1
    assert "rank 0: saved" in out
    assert json.loads((workspace.run.attempts / "1" / "STOP").read_text())["requeue"] is False


def test_a_stop_from_outside_ends_the_following_with_a_hint_how_to_continue(workspace):
    follower = workspace.start("submit", "kitchen", "--follow", behavior="stop")
    workspace.until(workspace.is_training, "training starts")
    os.kill(workspace.run.lease.holder()["pid"], signal.SIGTERM)
    out, _ = follower.communicate(timeout=DEADLINE)
    assert follower.returncode == 75
    assert "the same command continues" in out


def test_a_job_submitted_again_continues_in_the_same_folder(workspace):
    follower = workspace.start("submit", "kitchen", "--follow", behavior="stop,finish")
    workspace.until(workspace.is_training, "training starts")
    assert workspace.hatrain("stop", "kitchen")[0] == 0
    assert follower.wait(timeout=DEADLINE) == 130
    code, out, _ = workspace.hatrain("submit", "kitchen", "--follow", behavior="stop,finish")
    assert code == 0
    assert "attempt 2" in out
    assert "attempt 1" not in out, "the output of the earlier submission is not shown again"


def test_a_running_job_is_not_submitted_twice(workspace):
    workspace.hatrain("submit", "kitchen", behavior="stop")
    workspace.until(workspace.is_training, "training starts")
    for words in (["submit", "kitchen"], ["submit", "kitchen", "--fresh"]):
        code, _, err = workspace.hatrain(*words)
        assert code == 2
        assert "kitchen: is running already" in err
        assert "hatrain stop kitchen" in err
    assert len(workspace.run.all_attempts()) == 1


def test_another_job_of_the_same_name_is_refused_unless_the_old_one_is_moved_aside(workspace):
    workspace.hatrain("submit", "kitchen", "--follow")
    code, _, err = workspace.hatrain("submit", "kitchen", "--set", "method.epochs=2")
    assert code == 2
    assert "method.epochs: 1.0 → 2.0" in err
    code, _, err = workspace.hatrain("submit", "kitchen", "--follow", "--fresh", "--set", "method.epochs=2")
    assert code == 0
    assert "moved the old run to" in err
    aside = [path for path in workspace.run.folder.parent.iterdir() if path.name != "kitchen"]
    assert [RunDirectory(path).done.exists() for path in aside] == [True]


def test_a_finished_job_does_not_run_again(workspace):
    workspace.hatrain("submit", "kitchen", "--follow")
    code, out, err = workspace.hatrain("submit", "kitchen", "--follow")
    assert code == 0
    assert "has finished already" in err
    assert "runs/kitchen/model" in out
    assert len(workspace.run.all_attempts()) == 1


def test_a_missing_input_is_named_before_anything_is_written(workspace):
    (workspace.folder / "train.jsonl").unlink()
    code, _, err = workspace.hatrain("submit", "kitchen", "--set", "model.base=./nowhere")
    assert code == 78
    assert "data.train: train.jsonl: no such file" in err
    assert "model.base: ./nowhere: no such folder" in err
    assert not workspace.run.folder.exists()


def test_a_dry_run_writes_and_starts_nothing(workspace):
    code, out, _ = workspace.hatrain("submit", "kitchen", "--dry-run")
    assert code == 0
    assert f"bash {workspace.run.launch / 'local.sh'} {workspace.run.folder}" in out
    assert not workspace.run.folder.exists()


def test_stopping_a_finished_run_says_that_it_has_finished(workspace):
    workspace.hatrain("submit", "kitchen", "--follow")
    code, _, err = workspace.hatrain("stop", "kitchen")
    assert code == 1
    assert "kitchen: has finished; there is nothing to stop" in err


def test_a_run_that_does_not_exist_is_refused_with_the_nearest_name(workspace):
    workspace.hatrain("submit", "kitchen", "--follow")
    code, _, err = workspace.hatrain("stop", "kichen")
    assert code == 2
    assert "did you mean kitchen?" in err
