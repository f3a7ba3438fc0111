"""Submitting to this machine, as a person does: the real command and the real chain, a pretended trainer."""

import json
import os
import signal

import pytest

from hatrain.contract.run import RunDirectory
from tests.launch.desk import a_desk


@pytest.fixture
def desk(tmp_path):
    with a_desk(tmp_path) as desk:
        yield desk


def test_a_followed_run_shows_its_output_and_where_its_things_are(desk):
    code, out, err = desk.hatrain("submit", "kitchen", "--follow")
    assert code == 0, err
    assert "training finish in attempt 1" in out
    assert "kitchen: finished (0)" in out
    assert "model   runs/kitchen/model" in out
    assert (desk.folder / "models" / "kitchen" / "weights").exists()


def test_the_record_says_who_submitted_what(desk):
    desk.hatrain("submit", "jobs/kitchen.yaml", "--follow", "--set", "seed=7")
    submitted = desk.run.events()[0]
    assert submitted["event"] == "submitted"
    assert submitted["command"] == "hatrain submit jobs/kitchen.yaml --follow --set seed=7"
    assert submitted["versions"]["python"]
    assert {"user", "host", "commit", "cluster"} <= set(submitted)


def test_a_run_that_faults_is_started_again(desk):
    code, out, _ = desk.hatrain("submit", "kitchen", "--follow", act="die,finish")
    assert code == 0
    assert "starting again" in out
    assert len(desk.run.all_attempts()) == 2


def test_a_run_that_only_faults_ends_when_its_retries_are_used_up(desk):
    code, out, _ = desk.hatrain("submit", "kitchen", "--follow", act="die")
    assert code == 78
    assert "retries used up" in out
    assert len(desk.run.all_attempts()) == 2


def test_what_cannot_succeed_is_not_repeated(desk):
    code, out, _ = desk.hatrain("submit", "kitchen", "--follow", act="fatal")
    assert code == 78
    assert "out of GPU memory" in out
    assert len(desk.run.all_attempts()) == 1


def test_a_run_that_nobody_follows_goes_on_by_itself(desk):
    code, out, _ = desk.hatrain("submit", "kitchen", act="die,finish")
    assert code == 0
    assert "hatrain logs kitchen --follow" in out
    assert "hatrain stop kitchen" in out
    desk.until(desk.run.done.exists, "the run finishes")


def test_a_run_outlives_the_one_who_follows_it(desk):
    follower = desk.start("submit", "kitchen", "--follow", act="stop")
    desk.until(desk.training, "training begins")
    follower.terminate()
    follower.wait(timeout=30)
    assert not desk.left()
    assert desk.hatrain("stop", "kitchen")[0] == 0
    desk.until(desk.left, "the run leaves")


def test_ctrl_c_asks_the_run_to_save_and_stays_until_it_has(desk):
    follower = desk.start("submit", "kitchen", "--follow", act="slow-stop")
    desk.until(desk.training, "training begins")
    follower.send_signal(signal.SIGINT)
    desk.until((desk.run.attempts / "1" / "STOP").exists, "the stop file")
    follower.send_signal(signal.SIGINT)
    out, err = follower.communicate(timeout=30)
    assert follower.returncode == 130
    assert err.count("Ctrl-C: kitchen: attempt 1 saves a checkpoint") == 1
    assert "rank 0: saved" in out
    assert json.loads((desk.run.attempts / "1" / "STOP").read_text())["requeue"] is False


def test_a_stop_from_outside_ends_here_and_says_how_to_go_on(desk):
    follower = desk.start("submit", "kitchen", "--follow", act="stop")
    desk.until(desk.training, "training begins")
    os.kill(desk.run.lease.holder()["pid"], signal.SIGTERM)
    out, _ = follower.communicate(timeout=30)
    assert follower.returncode == 75
    assert "the same command goes on" in out


def test_a_job_submitted_again_goes_on_in_the_same_folder(desk):
    follower = desk.start("submit", "kitchen", "--follow", act="stop,finish")
    desk.until(desk.training, "training begins")
    assert desk.hatrain("stop", "kitchen")[0] == 0
    assert follower.wait(timeout=30) == 130
    code, out, _ = desk.hatrain("submit", "kitchen", "--follow", act="stop,finish")
    assert code == 0
    assert "attempt 2" in out
    assert "attempt 1" not in out, "the output of the earlier submission is not shown again"


def test_a_run_in_progress_is_not_submitted_twice(desk):
    desk.hatrain("submit", "kitchen", act="stop")
    desk.until(desk.training, "training begins")
    for words in (["submit", "kitchen"], ["submit", "kitchen", "--fresh"]):
        code, _, err = desk.hatrain(*words)
        assert code == 2
        assert "kitchen: is running already" in err
        assert "hatrain stop kitchen" in err
    assert len(desk.run.all_attempts()) == 1


def test_another_job_of_the_same_name_is_refused_unless_the_old_one_is_set_aside(desk):
    desk.hatrain("submit", "kitchen", "--follow")
    code, _, err = desk.hatrain("submit", "kitchen", "--set", "method.epochs=2")
    assert code == 2
    assert "method.epochs: 1.0 → 2.0" in err
    code, _, err = desk.hatrain("submit", "kitchen", "--follow", "--fresh", "--set", "method.epochs=2")
    assert code == 0
    assert "set aside" in err
    aside = [path for path in desk.run.folder.parent.iterdir() if path.name != "kitchen"]
    assert [RunDirectory(path).done.exists() for path in aside] == [True]


def test_a_finished_job_is_not_run_again(desk):
    desk.hatrain("submit", "kitchen", "--follow")
    code, out, err = desk.hatrain("submit", "kitchen", "--follow")
    assert code == 0
    assert "finished before" in err
    assert "runs/kitchen/model" in out
    assert len(desk.run.all_attempts()) == 1


def test_what_is_missing_is_named_before_anything_is_written(desk):
    (desk.folder / "train.jsonl").unlink()
    code, _, err = desk.hatrain("submit", "kitchen", "--set", "model.base=./nowhere")
    assert code == 78
    assert "data.train: train.jsonl: no such file" in err
    assert "model.base: ./nowhere: no such folder" in err
    assert not desk.run.folder.exists()


def test_a_dry_run_writes_and_starts_nothing(desk):
    code, out, _ = desk.hatrain("submit", "kitchen", "--dry-run")
    assert code == 0
    assert f"bash {desk.run.launch / 'local.sh'} {desk.run.folder}" in out
    assert not desk.run.folder.exists()


def test_stopping_what_does_not_run_says_so(desk):
    desk.hatrain("submit", "kitchen", "--follow")
    code, _, err = desk.hatrain("stop", "kitchen")
    assert code == 1
    assert "kitchen: has finished; there is nothing to stop" in err


def test_a_run_that_does_not_exist_is_refused_with_the_nearest_name(desk):
    desk.hatrain("submit", "kitchen", "--follow")
    code, _, err = desk.hatrain("stop", "kichen")
    assert code == 2
    assert "did you mean kitchen?" in err
