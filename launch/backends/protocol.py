"""What every backend provides: `Backend` decides and renders for one scheduler, `Client` talks to it."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Literal, Protocol, TypeVar

from hatrain.contract import inputs
from hatrain.contract.cluster.common import BaseCluster
from hatrain.contract.plan import Plan, ResourceRequest
from hatrain.contract.run import RunDirectory
from hatrain.contract.spec import JobSpec
from hatrain.errors import BadInput

Reason = tuple[str, str]
"""(key, text) of a refusal. Keys of the cluster file begin with `cluster.`."""
Spec = TypeVar("Spec", bound=BaseCluster)


@dataclass(frozen=True)
class PlannedRun:
    """One run of a submission: its directory on this machine, its plan, and the files of that directory."""

    directory: RunDirectory
    plan: Plan
    files: Mapping[str, str]


@dataclass(frozen=True)
class Submission:
    """Everything that is sent. Preview, diff and submission use the same object."""

    runs: tuple[PlannedRun, ...]
    """One run, or the runs of a sweep in the order of their numbers."""
    folder: Path
    """The run directory; for a sweep the folder that holds its runs."""
    files: Mapping[str, str]
    """Additional files of a sweep, by their path in `folder`."""
    command: tuple[str, ...]
    """Starts the submission once the files are written."""
    jobs: tuple[str, ...] = ()
    """The scheduler's id of each run, where they are known before anything is sent."""
    fresh: bool = False
    """Whether earlier runs of these names are set aside, where this machine does not do that itself."""

    @property
    def is_sweep(self) -> bool:
        return self.runs[0].directory.folder != self.folder


@dataclass(frozen=True)
class JobState:
    """A job as its scheduler sees it."""

    phase: Literal["queued", "running", "ended", "unknown"]
    """unknown: the scheduler has no such job, or has forgotten it."""
    reason: str = ""
    """In the scheduler's own words."""
    code: int | None = None
    """Exit code of an ended job, if the scheduler has it."""
    cancelled: bool = False
    """Somebody ended the job."""
    advice: str = ""
    """What ended the job and what to change, where the scheduler knows it and the run may not."""


@dataclass(frozen=True)
class Answer:
    """What a cluster has, or lacks, of what a job from this machine needs."""

    check: str
    state: Literal["ok", "note", "bad"]
    found: str
    remedy: str = ""


class AccessRefused(BadInput):
    """The scheduler does not let this user ask: asking again does not help."""


def nothing_to_pull(run: "RunDirectory") -> BadInput:
    return BadInput(
        f"{run.name}: pull is for clusters behind ssh (ssh in a Slurm cluster file); the results of this run are where "
        f"it ran, in {run.plan().paths.run}"
    )


class Reader(Protocol):
    """The output of a job, from one moment on."""

    problem: "tuple[int, list[str]] | None"
    """(exit code, lines) of the program that could not read all output; None while there was no problem."""

    def read(self) -> bytes:
        """Output since the last call. Does not wait for more."""

    def read_rest(self) -> bytes:
        """Output since the last call, of a job that has ended."""

    def close(self) -> None: ...


class Client(Protocol):
    """Talks to one scheduler. Every failure is a BadInput with one line for each problem."""

    poll_seconds: float
    """Interval between two queries while a job is watched."""

    def submission(
        self, runs: Sequence[PlannedRun], folder: Path, parent: str | None, at_once: int | None = None
    ) -> Submission:
        """Build a submission without sending it. `parent` is the scheduler's id of the job that must finish first; a
        client whose scheduler has no dependencies ignores it, and the run itself waits. `at_once` is how many runs of
        a sweep may run at the same time; all if it is None.

        Raises BadInput where the scheduler cannot limit that.
        """

    def check(self, submission: Submission) -> list[str]:
        """Ask the scheduler whether it would accept this. Returns what a user should know before it is sent, one line
        each. Raises BadInput with the scheduler's reason."""

    def diff(self, submission: Submission) -> str | None:
        """What the submission would change in the objects that the scheduler keeps; None if it keeps none, or cannot
        tell."""

    def start(self, submission: Submission) -> list[str]:
        """Send a submission whose files are written. Returns the scheduler's id of each run."""

    def refresh(self, runs: Sequence[RunDirectory]) -> None:
        """Bring what runs have written elsewhere into their directories here, where those are copies."""

    def arrived(self, submission: Submission) -> list[str]:
        """The scheduler's ids, if an earlier attempt to send the same was cut off after the scheduler had it."""

    def states(self, jobs: Mapping[str, RunDirectory]) -> dict[str, JobState]:
        """States by job id, with one query for all jobs."""

    def cancel(self, job: str, run: RunDirectory) -> None:
        """Remove a job from the queue, or end it."""

    def remove_rest(self, job: str, run: RunDirectory) -> bool:
        """Remove what a submission left that did not get through. Returns whether there was anything."""

    def stop(self, job: str, run: RunDirectory, reason: str) -> str:
        """Ask the running attempt to save a checkpoint and exit for good. Returns what was done, as a sentence."""

    def newest_step(self, job: str, run: RunDirectory) -> str:
        """The newest line of training of a running job whose run directory this machine does not see; empty if there is
        none, or if it does."""

    def pull(self, run: RunDirectory, *, model: bool, metrics: bool) -> list[str]:
        """Bring a run's results into its directory here, also while it runs: its model, or the newest whole checkpoint
        while it has none; and what it measured. Returns what a user should know, one line each.

        Raises BadInput where the directory here is the run's own.
        """

    def reader(self, job: str, run: RunDirectory, *, node: int, whole: bool) -> Reader:
        """Output of one node of a job: all of it, or what is written from now on."""


class Backend(ABC, Generic[Spec]):
    """One scheduler, for one cluster file. Everything here is pure; `client` returns what talks to the scheduler."""

    on_this_machine = False
    """Jobs run on the machine of the command: a missing input is an error, and Ctrl-C while following stops the run."""
    shares_files = True
    """This machine sees the files of the machines that run jobs: inputs, run directories and their records."""

    def __init__(self, cluster: Spec):
        self.cluster = cluster

    @property
    def copies(self) -> bool:
        """Whether the run directories of this machine are copies, which a client refreshes."""
        return False

    @property
    def has_image(self) -> bool:
        """Whether jobs run in an image, which has hatrain."""
        return False

    @abstractmethod
    def refusals(self, job: JobSpec, run: str) -> Iterator[Reason]:
        """What this cluster cannot provide for a job. `run` is the run's name."""

    def notes(self, job: JobSpec) -> Iterator[str]:
        """What a user should know about the cluster file, and about a job on this cluster, one line each."""
        yield from ()

    def resources(self, job: JobSpec, run: str) -> ResourceRequest | None:
        """What the job requests from the scheduler; None without a scheduler."""
        return None

    @abstractmethod
    def python(self) -> str:
        """The interpreter that starts a run."""

    def roots(self, workdir: Path, runs_root: Path) -> tuple[Path, Path]:
        """(workdir, runs_root) on the machines that run the job, from those on this machine."""
        return workdir, runs_root

    def run_directory(self, plan: Plan) -> RunDirectory:
        """The run's directory on this machine."""
        return RunDirectory(Path(plan.paths.run))

    def missing(self, plan: Plan) -> list[str]:
        """A line for each input that this machine lacks, where it should have them."""
        return inputs.missing(plan) if self.shares_files else []

    @abstractmethod
    def files(self, plan: Plan) -> dict[str, str]:
        """The files that start a run, by their path in its directory, without plan.json. Raises BadInput for a path or
        a size that the scheduler cannot take."""

    @abstractmethod
    def single_file(self, plan: Plan) -> str:
        """One text with all files, to be piped to bash, sbatch or kubectl. Raises as `files` does."""

    @abstractmethod
    def start_command(self, folder: str) -> str:
        """The command that starts the files in a folder."""

    def examine(self) -> Iterator[Answer]:
        """Ask the cluster whether it has what a job from this machine needs. Raises BadInput where that cannot be asked
        from here."""
        raise BadInput(
            "--cluster: found one without ssh; accepted: a Slurm cluster with ssh; elsewhere run doctor there"
        )

    @abstractmethod
    def client(self) -> Client: ...
