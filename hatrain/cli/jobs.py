"""What logs, stop, cancel and wait share: from the name of a run to its job."""

import argparse
from dataclasses import dataclass

from hatrain.contract.run import RunDirectory, find_runs
from hatrain.errors import BadInput
from launch.backends import backend
from launch.backends.protocol import Client
from launch.status import Status, look


@dataclass(frozen=True)
class SubmittedRun:
    """A run, its state, and the client of its scheduler."""

    directory: RunDirectory
    status: Status
    client: Client

    @property
    def name(self) -> str:
        return self.directory.name

    @property
    def job(self) -> str:
        """The scheduler's id. Raises BadInput for a run that was never submitted."""
        if self.status.job is None:
            raise BadInput(f"{self.name}: was started by hand, so no scheduler has a job of it")
        return self.status.job


def add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="name or folder of a run or sweep")


def submitted_runs(name: str) -> list[SubmittedRun]:
    """The run of this name, or the runs of this sweep. Raises BadInput with the nearest name."""
    runs = find_runs(name)
    return [
        SubmittedRun(run, status, backend(run.plan().cluster_spec).client())
        for run, status in zip(runs, look(runs), strict=True)
    ]


def submitted_run(name: str) -> SubmittedRun:
    """As `submitted_runs`, but raises BadInput for a sweep."""
    first, *others = submitted_runs(name)
    if others:
        names = ", ".join([first.name, *(other.name for other in others)])
        raise BadInput(f"{name}: is a sweep; accepted here: one of its runs, {names}")
    return first
