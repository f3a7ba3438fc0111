"""What plan, render, submit and train share: from the command line to a Plan."""

import argparse
import itertools
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from hatrain.cli.sweeps import settings_of
from hatrain.contract.load import read_job
from hatrain.contract.plan import Plan
from hatrain.contract.run import SWEEP, runs_root
from hatrain.contract.trackers import not_installed
from hatrain.errors import BadInput


def add_job(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    parser.add_argument(
        "job", metavar="JOB", nargs=None if required else "?", help="a job file, or the name of one in ./jobs"
    )
    parser.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        dest="settings",
        help="override a key of the job, such as method.learning_rate=2e-5; repeatable",
    )


def add_force(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--force", action="store_true", help="accept a job that does not fit into its GPUs' memory")


def add_cluster(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--cluster",
        metavar="NAME|PATH",
        default=os.environ.get("CLUSTER") or "local",
        help="a cluster file or its name (default: $CLUSTER, else local)",
    )


def planned(args: argparse.Namespace) -> Plan:
    """The plan of the job on the cluster; its notes go to stderr.

    Raises BadInput with file, line and key of every problem.
    """
    return _planned(args, {None: ()})[0]


def swept(args: argparse.Namespace) -> list[Plan]:
    """The plans of a sweep, one for each of its runs. Otherwise as `planned`."""
    settings = settings_of(args.sweep, args.zip)
    plans = _planned(args, dict(enumerate(settings)))
    for (one, first), (other, second) in itertools.combinations(zip(settings, plans, strict=True), 2):
        if first.job == second.job:
            raise BadInput(f"--sweep: {' '.join(one)} and {' '.join(other)} are the same job; accepted: each once")
    return plans


def _planned(args: argparse.Namespace, settings: Mapping[int | None, Sequence[str]]) -> list[Plan]:
    """`settings` of each run of a sweep by the run's number, or under None those of the one run."""
    from launch import cluster_files, planner

    name, cluster, cluster_document = cluster_files.read_cluster(args.cluster)
    plans: list[Plan] = []
    notes: dict[str, None] = {}
    for number, sweep_settings in settings.items():
        job, document = read_job(args.job, args.settings, sweep_settings)
        run = None if number is None else f"{job.name}/{SWEEP}/{number}"
        try:
            plan = planner.plan(
                job,
                cluster,
                name,
                workdir=Path.cwd(),
                runs_root=runs_root(),
                run=run,
                force=args.force,
                ask_hub=True,
                fresh=getattr(args, "fresh", False),
            )
        except planner.Refusal as refusal:
            raise refusal.located(document, cluster_document) from None
        notes |= dict.fromkeys(planner.notes(plan))
        plans.append(plan)
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    return plans


def absent_trackers(plan: Plan) -> list[str]:
    """Return a line where trackers are not installed, if this interpreter runs the job: of another nothing is known."""
    return not_installed(plan.job.logging.trackers) if plan.python == sys.executable else []


def note_missing(plan: Plan) -> None:
    """Note on stderr which inputs are missing on this machine, and, where this interpreter runs the job, which tools of
    its export and which trackers; the machines that run the job may have the inputs."""
    from hatrain.export import tools
    from launch.backends import backend

    problems = backend(plan.cluster_spec).missing(plan)
    if plan.job.export and plan.python == sys.executable:
        problems = [*problems, *tools.missing()]
    for problem in [*problems, *absent_trackers(plan)]:
        print(f"note: not on this machine: {problem}", file=sys.stderr)
