"""Runs the real entry on a run directory of its own, with `fake_trainer.py` in place of the stages."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hatrain.contract.plan import Plan
from hatrain.contract.run import RunDirectory
from hatrain.runtime.orphans import end_orphans
from tests.plans import a_plan

ENTRY = Path(__file__).with_name("fake_entry.py")


class Harness:
    """A folder with a run, and the entry processes started on it."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.started: list[subprocess.Popen[str]] = []

    def __enter__(self) -> "Harness":
        return self

    def __exit__(self, *error: Any) -> None:
        for process in self.started:
            if process.poll() is None:
                process.kill()
                process.wait()
        for path in (self.folder / "runs").glob("*/plan.json"):
            end_orphans(str(path.parent), 0, 0)

    def adopt(self, nodes: int = 1, **changes: object) -> RunDirectory:
        """Create the run directory of a job for so many nodes, all of them processes on this machine."""
        plan = self.plan(**changes).model_copy(update={"nodes": nodes})
        run = RunDirectory(Path(plan.paths.run))
        run.adopt(plan, {})
        return run

    def plan(self, **changes: object) -> Plan:
        """Return the plan of a job without evaluation, unless `changes` ask for one."""
        return a_plan(self.folder, **{"evaluation__requests": 0, **changes})

    def start(self, target: Path, act: str = "finish", **environment: str) -> subprocess.Popen[str]:
        """Start entry. `act` says what the fake trainer does in each attempt, comma-separated."""
        process = subprocess.Popen(
            [sys.executable, str(ENTRY), str(target)],
            env={**os.environ, "ACT": act, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # nohup, under which the tests may run, ignores it for all that it starts.
            preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
        )
        self.started.append(process)
        return process

    def node(self, rank: int, run: RunDirectory, act: str = "finish", **environment: str) -> subprocess.Popen[str]:
        """Start entry as one of several nodes, with short polls and waits."""
        # SLURM_JOB_ID: the tests themselves may run under Slurm.
        defaults = {
            "SLURM_JOB_ID": "",
            "POLL": "0.05",
            "LOST_PEER": "0.3",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": "29511",
        }
        return self.start(run.folder, act, **{**defaults, "HATRAIN_NODE_RANK": str(rank), **environment})

    def enter(self, target: Path, act: str = "finish", **environment: str) -> tuple[int, str, str]:
        """Run entry to its end. Returns (exit code, stdout, stderr)."""
        process = self.start(target, act, **environment)
        out, err = process.communicate(timeout=600)
        return process.returncode, out, err


def wait_for_line(process: subprocess.Popen[str], text: str) -> str:
    """Wait for a line on stderr that contains a text, and return it."""
    for line in process.stderr:
        if text in line:
            return line
    raise AssertionError(f"stderr ended without: {text}")


def exit_codes(*processes: subprocess.Popen[str]) -> list[int]:
    """Wait for processes, and return their exit codes."""
    return [process.wait(timeout=600) for process in processes]


def still_running(process: subprocess.Popen[str], seconds: float) -> bool:
    """Whether a process still runs after so many seconds."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    return process.poll() is None


def until(true: Callable[[], object], what: str) -> None:
    """Wait until a condition holds. The deadline only ends a hang."""
    deadline = time.monotonic() + 600
    while not true():
        assert time.monotonic() < deadline, f"never happened: {what}"
        time.sleep(0.05)


def calls(run: RunDirectory) -> list[str]:
    """The stages that the fake trainer ran, in order: 'STAGE ACT'."""
    path = run.folder / "calls"
    return path.read_text().splitlines() if path.exists() else []


def has_started(run: RunDirectory) -> Callable[[], object]:
    """Whether the first stage has started."""
    return lambda: calls(run)


def outcome(run: RunDirectory) -> dict:
    """The last outcome in the record."""
    return [event for event in run.events() if event["event"] == "outcome"][-1]


def alive(pid: int) -> bool:
    """Whether a process runs."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
