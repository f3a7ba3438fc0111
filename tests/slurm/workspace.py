"""A working folder as a user has one on a login node: the real command, a real Slurm, a stand-in for the trainer."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from hatrain.contract import variables
from hatrain.contract.run import RunDirectory
from tests.slurm.cluster import DEADLINE, Cluster

ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "OUT_OF_MEMORY")
ENTRY = Path(__file__).parents[1] / "fake_entry.py"


class Workspace:
    """Jobs, cluster files and runs in one folder, and a Slurm to submit them to."""

    def __init__(self, folder: Path, slurm: Cluster):
        self.folder, self.slurm = folder, slurm
        folder.mkdir(exist_ok=True)
        (folder / "train.jsonl").write_text('{"text": "hello"}\n' * 8)
        # Started as an interpreter is, with `-m hatrain.entry` first. Its environment is kept beside the plan.
        self.python = folder / "stand-in"
        self.python.write_text(
            f'#!/bin/bash\nshift 2\nenv -0 > "$(dirname "$1")/environ-$SLURM_NODEID"\n'
            f'exec "{sys.executable}" "{ENTRY}" "$@"\n'
        )
        self.python.chmod(0o755)

    def cluster_file(self, name: str = "my-slurm", behavior: str = "finish", **changes: Any) -> Path:
        """Write a cluster file. `behavior` is that of the stand-in in each attempt, separated by commas."""
        written = {
            "kind": "slurm",
            "partition": "gpu",
            "python": variables.literal(str(self.python)),
            "cpus_per_gpu": 1,
            "cpus_per_process": 1,
            "memory": "1GiB",
            **changes,
        }
        # Short intervals between heartbeats, and short waits for a lease whose holder has died.
        intervals = {"ACT": behavior, "POLL": "0.1", "LOST_PEER": "0.3", "PATIENCE": "20", "BEAT": "0.5"}
        written["environment"] = intervals | written.get("environment", {})
        path = self.folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(written, allow_unicode=True))
        return path

    def job_file(self, name: str = "kitchen", **changes: Any) -> Path:
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

    def hatrain(self, *arguments: str, code: int | None = 0) -> str:
        """Run a verb and assert its exit code. Returns stdout and stderr together."""
        process = self.start(*arguments)
        output, _ = process.communicate(timeout=DEADLINE)
        assert code is None or process.returncode == code, f"{arguments}: {process.returncode}:\n{output}"
        return str(output)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "hatrain", *arguments],
            cwd=self.folder,
            env={**self.slurm.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def submit(
        self,
        name: str = "kitchen",
        behavior: str = "finish",
        *,
        cluster: dict[str, Any] | None = None,
        **job: Any,
    ) -> RunDirectory:
        cluster_file = self.cluster_file(behavior=behavior, **(cluster or {}))
        self.hatrain("submit", str(self.job_file(name, **job)), "--cluster", str(cluster_file))
        return self.run(name)

    def run(self, name: str = "kitchen") -> RunDirectory:
        return RunDirectory(self.folder / "runs" / name)

    def job_id(self, run: RunDirectory) -> str:
        return str([event for event in run.events() if event["event"] == "submitted"][-1]["job"])

    def squeue(self, run: RunDirectory, form: str = "%T") -> str:
        """What squeue prints about the job of a run."""
        return self.slurm.run("squeue", "-h", "-r", "-t", "all", "-j", self.job_id(run), "-o", form)

    def end(self, run: RunDirectory) -> str:
        """Wait until Slurm has ended the job of a run for good. Returns its state."""
        return self.end_of_job(self.job_id(run), run)

    def end_of_job(self, job: str, run: RunDirectory | None = None) -> str:
        """As `end`, for a job id."""
        command = ("squeue", "-h", "-r", "-t", "all", "-j", job, "-o", "%T")
        self.until(lambda: self.slurm.run(*command) in ENDED, run)
        return self.slurm.run(*command)

    def until_training(self, run: RunDirectory, attempt: int = 1, behavior: str = "") -> None:
        """Wait until the stand-in runs in an attempt."""
        self.until(lambda: len(calls(run)) >= attempt and behavior in calls(run)[-1], run)

    def until(self, condition: Callable[[], object], run: RunDirectory | None = None) -> None:
        deadline = time.monotonic() + DEADLINE
        while not condition():
            assert time.monotonic() < deadline, self.report(run)
            time.sleep(0.1)

    def until_text(self, path: Path, text: str, run: RunDirectory | None = None) -> None:
        """Wait until a file contains a text."""
        self.until(lambda: path.exists() and text in path.read_text(errors="replace"), run)

    def sbatch(self, *options: str, script: str | None = None, **variables: str) -> str:
        """Send a script by hand, as a file or through a pipe. Returns the job id."""
        result = subprocess.run(
            ["sbatch", "--parsable", *options],
            cwd=self.folder,
            env={**self.slurm.environ, **variables},
            input=script,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
        )
        assert result.returncode == 0, result.stderr
        return result.stdout.strip()

    def rendered(self, *arguments: str) -> str:
        """The single file, without the notes on stderr."""
        output = self.hatrain("render", *arguments)
        return output[output.index("#!/usr/bin/env bash") :]

    def report(self, run: RunDirectory | None) -> str:
        """The logs and the record of a run, for a test that fails."""
        parts = [self.slurm.run("squeue", "-t", "all")]
        for path in sorted(run.launch.glob("*.log")) if run else []:
            parts.append(f"{path.name}:\n{path.read_text(errors='replace')[-3000:]}")
        return "\n".join([*parts, *(json.dumps(event) for event in (run.events() if run else []))])


def calls(run: RunDirectory) -> list[str]:
    """The calls of the stand-in for a run, in order."""
    path = run.folder / "calls"
    return path.read_text().splitlines() if path.exists() else []


def environment(run: RunDirectory, node: int = 0) -> dict[str, str]:
    """The environment in which hatrain was started on a node."""
    folder = next(path.parent for path in run.folder.rglob(f"environ-{node}"))
    variables = (folder / f"environ-{node}").read_bytes().decode().split("\0")
    return dict(variable.split("=", 1) for variable in variables if variable)


def exit_codes(run: RunDirectory) -> list[int]:
    """The exit codes of the attempts of a run."""
    return [event["code"] for event in run.events() if event["event"] == "outcome"]
