"""A run in a folder of its own, and entries that are started on it with a pretended trainer."""

import contextlib
import os
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


class Stage:
    """A run in a folder of its own, and entries that are started on it."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.started: list[subprocess.Popen[str]] = []

    def __enter__(self) -> "Stage":
        return self

    def __exit__(self, *error: Any) -> None:
        for process in self.started:
            if process.poll() is None:
                process.kill()
                process.wait()
        for path in (self.folder / "runs").glob("*/plan.json"):
            end_orphans(str(path.parent), 0, 0)

    def adopt(self, nodes: int = 1, **changes: object) -> RunDirectory:
        """Make the run directory of a job, on so many nodes."""
        # A local cluster has one node; here several are pretended on this machine.
        plan = self.plan(**changes).model_copy(update={"nodes": nodes})
        run = RunDirectory(Path(plan.paths.run))
        run.adopt(plan, {})
        return run

    def plan(self, **changes: object) -> Plan:
        """Return the plan of a job with test rows and no evaluation, unless asked for."""
        return a_plan(self.folder, **{"evaluation__requests": 0, **changes})

    def start(self, target: Path, act: str = "finish", **environment: str) -> subprocess.Popen[str]:
        """Start entry. `act` is what the pretended trainer does, a word for each attempt."""
        process = subprocess.Popen(
            [sys.executable, str(ENTRY), str(target)],
            env={**os.environ, "ACT": act, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process

    def node(
        self, rank: int, run: RunDirectory, act: str = "finish", **environment: str
    ) -> subprocess.Popen[str]:
        """Start entry as one of several nodes, which look at each other often and wait little."""
        # Of no start that a launcher has a name for, even where the tests themselves run under Slurm.
        around = {
            "SLURM_JOB_ID": "",
            "LOOK": "0.05",
            "PEER": "0.3",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": "29511",
        }
        return self.start(run.folder, act, **{**around, "HATRAIN_NODE_RANK": str(rank), **environment})

    def enter(self, target: Path, act: str = "finish", **environment: str) -> tuple[int, str, str]:
        """Run entry to its end. Returns (exit code, stdout, stderr)."""
        process = self.start(target, act, **environment)
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err


def hear(process: subprocess.Popen[str], text: str) -> str:
    """Wait until a process says something on stderr. Returns the line."""
    for line in process.stderr:
        if text in line:
            return line
    raise AssertionError(f"never said: {text}")


def ends(*processes: subprocess.Popen[str]) -> list[int]:
    """Wait for processes, and return their exit codes."""
    return [process.wait(timeout=60) for process in processes]


def stays(process: subprocess.Popen[str], seconds: float) -> bool:
    """Return whether a process is still there after a while."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    return process.poll() is None


def until(true: Callable[[], object], what: str) -> None:
    """Wait for something that another process does."""
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.05)


def calls(run: RunDirectory) -> list[str]:
    """Return what the pretended children were asked to do, in order."""
    path = run.folder / "calls"
    return path.read_text().splitlines() if path.exists() else []


def begun(run: RunDirectory) -> Callable[[], object]:
    """Return whether the first child is at work."""
    return lambda: calls(run)


def outcome(run: RunDirectory) -> dict:
    """Return the record's last outcome."""
    return [event for event in run.events() if event["event"] == "outcome"][-1]


def alive(pid: int) -> bool:
    """Return whether a process runs."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
