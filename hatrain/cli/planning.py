"""What plan, render, submit and train share: from the command line to a Plan."""

import argparse
import itertools
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from hatrain.cli.job_header import makes_missing
from hatrain.cli.sweeps import settings_of
from hatrain.contract import dependency, extras, hub
from hatrain.contract.load import read_job
from hatrain.contract.model_ref import resolve
from hatrain.contract.plan import Plan
from hatrain.contract.run import SWEEP, RunDirectory, runs_root
from hatrain.contract.trackers import not_installed
from hatrain.errors import BadInput


def add_job(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    parser.add_argument(
        "job",
        metavar="JOB",
        nargs=None if required else "?",
        help="a job file, the name of one that `hatrain jobs` lists, or - for standard input",
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


def absent(plan: Plan) -> list[str]:
    """Return a line for each thing that a run of the plan lacks on this machine: inputs, and where this interpreter
    runs the job, its model, parts of hatrain, the tools of its export, and trackers."""
    from hatrain.export import tools
    from launch.backends import backend

    target = backend(plan.cluster_spec)
    problems = target.missing(plan)
    if plan.python != sys.executable:
        return problems
    if target.on_this_machine:
        problems = [*problems, *extras.problems("train", "a run on this machine"), *_missing_from_hub(plan)]
    if plan.job.export:
        problems = [*problems, *tools.missing()]
    return [*problems, *not_installed(plan.job.logging.trackers)]


def _missing_from_hub(plan: Plan) -> list[str]:
    model, parent = plan.job.model, dependency.unfinished(plan)
    if parent and dependency.makes_base(parent, plan):
        return []
    try:
        ref = resolve(
            model.base,
            model.revision,
            workdir=Path(plan.paths.workdir),
            runs_root=RunDirectory(Path(plan.paths.run)).root,
        )
    except BadInput:
        return []  # `missing` says it
    problem = hub.unavailable(ref.repository, ref.revision) if ref.repository else None
    return [f"model.base: {problem}"] if problem else []


def note_absent(plan: Plan, job: str) -> None:
    """Note on stderr what `absent` returns, and what makes it: the machines that run the job may have it. `job` is how
    the command line names the job."""
    problems = absent(plan)
    for problem in problems:
        print(f"note: not on this machine: {problem}", file=sys.stderr)
    for line in makes_missing(job, problems):
        print(f"note: {line}", file=sys.stderr)
