"""Speaking to whoever starts jobs: this machine, Slurm, Kubernetes. The only rooms that start a process or call a
scheduler's client; each of them does the same five things, in the same words."""

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from hatrain.contract.cluster import ClusterSpec
from hatrain.contract.plan import Plan
from hatrain.contract.run import RunDirectory


@dataclass(frozen=True)
class Member:
    """One run of a submission: its directory on this machine, its plan, and the files that go into the directory."""

    run: RunDirectory
    plan: Plan
    files: Mapping[str, str]


@dataclass(frozen=True)
class Submission:
    """Exactly what is sent: previewed, compared and sent as this one object."""

    members: tuple[Member, ...]
    """One run; the runs of a sweep, in the order of their numbers."""
    folder: Path
    """The run's directory; of a sweep the folder that holds its runs."""
    files: Mapping[str, str]
    """What a sweep has beside the files of its runs, by their path in `folder`."""
    command: tuple[str, ...]
    """What starts it all, once the files are there."""


@dataclass(frozen=True)
class JobState:
    """What a scheduler says of a job."""

    phase: Literal["queued", "running", "ended", "unknown"]
    """unknown: nobody has heard of it (any more)."""
    reason: str = ""
    """The scheduler's own words."""
    code: int | None = None
    """The exit code of a job that ended, where the scheduler knows one."""


class Reader(Protocol):
    """What a job prints, from one moment on."""

    def read(self) -> bytes:
        """Return what came since the last call; never waits long."""

    def close(self) -> None:
        """Let go of what was opened."""


class Client(Protocol):
    """One kind of place. Everything it cannot do is raised as BadInput, in one line."""

    poll_seconds: float
    """How often it may be asked by somebody who watches."""

    def submission(self, members: Sequence[Member], folder: Path, parent: str | None) -> Submission:
        """Return what would be sent. `parent` is the scheduler's id of the job that must finish first. Pure."""

    def check(self, submission: Submission) -> None:
        """Ask the scheduler whether it would take this. Raises BadInput with its own reason."""

    def diff(self, submission: Submission) -> str | None:
        """Return what sending this would change of what the scheduler itself keeps; None where that cannot be said."""

    def start(self, submission: Submission) -> list[str]:
        """Send it, once its files are written. Returns the scheduler's id of each member."""

    def states(self, jobs: Mapping[str, RunDirectory]) -> dict[str, JobState]:
        """Return what became of jobs, by their ids, asking once for all of them."""

    def cancel(self, job: str, run: RunDirectory) -> None:
        """Take a job out of the queue, or end it."""

    def stop(self, job: str, run: RunDirectory, reason: str) -> str:
        """Ask a live attempt to save a checkpoint and leave for good. Returns what was done, in a sentence."""

    def reader(self, job: str, run: RunDirectory, *, node: int, whole: bool) -> Reader:
        """Return what a node of a job prints: all of it, or what comes from now on."""


def client(place: ClusterSpec) -> Client:
    """Return the client of a place."""
    module = importlib.import_module(f"launch.backends.{place.kind}.client")
    made: Client = module.make(place)
    return made


class FileReader:
    """What is appended to files of a job, in order; a file that appears later is read from its beginning."""

    def __init__(self, files: "FilesNow", *, whole: bool):
        self._files = files
        self._at = {} if whole else {path: path.stat().st_size for path in files() if path.exists()}

    def read(self) -> bytes:
        """Return what was appended since the last call."""
        said = b""
        for path in self._files():
            try:
                with path.open("rb") as file:
                    file.seek(self._at.get(path, 0))
                    more = file.read()
            except FileNotFoundError:
                continue
            self._at[path] = self._at.get(path, 0) + len(more)
            said += more
        return said

    def close(self) -> None:
        """Nothing stays open between two reads."""


class FilesNow(Protocol):
    """Names the files that a job has by now, in the order in which they are read."""

    def __call__(self) -> Sequence[Path]: ...
