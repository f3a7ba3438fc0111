"""This machine: a job is a process of its own, which outlives the terminal."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from hatrain.errors import BadInput
from hatrain.lease import process_start
from hatrain.leftovers import end_leftovers
from hatrain.place import LocalPlace
from hatrain.run import RunDirectory, Stop
from launch import local
from launch.clients import FileReader, JobState, Member, Reader, Submission

CANCEL_SECONDS = 10.0
"""How long a cancelled process has to end by itself before it is killed."""


def make(place: LocalPlace) -> "LocalClient":
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
        return [job] * len(submission.members)

    def states(self, jobs: Mapping[str, RunDirectory]) -> dict[str, JobState]:
        """Look whether each process lives. How a run of a sweep is doing, its own directory says."""
        return {job: self._state(job) for job in jobs}

    def _state(self, job: str) -> JobState:
        if (child := _children.get(job)) and (code := child.poll()) is not None:
            return JobState("ended", code=code if code >= 0 else 128 - code)
        pid, started = _process(job)
        return JobState("running") if process_start(pid) == started else JobState("ended")

    def cancel(self, job: str, run: RunDirectory) -> None:
        """Ask what was started to end, and see that it does."""
        pid, started = _process(job)
        if process_start(pid) != started and run.lease.holder() is None:
            return
        deadline = time.monotonic() + CANCEL_SECONDS
        _signal_group(pid, signal.SIGTERM)
        # The script is gone at once; entry, which holds the lease, when a checkpoint is safe.
        while run.lease.holder() and time.monotonic() < deadline:
            time.sleep(0.1)
        _signal_group(pid, signal.SIGKILL)
        end_leftovers(str(run.folder), 0, 0)

    def stop(self, job: str, run: RunDirectory, reason: str) -> str:
        """Write the stop file of the live attempt; before one has begun, interrupt what waits for it."""
        pid, started = _process(job)
        if run.lease.holder() is None and process_start(pid) == started:
            os.killpg(pid, signal.SIGINT)
            return "leaves before an attempt has begun"
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


def _process(job: str) -> tuple[int, str]:
    pid, _, started = job.partition(".")
    return int(pid), started
