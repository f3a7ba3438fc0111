"""Plan → files, by the kind of place. Pure; each launcher's own module spells its own."""

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from hatrain.contract.plan import Plan
from hatrain.contract.run import RunDirectory, runs_root
from launch.backends import Member


class Renderer(Protocol):
    """What launch/local.py, launch/slurm and launch/kubernetes each give."""

    def files(self, plan: Plan) -> dict[str, str]:
        """Return the files of a run directory that start it, by their path in it. plan.json is not among them."""

    def stream(self, plan: Plan) -> str:
        """Return one text that holds everything, to be piped to bash, sbatch or kubectl."""

    def how(self, folder: str) -> str:
        """Return the command that starts what was written to a folder."""


def renderer(kind: str) -> Renderer:
    """Return the renderer of a kind of place."""
    module: Renderer = importlib.import_module(f"launch.backends.{kind}.render")
    return module


def files(plan: Plan) -> dict[str, str]:
    """Return the files of a plan's run directory; plan.json is not among them."""
    return renderer(plan.launcher).files(plan)


def stream(plan: Plan) -> str:
    """Return a plan as one text, to be piped to whoever starts it."""
    return renderer(plan.launcher).stream(plan)


def members(plans: Sequence[Plan]) -> tuple[Member, ...]:
    """Return runs as a submission takes them."""
    return tuple(Member(directory(plan), plan, files(plan)) for plan in plans)


def directory(plan: Plan) -> RunDirectory:
    """Return a run's directory on this machine. Kubernetes has the run's own on a volume of its own; here is what was
    submitted."""
    if plan.launcher == "kubernetes":
        inside = Path(plan.paths.run).relative_to(Path(plan.paths.workdir) / "runs")
        return RunDirectory(runs_root() / inside)
    return RunDirectory(Path(plan.paths.run))
