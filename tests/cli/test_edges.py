"""What the edges of a command do when they fail: streams, paths, programs. One line each, and never a traceback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness import ENTRY, Harness
from tests.launch.workspace import HATRAIN, a_workspace


@pytest.fixture
def workspace(tmp_path):
    with a_workspace(tmp_path) as workspace:
        yield workspace


def one_line(err: str) -> str:
    (line,) = err.splitlines()
    assert "Traceback" not in line
    return line


def hatrain(workspace, *arguments, **options) -> subprocess.CompletedProcess:
    environment = {**os.environ, "CLUSTER": "./workstation.yaml", **options.pop("environment", {})}
    return subprocess.run(
        [*HATRAIN, *arguments],
        cwd=workspace.folder,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=600,
        **options,
    )


def closed(workspace, redirection: str, *arguments: str) -> subprocess.CompletedProcess:
    """Run a command with its streams redirected as a shell does it."""
    command = ["bash", "-c", f'exec "$@" {redirection}', "bash", *HATRAIN, *arguments]
    environment = {**os.environ, "CLUSTER": "./workstation.yaml"}
    return subprocess.run(
        command, cwd=workspace.folder, env=environment, capture_output=True, text=True, check=False, timeout=600
    )


@pytest.mark.parametrize("redirection", [">&-", ">&- 2>&-", "<&- >&- 2>&-", ">/dev/full", ">/dev/full 2>/dev/full"])
def test_a_run_that_finishes_exits_0_whatever_becomes_of_its_output(tmp_path, redirection):
    with Harness(tmp_path) as harness:
        run = harness.adopt()
        command = ["bash", "-c", f'exec "$@" {redirection}', "bash", sys.executable, str(ENTRY), str(run.folder)]
        ended = subprocess.run(command, env={**os.environ, "ACT": "finish"}, check=False, timeout=600)
        assert ended.returncode == 0
        assert run.done.exists()
        assert "training finish" in (run.attempts / "1" / "log.txt").read_text()
        # What is written to a closed stream does not end up in the next file that is opened.
        assert "training finish" not in run.record_file.read_text()


def test_a_followed_run_that_finishes_exits_0_with_a_closed_stdout(workspace):
    assert closed(workspace, ">&-", "submit", "kitchen", "--follow").returncode == 0


def test_a_full_stdout_is_one_line(workspace):
    ended = closed(workspace, ">/dev/full", "schema")
    assert ended.returncode == 1
    assert "No space left on device" in one_line(ended.stderr)


def test_an_ascii_stdout_is_no_traceback(workspace):
    (workspace.folder / "jobs/küche.yaml").write_text(
        (workspace.folder / "jobs/kitchen.yaml").read_text().replace("train.jsonl", "zeilen-ü.jsonl")
    )
    (workspace.folder / "zeilen-ü.jsonl").write_text('{"text": "hello"}\n' * 8)
    ascii_only = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    for arguments in (("plan", "jobs/küche.yaml"), ("runs",), ("--help",)):
        ended = hatrain(workspace, *arguments, stdout=subprocess.PIPE, environment=ascii_only)
        assert ended.returncode == 0
        assert "Traceback" not in ended.stderr
    rendered = subprocess.run(
        [*HATRAIN, "render", "jobs/küche.yaml"],
        cwd=workspace.folder,
        env={**os.environ, "CLUSTER": "./workstation.yaml", **ascii_only},
        capture_output=True,
        check=True,
    )
    assert "zeilen-ü.jsonl" in rendered.stdout.decode()


@pytest.mark.parametrize(
    "arguments",
    [
        ("status", "x" * 5000),
        ("plan", "x" * 5000),
        ("plan", "x" * 5000 + ".yaml"),
        ("stop", "kitchen/../../nowhere"),
    ],
    ids=lambda arguments: f"{arguments[0]} {arguments[1][:8]}",
)
def test_a_name_that_no_file_can_have_is_one_short_line(workspace, arguments):
    ended = hatrain(workspace, *arguments, stdout=subprocess.DEVNULL)
    assert ended.returncode in (1, 2)
    one_line(ended.stderr)


@pytest.mark.parametrize("setting", ["data.train=~nosuchuser/rows.jsonl", "model.base=~nosuchuser/base"])
def test_the_home_of_an_unknown_user_is_a_path_that_is_not_there(workspace, setting):
    ended = hatrain(workspace, "submit", "kitchen", "--set", setting, stdout=subprocess.DEVNULL)
    assert ended.returncode == 78
    assert "~nosuchuser" in one_line(ended.stderr)


@pytest.mark.parametrize("out", ["train.jsonl", "train.jsonl/inner", "/proc/x", "/proc/x/y"])
@pytest.mark.parametrize("verb", ["render", "data"])
def test_an_output_folder_that_cannot_be_written_is_one_line(workspace, verb, out):
    arguments = {
        "render": ("render", "kitchen", "--out", out),
        "data": ("data", "--test", "--language", "english", "--out", out),
    }[verb]
    ended = hatrain(workspace, *arguments, stdout=subprocess.DEVNULL)
    assert ended.returncode in (1, 2)
    assert Path(out).parts[0] in ended.stderr.splitlines()[-1]
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("arguments", [("runs",), ("status", "kitchen"), ("submit", "kitchen"), ("train", "kitchen")])
def test_a_runs_folder_that_is_a_file_is_one_line(workspace, arguments):
    (workspace.folder / "runs").write_text("")
    (workspace.folder / "some/base").mkdir(parents=True)  # for train, whose interpreter is this one
    ended = hatrain(workspace, *arguments, stdout=subprocess.DEVNULL)
    assert ended.returncode in (1, 2)
    assert "runs" in one_line(ended.stderr)


def test_without_bash_a_run_on_this_machine_is_refused_in_one_line(workspace):
    ended = hatrain(workspace, "submit", "kitchen", stdout=subprocess.DEVNULL, environment={"PATH": "/nowhere"})
    assert ended.returncode == 2
    assert "bash: not found on the PATH" in one_line(ended.stderr)
