"""A working folder as a user has one: the real command and the real processes, a stand-in for the trainer."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hatrain.contract.run import RunDirectory
from hatrain.runtime.orphans import end_orphans

HATRAIN = [sys.executable, "-m", "hatrain"]
ENTRY = Path(__file__).parents[1] / "fake_entry.py"
DEADLINE = 600
"""Seconds. It only ends a test that hangs."""
JOB = """\
name: kitchen
model: {base: some/base}
data: {train: train.jsonl}
method: {learning_rate: 1e-5}
hardware: {gpu: cpu}
limits: {retries: 1}
"""


class Workspace:
    """A folder with a job, its rows, and a local cluster whose interpreter starts the stand-in."""

    def __init__(self, folder: Path):
        self.folder = folder
        (folder / "jobs").mkdir()
        (folder / "jobs" / "kitchen.yaml").write_text(JOB)
        (folder / "train.jsonl").write_text('{"text": "hello"}\n' * 8)
        python = folder / "python"
        python.write_text(f'#!/usr/bin/env bash\nexec "{sys.executable}" "{ENTRY}" "$3"\n')
        python.chmod(0o755)
        (folder / "workstation.yaml").write_text(f"kind: local\npython: {python}\n")
        self.run = RunDirectory(folder / "runs" / "kitchen")
        self.started: list[subprocess.Popen[str]] = []

    def start(self, *arguments: str, behavior: str = "finish") -> subprocess.Popen[str]:
        """Start a hatrain command. `behavior` is that of the stand-in in each attempt, separated by commas."""
        environment = {**os.environ, "ACT": behavior, "CLUSTER": "./workstation.yaml"}
        environment.pop("HATRAIN_RUNS", None)
        process = subprocess.Popen(
            [*HATRAIN, *arguments],
            cwd=self.folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process

    def hatrain(self, *arguments: str, behavior: str = "finish", text: str = "") -> tuple[int, str, str]:
        """Run a hatrain command with a `text` on its standard input. Returns (exit code, stdout, stderr)."""
        process = self.start(*arguments, behavior=behavior)
        out, err = process.communicate(text, timeout=DEADLINE)
        return process.returncode, out, err

    def until(self, condition: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + DEADLINE
        while not condition():
            assert time.monotonic() < deadline, f"did not happen: {what}"
            time.sleep(0.05)

    def is_training(self, attempt: int = 1) -> bool:
        calls = self.run.folder / "calls"
        return calls.exists() and len(calls.read_text().splitlines()) >= attempt

    def has_ended(self) -> bool:
        """Whether no attempt is running."""
        return self.run.lease.holder() is None


@contextmanager
def a_workspace(folder: Path) -> Iterator[Workspace]:
    """A workspace whose processes are ended with the test."""
    workspace = Workspace(folder)
    try:
        yield workspace
    finally:
        for process in workspace.started:
            if process.poll() is None:
                process.kill()
        for path in (folder / "runs").glob("**/plan.json"):
            run = RunDirectory(path.parent)
            if owner := run.lease.holder():
                os.kill(owner["pid"], signal.SIGINT)
                workspace.until(lambda run=run: run.lease.holder() is None, "the run ends")
            end_orphans(str(run.folder), 0, 0)
