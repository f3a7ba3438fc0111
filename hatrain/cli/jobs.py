"""What logs, stop, cancel and wait share: from a run's name to the job that a scheduler knows."""

import argparse
from dataclasses import dataclass

from hatrain.contract.run import RunDirectory, find_runs
from hatrain.errors import BadInput
from launch.backends import Client, client
from launch.status import Status, look


@dataclass(frozen=True)
class Known:
    """A run, how it is doing, and who to ask about its job."""

    run: RunDirectory
    now: Status
    speaker: Client

    @property
    def job(self) -> str:
        """The scheduler's id. Raises BadInput for a run that was never submitted."""
        if self.now.job is None:
            raise BadInput(f"{self.run.name}: was started by hand; no scheduler has a job of it")
        return self.now.job


def add_run(parser: argparse.ArgumentParser) -> None:
    """Add RUN."""
    parser.add_argument("run", metavar="RUN", help="a run's name, or its folder; or a sweep's")


def known(name: str) -> list[Known]:
    """Return the runs that a name means, with what is known of each. Raises BadInput with the nearest name."""
    runs = find_runs(name)
    return [
        Known(run, now, client(run.plan().cluster_spec)) for run, now in zip(runs, look(runs), strict=True)
    ]


def one(name: str) -> Known:
    """Return the one run that a name means. Raises BadInput for a sweep."""
    first, *others = known(name)
    if others:
        names = ", ".join([first.run.name, *(other.run.name for other in others)])
        raise BadInput(f"{name}: is a sweep; accepted here: one of its runs, {names}")
    return first
