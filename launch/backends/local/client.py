"""Runs jobs on this machine, each as a process that outlives the terminal."""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hatrain.contract.run import Exit, RunDirectory
from hatrain.errors import BadInput
from hatrain.runtime.machine import process_start
from hatrain.runtime.orphans import end_orphans
from launch.backends.local import machine
from launch.backends.protocol import JobState, PlannedRun, Reader, Submission, nothing_to_pull
from launch.backends.shared_files import FileReader, stop_by_file

CANCEL_SECONDS = 10.0
"""How long a cancelled process may take to exit before it is killed."""

_children: dict[str, "subprocess.Popen[bytes]"] = {}
"""Processes started by this one, by job id: only their parent can read their exit codes."""


class LocalClient:
    """A job's id is PID.START: its process id, and when that process started. For a run of a sweep, which shares one
    process with the other runs, it is PID.START_NUMBER."""

    poll_seconds = 0.2

    def submission(
        self, runs: Sequence[PlannedRun], folder: Path, parent: str | None, at_once: int | None = None
    ) -> Submission:
        if at_once is not None:
            raise BadInput("--at-once: on this machine the runs of a sweep run one after another; leave it out")
        folders = [str(planned.directory.folder) for planned in runs]
        if folders == [str(folder)]:
            command = ("bash", str(folder / "launch/local.sh"), str(folder))
            return Submission(tuple(runs), folder, {}, command)
        script = Path(__file__).with_name("sweep.sh").read_text(encoding="utf-8")
        files = {"launch/sweep.sh": script}
        return Submission(tuple(runs), folder, files, ("bash", str(folder / "launch/sweep.sh"), *folders))

    def check(self, submission: Submission) -> list[str]:
        """There is no scheduler: this machine is asked."""
        return machine.check([planned.plan for planned in submission.runs])

    def diff(self, submission: Submission) -> str | None:
        return None

    def start(self, submission: Submission) -> list[str]:
        if shutil.which(submission.command[0]) is None:
            raise BadInput(f"{submission.command[0]}: not found on the PATH; a run on this machine is started by it")
        with _output(submission.folder).open("ab") as log:
            child = subprocess.Popen(
                submission.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        job = f"{child.pid}.{process_start(child.pid) or 0}"
        _children[job] = child
        if not submission.is_sweep:
            return [job]
        return [f"{job}_{planned.directory.folder.name}" for planned in submission.runs]

    def refresh(self, runs: Sequence[RunDirectory]) -> None:
        """Nothing to do: these directories are no copies."""

    def arrived(self, submission: Submission) -> list[str]:
        return []

    def pull(self, run: RunDirectory, *, model: bool, metrics: bool) -> list[str]:
        raise nothing_to_pull(run)

    def states(self, jobs: Mapping[str, RunDirectory]) -> dict[str, JobState]:
        return {job: self._state(job, run) for job, run in jobs.items()}

    def _state(self, job: str, run: RunDirectory) -> JobState:
        if run.in_sweep:
            return _state_in_sweep(run, _is_alive(job))
        if _is_alive(job):
            return JobState("running")
        child = _children.get(job)
        code = child.poll() if child else None
        return JobState("ended", code=code if code is None or code >= 0 else 128 - code)

    def cancel(self, job: str, run: RunDirectory) -> None:
        """Raises BadInput for a run of a sweep that has not started: it has no process of its own."""
        if not _is_alive(job) and run.lease.holder() is None:
            return
        if run.in_sweep and run.lease.holder() is None:
            raise BadInput(f"{run.name}: has not started yet; {_whole_sweep(run, 'cancel')}")
        pid, _ = _process(job)
        deadline = time.monotonic() + CANCEL_SECONDS
        _signal_group(pid, signal.SIGTERM)
        # The script exits at once; hatrain.entry, which holds the lease, after its checkpoint is saved.
        while run.lease.holder() and time.monotonic() < deadline:
            time.sleep(0.1)
        _signal_group(pid, signal.SIGKILL)
        end_orphans(str(run.folder), 0, 0)

    def remove_rest(self, job: str, run: RunDirectory) -> bool:
        return False

    def stop(self, job: str, run: RunDirectory, reason: str) -> str:
        """Before an attempt has started, interrupt the process that waits to start it. Raises BadInput for a run of a
        sweep that has not started."""
        if run.lease.holder() is None and _is_alive(job):
            if not run.in_sweep:
                _signal_group(_process(job)[0], signal.SIGINT)
                return "exits before an attempt starts"
            if any(_is_stopping(other) for other in _sweep(run)):
                return "does not start: the sweep ends with the run that is being stopped"
            raise BadInput(f"{run.name}: has not started yet; {_whole_sweep(run, 'stop')}")
        return stop_by_file(run, reason)

    def newest_step(self, job: str, run: RunDirectory) -> str:
        return ""

    def reader(self, job: str, run: RunDirectory, *, node: int, whole: bool) -> Reader:
        if node:
            raise BadInput(f"--node {node}: a local run has one node, 0")
        if run.in_sweep:
            # The runs of a sweep share one process and its output; the attempts of each have logs of their own.
            return FileReader(lambda: [attempt.folder / "log.txt" for attempt in run.all_attempts()], whole=whole)
        return FileReader(lambda: [_output(run.folder)], whole=whole)


def _output(folder: Path) -> Path:
    return folder / "launch" / "output.log"


def _signal_group(leader: int, number: signal.Signals) -> None:
    if leader > 1:  # 0 would be this process's own group
        with contextlib.suppress(ProcessLookupError):
            os.killpg(leader, number)


def _is_alive(job: str) -> bool:
    pid, started = _process(job)
    return process_start(pid) == started


def _process(job: str) -> tuple[int, str]:
    pid, _, started = job.partition("_")[0].partition(".")
    return int(pid) if pid.isdecimal() else 0, started


def _state_in_sweep(run: RunDirectory, sweep_is_alive: bool) -> JobState:
    if run.lease.holder():
        return JobState("running")
    relevant = ("submitted", "attempt begun", "outcome")
    newest: dict[str, Any] = next((event for event in reversed(run.events()) if event.get("event") in relevant), {})
    if newest.get("event") == "submitted":
        if sweep_is_alive:
            return JobState("queued", "waits for the earlier runs of the sweep")
        return JobState("ended", "the sweep ended before this run started", int(Exit.STOPPED))
    # local.sh restarts a run after a fault; any other outcome is final.
    may_restart = newest.get("event") != "outcome" or newest["code"] == Exit.FAULT
    return JobState("running" if sweep_is_alive and may_restart else "ended")


def _sweep(run: RunDirectory) -> list[RunDirectory]:
    return [RunDirectory(path) for path in run.folder.parent.iterdir() if path.name.isdigit()]


def _is_stopping(run: RunDirectory) -> bool:
    attempts = run.all_attempts()
    stop = attempts[-1].stop() if attempts and run.lease.holder() else None
    return stop is not None and not stop.requeue


def _whole_sweep(run: RunDirectory, verb: str) -> str:
    return f"on this machine a sweep is one process; to end all of it: hatrain {verb} {run.folder.parents[1].name}"
