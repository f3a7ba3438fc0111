"""A folder to work in as a person does: the real command and the real chain, a pretended trainer."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hatrain.contract.run import RunDirectory
from hatrain.runtime.orphans import end_orphans

HATRAIN = [sys.executable, "-m", "hatrain"]
ENTRY = Path(__file__).parents[1] / "fake_entry.py"
JOB = """\
name: kitchen
model: {base: some/base}
data: {train: train.jsonl}
method: {learning_rate: 1e-5}
hardware: {gpu: cpu}
limits: {retries: 1}
"""


class Desk:
    """A folder with a job, its rows, and a cluster whose interpreter trains as $ACT says."""

    def __init__(self, folder: Path):
        self.folder = folder
        (folder / "jobs").mkdir()
        (folder / "jobs" / "kitchen.yaml").write_text(JOB)
        (folder / "train.jsonl").write_text('{"text": "hello"}\n' * 8)
        python = folder / "python"
        python.write_text(f'#!/usr/bin/env bash\nexec "{sys.executable}" "{ENTRY}" "$3"\n')
        python.chmod(0o755)
        (folder / "desk.yaml").write_text(f"kind: local\npython: {python}\n")
        self.run = RunDirectory(folder / "runs" / "kitchen")
        self.started: list[subprocess.Popen[str]] = []

    def start(self, *words: str, act: str = "finish") -> subprocess.Popen[str]:
        """Start a hatrain command."""
        around = {**os.environ, "ACT": act, "CLUSTER": "./desk.yaml"}
        around.pop("HATRAIN_RUNS", None)
        process = subprocess.Popen(
            [*HATRAIN, *words],
            cwd=self.folder,
            env=around,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process

    def hatrain(self, *words: str, act: str = "finish") -> tuple[int, str, str]:
        """Run a hatrain command to its end."""
        process = self.start(*words, act=act)
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err

    def until(self, true, what: str) -> None:
        deadline = time.monotonic() + 30
        while not true():
            assert time.monotonic() < deadline, f"never: {what}"
            time.sleep(0.05)

    def training(self, attempt: int = 1) -> bool:
        """Return whether the trainer of an attempt is at work."""
        calls = self.run.folder / "calls"
        return calls.exists() and len(calls.read_text().splitlines()) >= attempt

    def left(self) -> bool:
        """Return whether no attempt lives."""
        return self.run.lease.holder() is None


@contextmanager
def a_desk(folder: Path) -> Iterator[Desk]:
    """Give a desk, and see that nothing which was started there is left."""
    desk = Desk(folder)
    try:
        yield desk
    finally:
        for process in desk.started:
            if process.poll() is None:
                process.kill()
        for path in (folder / "runs").glob("**/plan.json"):
            run = RunDirectory(path.parent)
            if owner := run.lease.holder():
                os.kill(owner["pid"], signal.SIGINT)
                desk.until(lambda run=run: run.lease.holder() is None, "the run leaves")
            end_orphans(str(run.folder), 0, 0)
