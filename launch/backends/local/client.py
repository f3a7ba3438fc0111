"""This machine: a job is a process of its own, which outlives the terminal."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from hatrain.contract.cluster import LocalCluster
from hatrain.contract.run import Exit, RunDirectory
from hatrain.errors import BadInput
from hatrain.runtime.lease import process_start
from hatrain.runtime.orphans import end_orphans
from hatrain.runtime.stop import Stop
from launch.backends import FileReader, JobState, Member, Reader, Submission
from launch.backends.local import render as local

CANCEL_SECONDS = 10.0
"""How long a cancelled process has to end by itself before it is killed."""


def make(place: LocalCluster) -> "LocalClient":
    """Return the client of this machine."""
    return LocalClient()


def output(folder: Path) -> Path:
    """Return the file that everything a local run prints goes to."""
    return folder / "launch" / "output.log"


_children: dict[str, "subprocess.Popen[bytes]"] = {}
"""What this very process started, by the job's id: their exit codes are told to nobody else."""


class LocalClient:
    """Starts local.sh in a session of its own. A job's id is its process id and when that process started."""

    poll_seconds = 0.2

    def submission(self, members: Sequence[Member], folder: Path, parent: str | None) -> Submission:
        """Return the files and the command; the runs of a sweep come one after another. Entry waits for a parent."""
        if len(members) == 1 and members[0].run.folder == folder:
            return Submission(
                tuple(members), folder, {}, ("bash", str(folder / "launch/local.sh"), str(folder))
            )
        runs = [str(member.run.folder) for member in members]
        return Submission(
            tuple(members),
            folder,
            {"launch/sweep.sh": local.sweep()},
            ("bash", str(folder / "launch/sweep.sh"), *runs),
        )

    def check(self, submission: Submission) -> None:
        """This machine takes everything."""

    def diff(self, submission: Submission) -> str | None:
        """Nothing is kept but the run directory."""
        return None

    def start(self, submission: Submission) -> list[str]:
        """Start the process."""
        with output(submission.folder).open("ab") as log:
            child = subprocess.Popen(
                submission.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        job = f"{child.pid}.{process_start(child.pid) or 0}"
        _children[job] = child
        if submission.members[0].run.folder == submission.folder:
            return [job]
        return [f"{job}_{member.run.folder.name}" for member in submission.members]

    def states(self, jobs: Mapping[str, RunDirectory]) -> dict[str, JobState]:
        """Look whether each process lives, and whose turn it is in a sweep."""
        return {job: self._state(job, run) for job, run in jobs.items()}

    def _state(self, job: str, run: RunDirectory) -> JobState:
        if run.in_sweep:
            return _turn(run, _lives(job))
        if _lives(job):
            return JobState("running")
        child = _children.get(job)
        code = child.poll() if child else None
        return JobState("ended", code=code if code is None or code >= 0 else 128 - code)

    def cancel(self, job: str, run: RunDirectory) -> None:
        """Ask what was started to end, and see that it does. Raises BadInput for a run of a sweep that waits for its
        turn, for it has no process of its own."""
        if not _lives(job) and run.lease.holder() is None:
            return
        if run.in_sweep and run.lease.holder() is None:
            raise BadInput(f"{run.name}: waits for its turn; {_end_of_sweep(run, 'cancel')}")
        pid, _ = _process(job)
        deadline = time.monotonic() + CANCEL_SECONDS
        _signal_group(pid, signal.SIGTERM)
        # The script is gone at once; entry, which holds the lease, when a checkpoint is safe.
        while run.lease.holder() and time.monotonic() < deadline:
            time.sleep(0.1)
        _signal_group(pid, signal.SIGKILL)
        end_orphans(str(run.folder), 0, 0)

    def stop(self, job: str, run: RunDirectory, reason: str) -> str:
        """Write the stop file of the live attempt; before one has begun, interrupt what waits for it. Raises BadInput
        for a run of a sweep that waits for its turn."""
        if run.lease.holder() is None and _lives(job):
            if not run.in_sweep:
                _signal_group(_process(job)[0], signal.SIGINT)
                return "leaves before an attempt has begun"
            if any(_is_stopping(other) for other in _sweep(run)):
                return "does not begin: the sweep ends with the run that is at work"
            raise BadInput(f"{run.name}: waits for its turn; {_end_of_sweep(run, 'stop')}")
        return stop_by_file(run, reason)

    def reader(self, job: str, run: RunDirectory, *, node: int, whole: bool) -> Reader:
        """Return what the process prints."""
        if node:
            raise BadInput(f"--node {node}: a local run has one node, 0")
        if run.in_sweep:
            # The runs of a sweep share one process and its output; what is a run's own lies with its attempts.
            return FileReader(lambda: [one.folder / "log.txt" for one in run.all_attempts()], whole=whole)
        return FileReader(lambda: [output(run.folder)], whole=whole)


def _signal_group(leader: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, number)


def stop_by_file(run: RunDirectory, reason: str) -> str:
    """Write the stop file of a run's live attempt. Raises BadInput when there is none."""
    attempts = run.all_attempts()
    if not attempts or run.lease.holder() is None:
        raise BadInput(f"{run.name} has no live attempt; hatrain cancel {run.name} takes it out of the queue")
    attempts[-1].request_stop(Stop(reason, requeue=False))
    return f"attempt {attempts[-1].number} saves a checkpoint at its next step and leaves"


def _lives(job: str) -> bool:
    pid, started = _process(job)
    return process_start(pid) == started


def _process(job: str) -> tuple[int, str]:
    """Return a job's process: its id, and when it started. A run of a sweep has its number behind that."""
    pid, _, started = job.partition("_")[0].partition(".")
    return int(pid), started


def _turn(run: RunDirectory, sweep_lives: bool) -> JobState:
    """Return how a run of a sweep is doing: before, in or behind its turn."""
    told = [
        event for event in run.events() if event.get("event") in ("submitted", "attempt begun", "outcome")
    ]
    newest = told[-1] if told else {}
    if run.lease.holder():
        return JobState("running")
    if newest.get("event") == "submitted":
        if sweep_lives:
            return JobState("queued", "waits for its turn in the sweep")
        return JobState("ended", "its sweep ended before its turn", int(Exit.STOPPED))
    # After a fault it is started again; with anything else its turn is over.
    at_fault = newest.get("event") != "outcome" or newest["code"] == Exit.FAULT
    return JobState("running" if sweep_lives and at_fault else "ended")


def _sweep(run: RunDirectory) -> list[RunDirectory]:
    return [RunDirectory(path) for path in run.folder.parent.iterdir() if path.name.isdigit()]


def _is_stopping(run: RunDirectory) -> bool:
    attempts = run.all_attempts()
    stop = attempts[-1].stop() if attempts and run.lease.holder() else None
    return stop is not None and not stop.requeue


def _end_of_sweep(run: RunDirectory, verb: str) -> str:
    return f"on this machine a sweep is one process, which ends with: hatrain {verb} {run.folder.parents[1].name}"
