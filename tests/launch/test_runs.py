"""Runs on this machine from their submission to their end: what every verb says of them, and what it returns."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from hatrain.contract.run import RunDirectory
from hatrain.runtime.lease import process_start
from tests.launch.desk import HATRAIN, a_desk


@pytest.fixture
def desk(tmp_path):
    with a_desk(tmp_path) as desk:
        yield desk


def line(out: str, run: str) -> list[str]:
    """The words of a run's line in a listing."""
    return next(words for words in map(str.split, out.splitlines()) if words and words[0] == run)


# --- status, runs, logs -------------------------------------------------------------------------------------


def test_a_run_is_running_stopping_and_stopped_as_it_is(desk):
    desk.hatrain("submit", "kitchen", act="slow-stop")
    desk.until(desk.training, "training begins")
    assert line(desk.hatrain("status", "kitchen")[1], "kitchen")[1:3] == ["desk", "running"]
    assert desk.hatrain("stop", "kitchen")[0] == 0
    out = desk.hatrain("status", "kitchen")[1]
    assert line(out, "kitchen")[2] == "stopping"
    assert "hatrain stop by" in out
    assert desk.hatrain("wait", "kitchen")[0] == 130
    out = desk.hatrain("status", "kitchen")[1]
    assert line(out, "kitchen")[2] == "stopped"
    assert "runs/kitchen/record.jsonl" in out


@pytest.mark.parametrize(("act", "word", "code"), [("finish", "finished", 0), ("fatal", "failed", 78)])
def test_waiting_ends_with_the_runs_own_code_and_says_why(desk, act, word, code):
    desk.hatrain("submit", "kitchen", act=act)
    told = desk.hatrain("wait", "kitchen")
    assert told[0] == code
    assert told[1].startswith(f"kitchen: {word} ({code})")
    assert ("out of GPU memory" in told[1]) == (act == "fatal")
    assert line(desk.hatrain("runs")[1], "kitchen")[2] == word


def test_a_run_whose_retries_are_used_up_has_failed(desk):
    desk.hatrain("submit", "kitchen", act="die")
    assert desk.hatrain("wait", "kitchen")[0] == 78
    assert "retries used up" in desk.hatrain("status", "kitchen")[1]


def test_a_run_that_was_killed_with_everything_is_lost_and_not_running(desk):
    desk.hatrain("submit", "kitchen", act="stop")
    desk.until(desk.training, "training begins")
    holder = desk.run.lease.holder()["pid"]
    os.killpg(os.getpgid(holder), signal.SIGKILL)
    code, out, _ = desk.hatrain("wait", "kitchen")
    assert (code, line(out, "kitchen:")[1]) == (1, "lost")


def test_logs_are_what_the_run_printed(desk):
    desk.hatrain("submit", "kitchen", act="die,finish")
    desk.hatrain("wait", "kitchen")
    code, out, _ = desk.hatrain("logs", "kitchen")
    assert code == 0
    assert "training die in attempt 1" in out
    assert "training finish in attempt 2" in out
    code, _, err = desk.hatrain("logs", "kitchen", "--node", "1")
    assert (code, "one node, 0" in err) == (2, True)


def test_following_the_logs_shows_all_to_the_end_and_returns_the_runs_own_code(desk):
    desk.hatrain("submit", "kitchen", act="slow-stop")
    desk.until(desk.training, "training begins")
    follower = desk.start("logs", "kitchen", "--follow")
    desk.hatrain("stop", "kitchen")
    out, _ = follower.communicate(timeout=60)
    assert follower.returncode == 130
    assert "training slow-stop in attempt 1" in out
    assert "rank 0: saved" in out


def test_ctrl_c_on_the_logs_leaves_the_run_alone(desk):
    desk.hatrain("submit", "kitchen", act="stop")
    desk.until(desk.training, "training begins")
    follower = desk.start("logs", "kitchen", "--follow")
    time.sleep(2)
    follower.send_signal(signal.SIGINT)
    _, err = follower.communicate(timeout=60)
    assert follower.returncode == 130
    assert "kitchen goes on" in err
    assert not desk.left()
    assert not (desk.run.attempts / "1" / "STOP").exists()


def test_no_run_at_all_is_said_so(desk):
    code, out, err = desk.hatrain("runs")
    assert (code, out) == (0, "")
    assert "there is no run in" in err


# --- cancel -------------------------------------------------------------------------------------------------


def test_a_cancelled_run_ends_and_is_not_started_again(desk):
    desk.hatrain("submit", "kitchen", act="stop")
    desk.until(desk.training, "training begins")
    assert desk.hatrain("cancel", "kitchen")[0] == 0
    desk.until(desk.left, "the run leaves")
    assert desk.hatrain("wait", "kitchen")[0] == 130
    assert len(desk.run.all_attempts()) == 1
    code, _, err = desk.hatrain("cancel", "kitchen")
    assert code == 1
    assert "there is nothing to cancel" in err


def test_a_cancelled_run_that_hears_nothing_is_killed(desk):
    desk.hatrain("submit", "kitchen", act="deaf")
    desk.until(desk.training, "training begins")
    trainer = subprocess.run(
        ["pgrep", "-f", f"fake_trainer.py train {desk.run.folder}"], capture_output=True, text=True
    ).stdout.split()
    assert trainer
    assert desk.hatrain("cancel", "kitchen")[0] == 0
    assert line(desk.hatrain("status", "kitchen")[1], "kitchen")[2] == "cancelled"
    assert [process_start(int(pid)) for pid in trainer] == [None] * len(trainer)


# --- a parent -----------------------------------------------------------------------------------------------


def child(desk) -> RunDirectory:
    (desk.folder / "jobs" / "child.yaml").write_text(
        (desk.folder / "jobs" / "kitchen.yaml").read_text().replace("kitchen", "child") + "after: kitchen\n"
    )
    return RunDirectory(desk.folder / "runs" / "child")


def test_a_child_waits_for_its_parent_and_then_runs(desk):
    run = child(desk)
    desk.hatrain("submit", "kitchen", act="finish-on-stop")
    desk.until(desk.training, "training begins")
    assert desk.hatrain("submit", "child")[0] == 0
    assert line(desk.hatrain("status", "child")[1], "child")[2] == "running"
    desk.hatrain("stop", "kitchen")
    assert desk.hatrain("wait", "child")[0] == 0
    assert run.done.stat().st_mtime > desk.run.done.stat().st_mtime


def test_a_child_that_waits_can_be_stopped(desk):
    run = child(desk)
    desk.hatrain("submit", "kitchen", act="stop")
    desk.until(desk.training, "training begins")
    desk.hatrain("submit", "child")
    desk.until(lambda: "waiting for" in desk.hatrain("logs", "child")[1], "the child waits")
    assert desk.hatrain("stop", "child")[0] == 0
    assert desk.hatrain("wait", "child")[0] == 130
    assert not [event for event in run.events() if event["event"] == "attempt begun"]
    desk.hatrain("stop", "kitchen")


def test_a_child_of_nobody_is_refused_with_the_nearest_name(desk):
    child(desk)
    desk.hatrain("submit", "kitchen", "--follow")
    code, _, err = desk.hatrain("submit", "child", "--set", "after=kichen")
    assert code == 2
    assert "after: kichen: no such run" in err
    assert "did you mean kitchen?" in err


def test_a_child_of_a_run_that_failed_is_refused(desk):
    child(desk)
    desk.hatrain("submit", "kitchen", "--follow", act="fatal")
    code, _, err = desk.hatrain("submit", "child")
    assert code == 2
    assert "after: kitchen: is failed and will not finish by itself" in err


# --- sweeps -------------------------------------------------------------------------------------------------


def test_a_sweep_makes_a_run_for_each_value_one_after_another(desk):
    code, out, err = desk.hatrain("submit", "kitchen", "--sweep", "method.learning_rate=1e-5,2e-5")
    assert code == 0, err
    assert "kitchen/sweep/0" in out
    assert desk.hatrain("wait", "kitchen")[0] == 0
    runs = [RunDirectory(desk.folder / "runs/kitchen/sweep" / number) for number in "01"]
    assert [run.plan().job.method.learning_rate for run in runs] == [1e-5, 2e-5]
    assert runs[0].done.stat().st_mtime <= runs[1].done.stat().st_mtime
    assert (desk.folder / "models/kitchen-sweep-1/weights").exists()
    listed = desk.hatrain("status", "kitchen")[1]
    assert [line(listed, f"kitchen/sweep/{number}")[2] for number in "01"] == ["finished", "finished"]
    assert "training finish in attempt 1" in desk.hatrain("logs", "kitchen/sweep/1")[1]
    assert "is a sweep; accepted here: one of its runs" in desk.hatrain("logs", "kitchen")[2]


def test_a_sweep_of_two_keys_makes_each_combination(desk):
    words = ["--sweep", "seed=1,2", "--sweep", "method.lora.modules=[mlp, attention],mlp", "--dry-run"]
    code, out, _ = desk.hatrain("submit", "kitchen", *words)
    assert code == 0
    assert out.count("/plan.json <==") == 4
    assert not (desk.folder / "runs").exists()


@pytest.mark.parametrize(
    ("sweep", "told"),
    [
        ("method.learning_rate", "found no KEY=V1,V2"),
        ("method.learning_rate=1", "found no KEY=V1,V2"),
        ("hardware.nodes=1,2", "hardware.nodes is the same for all runs of a sweep"),
        ("name=a,b", "name is the same for all runs"),
        ("method.epochs=1,many", "--sweep method.epochs=many: found 'many'; accepted: a number"),
    ],
)
def test_a_sweep_that_cannot_be_is_refused(desk, sweep, told):
    code, _, err = desk.hatrain("submit", "kitchen", "--sweep", sweep)
    assert code == 2
    assert told in err
    assert not (desk.folder / "runs").exists()


# --- diff and compare ---------------------------------------------------------------------------------------


def test_a_diff_shows_what_a_submission_would_change(desk):
    code, out, err = desk.hatrain("diff", "kitchen")
    assert code == 1
    assert "not submitted before" in err
    desk.hatrain("submit", "kitchen", "--follow")
    assert desk.hatrain("diff", "kitchen")[:2] == (0, "")
    code, out, err = desk.hatrain("diff", "kitchen", "--set", "logging.logging_steps=9")
    assert code == 1
    assert "-  logging_steps: 5" in out
    assert "+  logging_steps: 9" in out
    assert "another job" not in err
    assert "method.epochs: 1.0 → 2.0" in desk.hatrain("diff", "kitchen", "--set", "method.epochs=2")[2]


def test_two_runs_stand_side_by_side(desk):
    desk.hatrain("submit", "kitchen", "--follow")
    desk.hatrain("submit", "kitchen", "--follow", "--set", "name=hall", "--set", "method.epochs=2")
    code, out, _ = desk.hatrain("compare", "kitchen", "hall")
    assert code == 0
    assert line(out, "method.epochs") == ["method.epochs", "1.0", "2.0"]
    assert line(out, "state") == ["state", "finished", "finished"]
    assert "seed" not in out


# --- clusters -----------------------------------------------------------------------------------------------


def test_clusters_are_listed_with_a_users_own_first(desk, monkeypatch):
    own = desk.folder / ".config/hatrain/clusters"
    own.mkdir(parents=True)
    (own / "local.yaml").write_text("kind: local\n")
    (own / "broken.yaml").write_text("kind: slurm\npartitoin: gpu\n")
    told = subprocess.run(
        [*HATRAIN, "clusters"], env={**os.environ, "HOME": str(desk.folder)}, capture_output=True, text=True
    )
    assert told.returncode == 1
    assert line(told.stdout, "local") == ["local", "local", str(own / "local.yaml")]
    assert "partitoin: unknown key" in told.stderr
    assert "did you mean partition?" in told.stderr


def test_looking_at_runs_loads_nothing_heavy(desk):
    desk.hatrain("submit", "kitchen", "--follow")
    for words in (
        ["status", "kitchen"],
        ["runs"],
        ["logs", "kitchen"],
        ["compare", "kitchen", "kitchen"],
        ["clusters"],
    ):
        script = f"import sys\nfrom hatrain.cli import main\nmain({words!r})\nprint('torch' in sys.modules)"
        told = subprocess.run(
            [sys.executable, "-c", script], cwd=desk.folder, capture_output=True, text=True, timeout=60
        )
        assert told.stdout.splitlines()[-1] == "False", told.stderr


def test_a_sweep_on_this_machine_is_told_run_by_run_and_ends_as_one(desk):
    desk.hatrain("submit", "kitchen", "--sweep", "seed=1,2,3", act="stop")
    first = RunDirectory(desk.folder / "runs/kitchen/sweep/0")
    desk.until(lambda: (first.folder / "calls").exists(), "the first run is at work")
    listed = desk.hatrain("status", "kitchen")[1]
    assert [line(listed, f"kitchen/sweep/{number}")[2] for number in "012"] == ["running", "queued", "queued"]
    code, _, err = desk.hatrain("cancel", "kitchen/sweep/1")
    assert code == 2
    assert (
        "waits for its turn; on this machine a sweep is one process, which ends with: hatrain cancel kitchen"
        in err
    )
    assert desk.hatrain("stop", "kitchen/sweep/2")[0] == 1
    assert first.lease.holder()
    code, out, _ = desk.hatrain("stop", "kitchen")
    assert code == 0
    assert "kitchen/sweep/1: does not begin" in out
    assert desk.hatrain("wait", "kitchen")[0] == 130
    listed = desk.hatrain("status", "kitchen")[1]
    assert [line(listed, f"kitchen/sweep/{number}")[2] for number in "012"] == ["stopped"] * 3
    assert "its sweep ended before its turn" in listed


def test_a_run_of_a_sweep_that_failed_is_told_so_while_the_others_go_on(desk):
    desk.hatrain("submit", "kitchen", "--sweep", "seed=1,2", act="fatal")
    first = RunDirectory(desk.folder / "runs/kitchen/sweep/0")
    desk.until(lambda: any(event["event"] == "outcome" for event in first.events()), "the first run fails")
    assert line(desk.hatrain("status", "kitchen/sweep/0")[1], "kitchen/sweep/0")[2] == "failed"
    assert desk.hatrain("wait", "kitchen")[0] == 78


def test_a_whole_sweep_is_cancelled_with_one_word(desk):
    desk.hatrain("submit", "kitchen", "--sweep", "seed=1,2", act="stop")
    first = RunDirectory(desk.folder / "runs/kitchen/sweep/0")
    desk.until(lambda: (first.folder / "calls").exists(), "the first run is at work")
    code, out, _ = desk.hatrain("cancel", "kitchen")
    assert (code, out.count("cancelled")) == (0, 2)
    desk.until(lambda: first.lease.holder() is None, "the run leaves")
    assert not (desk.folder / "runs/kitchen/sweep/1/attempts").exists()


def test_a_sweep_that_cannot_be_written_whole_is_not_written_in_part(desk):
    desk.hatrain("submit", "kitchen", "--sweep", "seed=1,2")
    desk.hatrain("wait", "kitchen")
    plan = (desk.folder / "runs/kitchen/sweep/0/plan.json").read_bytes()
    words = ["submit", "kitchen", "--sweep", "seed=1,3", "--set", "logging.logging_steps=9"]
    code, _, err = desk.hatrain(*words)
    assert code == 2
    assert "seed: 2 → 3" in err
    assert (desk.folder / "runs/kitchen/sweep/0/plan.json").read_bytes() == plan


def test_a_sweep_is_not_put_into_a_run_nor_a_run_into_a_sweep(desk):
    desk.hatrain("submit", "kitchen", "--follow")
    code, _, err = desk.hatrain("submit", "kitchen", "--sweep", "seed=1,2")
    assert code == 2
    assert "holds a run; give the sweep another name" in err
    assert not (desk.run.folder / "sweep").exists()
    desk.hatrain("submit", "kitchen", "--sweep", "seed=1,2", "--set", "name=hall")
    desk.hatrain("wait", "hall")
    code, _, err = desk.hatrain("submit", "kitchen", "--set", "name=hall")
    assert code == 2
    assert "holds a sweep" in err


def test_a_run_of_an_earlier_version_is_listed_and_goes_on_when_it_is_submitted_again(desk):
    desk.hatrain("submit", "kitchen", "--follow", act="fatal")
    plan = json.loads(desk.run.plan_file.read_text())
    del plan["cluster_spec"], plan["resources"]
    desk.run.plan_file.write_text(json.dumps({**plan, "version": 1, "launcher": "local"}))
    code, out, _ = desk.hatrain("runs")
    assert code == 0
    assert line(out, "kitchen")[2] == "unknown"
    assert "not a plan that this version reads" in out
    assert desk.hatrain("submit", "kitchen", "--set", "method.epochs=2")[0] == 2
    assert desk.hatrain("submit", "kitchen", "--follow")[0] == 0
    assert len(desk.run.all_attempts()) == 2
