"""A folder to work in as a person does on a login node: the real command, real Slurm, a pretended trainer."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from hatrain.contract.run import RunDirectory
from tests.slurm.cluster import Cluster

ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "OUT_OF_MEMORY")
ENTRY = Path(__file__).parents[1] / "fake_entry.py"


class House:
    """Jobs, cluster files and runs in one folder, and Slurm to send them to."""

    def __init__(self, folder: Path, cluster: Cluster):
        self.folder, self.cluster = folder, cluster
        folder.mkdir(exist_ok=True)
        (folder / "train.jsonl").write_text('{"text": "hello"}\n' * 8)
        # Called as an interpreter is, with `-m hatrain.entry` first. What it sees around it is kept beside the plan.
        self.python = folder / "pretender"
        self.python.write_text(
            f'#!/bin/bash\nshift 2\nenv -0 > "$(dirname "$1")/environ-$SLURM_NODEID"\n'
            f'exec "{sys.executable}" "{ENTRY}" "$@"\n'
        )
        self.python.chmod(0o755)

    def place(self, name: str = "farm", act: str = "finish", **changes: Any) -> Path:
        """Write a cluster file. `act` is what the pretended trainer does, a word for each attempt."""
        written = {
            "kind": "slurm",
            "partition": "gpu",
            "python": str(self.python),
            "cpus_per_gpu": 1,
            "memory": "1GiB",
            **changes,
        }
        # Nodes that look at each other often, and entries that see soon that an attempt before them is dead.
        quick = {"ACT": act, "POLL": "0.1", "LOST_PEER": "0.3", "PATIENCE": "20", "BEAT": "0.5"}
        written["environment"] = quick | written.get("environment", {})
        path = self.folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(written, allow_unicode=True))
        return path

    def job(self, name: str = "kitchen", **changes: Any) -> Path:
        """Write a job; `method__epochs=2` sets a key of a part."""
        written: dict[str, Any] = {
            "name": name,
            "model": {"base": "some/base"},
            "data": {"train": "train.jsonl"},
            "hardware": {"gpu": "cpu"},
            "evaluation": {"requests": 0},
            "limits": {"time": "00:20:00"},
        }
        for key, value in changes.items():
            part, _, inner = key.partition("__")
            if inner:
                written.setdefault(part, {})[inner] = value
            else:
                written[part] = value
        path = self.folder / f"job {name}.yaml"
        path.write_text(yaml.safe_dump(written, allow_unicode=True))
        return path

    def hatrain(self, *words: str, code: int | None = 0) -> str:
        """Run a verb. Returns what it says, on both streams, and asserts how it left."""
        told = self.start(*words)
        said, _ = told.communicate(timeout=240)
        assert code is None or told.returncode == code, f"{words} left with {told.returncode}:\n{said}"
        return str(said)

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start a verb."""
        return subprocess.Popen(
            [sys.executable, "-m", "hatrain", *words],
            cwd=self.folder,
            env={**self.cluster.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def submit(
        self, name: str = "kitchen", act: str = "finish", *, place: dict[str, Any] | None = None, **job: Any
    ):
        """Submit a job. Returns its run."""
        words = [str(self.job(name, **job)), "--cluster", str(self.place(act=act, **(place or {})))]
        self.hatrain("submit", *words)
        return self.run(name)

    def run(self, name: str = "kitchen") -> RunDirectory:
        """Return a run's directory."""
        return RunDirectory(self.folder / "runs" / name)

    def id(self, run: RunDirectory) -> str:
        """Return the id of a run's job."""
        return str([event for event in run.events() if event["event"] == "submitted"][-1]["job"])

    def slurm(self, run: RunDirectory, what: str = "%T") -> str:
        """Return what squeue says of a run's job."""
        return self.cluster.tell("squeue", "-h", "-r", "-t", "all", "-j", self.id(run), "-o", what)

    def ended(self, run: RunDirectory) -> str:
        """Wait until Slurm has ended a run's job for good. Returns its state."""
        return self.over(self.id(run), run)

    def over(self, job: str, run: RunDirectory | None = None) -> str:
        """Wait until Slurm has ended a job for good. Returns its state."""
        ask = ("squeue", "-h", "-r", "-t", "all", "-j", job, "-o", "%T")
        self.until(lambda: self.cluster.tell(*ask) in ENDED, run)
        return self.cluster.tell(*ask)

    def begun(self, run: RunDirectory, attempt: int = 1, act: str = "") -> None:
        """Wait until the pretended trainer is at work in an attempt."""
        self.until(lambda: len(calls(run)) >= attempt and act in calls(run)[-1], run)

    def until(self, true: Callable[[], object], run: RunDirectory | None = None, seconds: float = 90) -> None:
        """Wait for something that Slurm or a job does; after too long say what the run has to tell."""
        deadline = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < deadline, self.tale(run)
            time.sleep(0.1)

    def tale(self, run: RunDirectory | None) -> str:
        """Return what is known of a run, for a test that fails."""
        parts = [self.cluster.tell("squeue", "-t", "all")]
        for path in sorted(run.launch.glob("*.log")) if run else []:
            parts.append(f"{path.name}:\n{path.read_text(errors='replace')[-3000:]}")
        return "\n".join([*parts, *(json.dumps(event) for event in (run.events() if run else []))])


def calls(run: RunDirectory) -> list[str]:
    """Return what the pretended children of a run were asked to do, in order."""
    path = run.folder / "calls"
    return path.read_text().splitlines() if path.exists() else []


def around(run: RunDirectory, node: int = 0) -> dict[str, str]:
    """Return the environment that entry was started in on a node."""
    folder = next(path.parent for path in run.folder.rglob(f"environ-{node}"))
    words = (folder / f"environ-{node}").read_bytes().decode().split("\0")
    return dict(word.split("=", 1) for word in words if word)


def codes(run: RunDirectory) -> list[int]:
    """Return how the attempts of a run left."""
    return [event["code"] for event in run.events() if event["event"] == "outcome"]
