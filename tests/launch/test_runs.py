"""The verbs for runs on this machine, from submission to the end."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from hatrain.contract.run import RunDirectory
from hatrain.runtime.machine import process_start
from tests.launch.workspace import DEADLINE, HATRAIN, a_workspace


@pytest.fixture
def workspace(tmp_path):
    with a_workspace(tmp_path) as workspace:
        yield workspace


def line(out: str, run: str) -> list[str]:
    """The cells of a run's line in a listing."""
    return next(cells for cells in map(str.split, out.splitlines()) if cells and cells[0] == run)


# --- status, runs, logs -------------------------------------------------------------------------------------


def test_a_run_is_running_then_stopping_then_stopped(workspace):
    workspace.hatrain("submit", "kitchen", behavior="held-stop")
    workspace.until(workspace.is_training, "training starts")
    assert line(workspace.hatrain("status", "kitchen")[1], "kitchen")[1:3] == ["workstation", "running"]
    assert workspace.hatrain("stop", "kitchen")[0] == 0
    out = workspace.hatrain("status", "kitchen")[1]
    assert line(out, "kitchen")[2] == "stopping"
    assert "hatrain stop by" in out
    (workspace.run.folder / "leave").touch()
    assert workspace.hatrain("wait", "kitchen")[0] == 130
    out = workspace.hatrain("status", "kitchen")[1]
    assert line(out, "kitchen")[2] == "stopped"
    assert "runs/kitchen/record.jsonl" in out


@pytest.mark.parametrize(("behavior", "state", "code"), [("finish", "finished", 0), ("fatal", "failed", 78)])
def test_waiting_returns_the_exit_code_of_the_run_and_prints_the_reason(workspace, behavior, state, code):
    workspace.hatrain("submit", "kitchen", behavior=behavior)
    exit_code, out, _ = workspace.hatrain("wait", "kitchen")
    assert exit_code == code
    assert out.startswith(f"kitchen: {state} ({code})")
    assert ("out of GPU memory" in out) == (behavior == "fatal")
    assert line(workspace.hatrain("runs")[1], "kitchen")[2] == state


def test_a_run_whose_retries_are_used_up_has_failed(workspace):
    workspace.hatrain("submit", "kitchen", behavior="die")
    assert workspace.hatrain("wait", "kitchen")[0] == 78
    assert "retries used up" in workspace.hatrain("status", "kitchen")[1]


def test_a_run_whose_processes_were_all_killed_is_lost(workspace):
    workspace.hatrain("submit", "kitchen", behavior="stop")
    workspace.until(workspace.is_training, "training starts")
    holder = workspace.run.lease.holder()["pid"]
    os.killpg(os.getpgid(holder), signal.SIGKILL)
    code, out, _ = workspace.hatrain("wait", "kitchen")
    assert (code, line(out, "kitchen:")[1]) == (1, "lost")


def test_logs_print_the_output_of_the_run(workspace):
    workspace.hatrain("submit", "kitchen", behavior="die,finish")
    workspace.hatrain("wait", "kitchen")
    code, out, _ = workspace.hatrain("logs", "kitchen")
    assert code == 0
    assert "training die in attempt 1" in out
    assert "training finish in attempt 2" in out
    code, _, err = workspace.hatrain("logs", "kitchen", "--node", "1")
    assert (code, "one node, 0" in err) == (2, True)


def test_following_the_logs_prints_all_output_and_returns_the_exit_code_of_the_run(workspace):
    workspace.hatrain("submit", "kitchen", behavior="slow-stop")
    workspace.until(workspace.is_training, "training starts")
    follower = workspace.start("logs", "kitchen", "--follow")
    workspace.hatrain("stop", "kitchen")
    out, _ = follower.communicate(timeout=DEADLINE)
    assert follower.returncode == 130
    assert "training slow-stop in attempt 1" in out
    assert "rank 0: saved" in out


def test_ctrl_c_on_the_logs_does_not_stop_the_run(workspace):
    workspace.hatrain("submit", "kitchen", behavior="stop")
    workspace.until(workspace.is_training, "training starts")
    follower = workspace.start("logs", "kitchen", "--follow")
    time.sleep(2)
    follower.send_signal(signal.SIGINT)
    _, err = follower.communicate(timeout=DEADLINE)
    assert follower.returncode == 130
    assert "kitchen continues" in err
    assert not workspace.has_ended()
    assert not (workspace.run.attempts / "1" / "STOP").exists()


def test_an_empty_list_of_runs_says_so_on_stderr(workspace):
    code, out, err = workspace.hatrain("runs")
    assert (code, out) == (0, "")
    assert "there is no run in" in err


# --- cancel -------------------------------------------------------------------------------------------------


def test_a_cancelled_run_ends_and_is_not_restarted(workspace):
    workspace.hatrain("submit", "kitchen", behavior="stop")
    workspace.until(workspace.is_training, "training starts")
    assert workspace.hatrain("cancel", "kitchen")[0] == 0
    workspace.until(workspace.has_ended, "the run ends")
    assert workspace.hatrain("wait", "kitchen")[0] == 130
    assert len(workspace.run.all_attempts()) == 1
    code, _, err = workspace.hatrain("cancel", "kitchen")
    assert code == 1
    assert "there is nothing to cancel" in err


def test_a_cancelled_run_that_ignores_signals_is_killed(workspace):
    workspace.hatrain("submit", "kitchen", behavior="ignore-stops")
    workspace.until(workspace.is_training, "training starts")
    trainer = subprocess.run(
        ["pgrep", "-f", f"fake_trainer.py training {workspace.run.folder}"], capture_output=True, text=True
    ).stdout.split()
    assert trainer
    assert workspace.hatrain("cancel", "kitchen")[0] == 0
    assert line(workspace.hatrain("status", "kitchen")[1], "kitchen")[2] == "cancelled"
    assert [process_start(int(pid)) for pid in trainer] == [None] * len(trainer)


# --- after: dependencies ------------------------------------------------------------------------------------


def child(workspace) -> RunDirectory:
    (workspace.folder / "jobs" / "child.yaml").write_text(
        (workspace.folder / "jobs" / "kitchen.yaml").read_text().replace("kitchen", "child") + "after: kitchen\n"
    )
    return RunDirectory(workspace.folder / "runs" / "child")


def test_a_run_waits_for_the_run_that_it_depends_on(workspace):
    run = child(workspace)
    workspace.hatrain("submit", "kitchen", behavior="finish-on-stop")
    workspace.until(workspace.is_training, "training starts")
    assert workspace.hatrain("submit", "child")[0] == 0
    assert line(workspace.hatrain("status", "child")[1], "child")[2] == "running"
    workspace.hatrain("stop", "kitchen")
    assert workspace.hatrain("wait", "child")[0] == 0
    assert run.done.stat().st_mtime > workspace.run.done.stat().st_mtime


def test_a_run_that_waits_for_another_can_be_stopped(workspace):
    run = child(workspace)
    workspace.hatrain("submit", "kitchen", behavior="stop")
    workspace.until(workspace.is_training, "training starts")
    workspace.hatrain("submit", "child")
    workspace.until(lambda: "waiting for" in workspace.hatrain("logs", "child")[1], "the child waits")
    assert workspace.hatrain("stop", "child")[0] == 0
    assert workspace.hatrain("wait", "child")[0] == 130
    assert not [event for event in run.events() if event["event"] == "attempt begun"]
    workspace.hatrain("stop", "kitchen")


def test_an_unknown_dependency_is_refused_with_the_nearest_name(workspace):
    child(workspace)
    workspace.hatrain("submit", "kitchen", "--follow")
    code, _, err = workspace.hatrain("submit", "child", "--set", "after=kichen")
    assert code == 2
    assert "after: kichen: no such run" in err
    assert "did you mean kitchen?" in err


def test_a_dependency_that_has_failed_is_refused(workspace):
    child(workspace)
    workspace.hatrain("submit", "kitchen", "--follow", behavior="fatal")
    code, _, err = workspace.hatrain("submit", "child")
    assert code == 2
    assert "after: kitchen: is failed and will not finish" in err


# --- sweeps -------------------------------------------------------------------------------------------------


def test_a_sweep_makes_a_run_for_each_value_one_after_another(workspace):
    code, out, err = workspace.hatrain("submit", "kitchen", "--sweep", "method.learning_rate=1e-5,2e-5")
    assert code == 0, err
    assert "kitchen/sweep/0" in out
    assert workspace.hatrain("wait", "kitchen")[0] == 0
    runs = [RunDirectory(workspace.folder / "runs/kitchen/sweep" / number) for number in "01"]
    assert [run.plan().job.method.learning_rate for run in runs] == [1e-5, 2e-5]
    assert runs[0].done.stat().st_mtime <= runs[1].done.stat().st_mtime
    assert (workspace.folder / "models/kitchen-sweep-1/weights").exists()
    listed = workspace.hatrain("status", "kitchen")[1]
    assert [line(listed, f"kitchen/sweep/{number}")[2] for number in "01"] == ["finished", "finished"]
    assert "training finish in attempt 1" in workspace.hatrain("logs", "kitchen/sweep/1")[1]
    assert "is a sweep; accepted here: one of its runs" in workspace.hatrain("logs", "kitchen")[2]


def test_the_runs_of_a_sweep_are_compared_the_best_first(workspace):
    words = ["--zip", "seed=1,2", "--zip", "method.learning_rate=1e-5,2e-5"]
    code, out, err = workspace.hatrain("submit", "kitchen", *words)
    assert code == 0, err
    assert "results hatrain compare --sweep kitchen" in out
    code, waited, _ = workspace.hatrain("wait", "kitchen")
    assert code == 0
    for number, loss in enumerate((2.0, 1.0)):
        run = RunDirectory(workspace.folder / f"runs/kitchen/sweep/{number}")
        run.record("test loss", when="after", loss=loss)
    assert "kitchen, the best first" in waited
    code, out, err = workspace.hatrain("compare", "--sweep", "kitchen")
    assert code == 0, err
    header, *lines = [row.split() for row in out.splitlines()[1:]]
    assert header[:5] == ["RUN", "seed", "learning_rate", "STATE", "TEST"]
    assert [row[:5] for row in lines] == [
        ["1", "2", "2e-05", "finished", "1.000"],
        ["0", "1", "1e-05", "finished", "2.000"],
    ]
    listed = json.loads(workspace.hatrain("compare", "--sweep", "kitchen", "--json")[1])
    assert [(each["run"], each["results"]["test_loss"]) for each in listed] == [
        ("kitchen/sweep/1", 1.0),
        ("kitchen/sweep/0", 2.0),
    ]
    assert listed[0]["different"] == {"seed": 2, "method.learning_rate": 2e-5}
    assert "is one run; accepted" in workspace.hatrain("compare", "--sweep", "kitchen/sweep/0")[2]
    assert "accepted: the names of two runs, or --sweep NAME" in workspace.hatrain("compare", "kitchen")[2]


def test_equal_runs_of_a_sweep_are_refused_however_their_values_are_written(workspace):
    code, _, err = workspace.hatrain("submit", "kitchen", "--sweep", "method.learning_rate=2e-5,0.00002")
    assert code == 2
    assert "method.learning_rate=2e-5 and method.learning_rate=0.00002 are the same job" in err
    assert not (workspace.folder / "runs").exists()


def test_a_sweep_of_two_keys_makes_each_combination(workspace):
    words = ["--sweep", "seed=1,2", "--sweep", "method.lora.modules=[mlp, attention],mlp", "--dry-run"]
    code, out, _ = workspace.hatrain("submit", "kitchen", *words)
    assert code == 0
    assert out.count("/plan.json <==") == 4
    assert not (workspace.folder / "runs").exists()


@pytest.mark.parametrize(
    ("sweep", "message"),
    [
        ("method.learning_rate", "not of the form KEY=V1,V2"),
        ("method.learning_rate=1", "not of the form KEY=V1,V2"),
        ("hardware.nodes=1,2", "hardware.nodes must be the same for all runs of a sweep"),
        ("name=a,b", "name must be the same for all runs"),
        ("method.epochs=1,many", "--sweep method.epochs=many: found 'many'; accepted: a number"),
    ],
)
def test_an_invalid_sweep_is_refused(workspace, sweep, message):
    code, _, err = workspace.hatrain("submit", "kitchen", "--sweep", sweep)
    assert code == 2
    assert message in err
    assert not (workspace.folder / "runs").exists()


# --- JSON and standard input --------------------------------------------------------------------------------


def test_runs_and_status_as_json_have_what_the_tables_have_and_where_the_files_are(workspace):
    assert json.loads(workspace.hatrain("runs", "--json")[1]) == []
    workspace.hatrain("submit", "kitchen", "--follow")
    (listed,) = json.loads(workspace.hatrain("runs", "--json")[1])
    (status,) = json.loads(workspace.hatrain("status", "kitchen", "--json")[1])
    assert (listed["run"], listed["state"], listed["code"], listed["attempt"]) == ("kitchen", "finished", 0, 1)
    assert {**status, "files": None} == {**listed, "files": None}
    assert status["files"]["record"] == str(workspace.run.record_file)


def test_a_job_is_read_from_standard_input(workspace):
    job = (workspace.folder / "jobs/kitchen.yaml").read_text()
    code, out, err = workspace.hatrain("plan", "-", text=job)
    assert code == 0, err
    assert out.startswith("run ") and "kitchen on workstation" in out
    code, _, err = workspace.hatrain("plan", "-", text=job.replace("rate", "rat"))
    assert code == 2
    assert "standard input:4: method.learning_rat: unknown key" in err
    assert workspace.hatrain("plan", "-", text="")[2] == "standard input: empty\n"
    assert workspace.hatrain("submit", "-", "--sweep", "seed=1,2", text=job)[0] == 0
    assert workspace.hatrain("wait", "kitchen")[0] == 0


# --- diff and compare ---------------------------------------------------------------------------------------


def test_a_diff_shows_what_a_submission_would_change(workspace):
    code, out, err = workspace.hatrain("diff", "kitchen")
    assert code == 1
    assert "not submitted before" in err
    workspace.hatrain("submit", "kitchen", "--follow")
    assert workspace.hatrain("diff", "kitchen")[:2] == (0, "")
    code, out, err = workspace.hatrain("diff", "kitchen", "--set", "logging.logging_steps=9")
    assert code == 1
    assert "-  logging_steps: 5" in out
    assert "+  logging_steps: 9" in out
    assert "another job" not in err
    assert "method.epochs: 1.0 → 2.0" in workspace.hatrain("diff", "kitchen", "--set", "method.epochs=2")[2]


def test_two_runs_are_compared_side_by_side(workspace):
    workspace.hatrain("submit", "kitchen", "--follow")
    workspace.hatrain("submit", "kitchen", "--follow", "--set", "name=hall", "--set", "method.epochs=2")
    code, out, _ = workspace.hatrain("compare", "kitchen", "hall")
    assert code == 0
    assert line(out, "method.epochs") == ["method.epochs", "1", "2"]
    assert line(out, "state") == ["state", "finished", "finished"]
    assert "seed" not in out


# --- clusters -----------------------------------------------------------------------------------------------


def test_clusters_are_listed_with_a_users_own_first(workspace, monkeypatch):
    own = workspace.folder / ".config/hatrain/clusters"
    own.mkdir(parents=True)
    (own / "local.yaml").write_text("kind: local\n")
    (own / "broken.yaml").write_text("kind: slurm\npartitoin: gpu\n")
    result = subprocess.run(
        [*HATRAIN, "clusters"],
        env={**os.environ, "HOME": str(workspace.folder)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 1
    assert line(result.stdout, "local") == ["local", "local", str(own / "local.yaml")]
    assert "partitoin: unknown key" in result.stderr
    assert "did you mean partition?" in result.stderr


def test_verbs_that_only_look_at_runs_do_not_load_torch(workspace):
    workspace.hatrain("submit", "kitchen", "--follow")
    for words in (
        ["status", "kitchen"],
        ["runs"],
        ["logs", "kitchen"],
        ["compare", "kitchen", "kitchen"],
        ["clusters"],
    ):
        script = f"import sys\nfrom hatrain.cli import main\nmain({words!r})\nprint('torch' in sys.modules)"
        result = subprocess.run(
            [sys.executable, "-c", script],
            cwd=workspace.folder,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
        )
        assert result.stdout.splitlines()[-1] == "False", result.stderr


def test_a_sweep_on_this_machine_is_listed_run_by_run_and_ends_as_one_process(workspace):
    workspace.hatrain("submit", "kitchen", "--sweep", "seed=1,2,3", behavior="stop")
    first = RunDirectory(workspace.folder / "runs/kitchen/sweep/0")
    workspace.until(lambda: (first.folder / "calls").exists(), "the first run starts")
    listed = workspace.hatrain("status", "kitchen")[1]
    assert [line(listed, f"kitchen/sweep/{number}")[2] for number in "012"] == ["running", "queued", "queued"]
    code, _, err = workspace.hatrain("cancel", "kitchen/sweep/1")
    assert code == 2
    assert (
        "has not started yet; on this machine a sweep is one process; to end all of it: hatrain cancel kitchen" in err
    )
    assert workspace.hatrain("stop", "kitchen/sweep/2")[0] == 1
    assert first.lease.holder()
    code, out, _ = workspace.hatrain("stop", "kitchen")
    assert code == 0
    assert "kitchen/sweep/1: does not start" in out
    assert workspace.hatrain("wait", "kitchen")[0] == 130
    listed = workspace.hatrain("status", "kitchen")[1]
    assert [line(listed, f"kitchen/sweep/{number}")[2] for number in "012"] == ["stopped"] * 3
    assert "the sweep ended before this run started" in listed


def test_a_run_of_a_sweep_that_failed_is_shown_while_the_others_continue(workspace):
    workspace.hatrain("submit", "kitchen", "--sweep", "seed=1,2", behavior="fatal")
    first = RunDirectory(workspace.folder / "runs/kitchen/sweep/0")
    workspace.until(lambda: any(event["event"] == "outcome" for event in first.events()), "the first run fails")
    assert line(workspace.hatrain("status", "kitchen/sweep/0")[1], "kitchen/sweep/0")[2] == "failed"
    assert workspace.hatrain("wait", "kitchen")[0] == 78


def test_a_whole_sweep_is_cancelled_with_one_command(workspace):
    workspace.hatrain("submit", "kitchen", "--sweep", "seed=1,2", behavior="stop")
    first = RunDirectory(workspace.folder / "runs/kitchen/sweep/0")
    workspace.until(lambda: (first.folder / "calls").exists(), "the first run starts")
    code, out, _ = workspace.hatrain("cancel", "kitchen")
    assert (code, out.count("cancelled")) == (0, 2)
    workspace.until(lambda: first.lease.holder() is None, "the run ends")
    assert not (workspace.folder / "runs/kitchen/sweep/1/attempts").exists()


def test_a_sweep_that_cannot_be_written_whole_is_not_written_in_part(workspace):
    workspace.hatrain("submit", "kitchen", "--sweep", "seed=1,2")
    workspace.hatrain("wait", "kitchen")
    plan = (workspace.folder / "runs/kitchen/sweep/0/plan.json").read_bytes()
    words = ["submit", "kitchen", "--sweep", "seed=1,3", "--set", "logging.logging_steps=9"]
    code, _, err = workspace.hatrain(*words)
    assert code == 2
    assert "seed: 2 → 3" in err
    assert (workspace.folder / "runs/kitchen/sweep/0/plan.json").read_bytes() == plan


def test_a_sweep_and_a_run_cannot_share_a_name(workspace):
    workspace.hatrain("submit", "kitchen", "--follow")
    code, _, err = workspace.hatrain("submit", "kitchen", "--sweep", "seed=1,2")
    assert code == 2
    assert "holds a run; give the sweep another name" in err
    assert not (workspace.run.folder / "sweep").exists()
    workspace.hatrain("submit", "kitchen", "--sweep", "seed=1,2", "--set", "name=hall")
    workspace.hatrain("wait", "hall")
    code, _, err = workspace.hatrain("submit", "kitchen", "--set", "name=hall")
    assert code == 2
    assert "holds a sweep" in err


def test_a_run_of_an_earlier_version_is_listed_and_continues_when_submitted_again(workspace):
    workspace.hatrain("submit", "kitchen", "--follow", behavior="fatal")
    plan = json.loads(workspace.run.plan_file.read_text())
    del plan["cluster_spec"], plan["resources"]
    workspace.run.plan_file.write_text(json.dumps({**plan, "version": 1, "launcher": "local"}))
    code, out, _ = workspace.hatrain("runs")
    assert code == 0
    assert line(out, "kitchen")[2] == "unknown"
    assert "not a plan that this version reads" in out
    assert workspace.hatrain("submit", "kitchen", "--set", "method.epochs=2")[0] == 2
    assert workspace.hatrain("submit", "kitchen", "--follow")[0] == 0
    assert len(workspace.run.all_attempts()) == 2
