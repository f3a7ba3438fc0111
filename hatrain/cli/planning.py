"""What plan, render, submit and train share: from the words on the command line to a Plan."""

import argparse
import itertools
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from hatrain.contract.inputs import missing
from hatrain.contract.load import Loader, read_job
from hatrain.contract.plan import Plan
from hatrain.contract.run import SWEEP, runs_root
from hatrain.errors import BadInput


def add_job(parser: argparse.ArgumentParser, *, needed: bool = True) -> None:
    """Add JOB, which may be left out where it is not `needed`, and --set."""
    parser.add_argument(
        "job", metavar="JOB", nargs=None if needed else "?", help="a job file, or the name of one in ./jobs"
    )
    parser.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        dest="settings",
        help="override a key of the job, such as method.learning_rate=2e-5; may be given often",
    )


def add_cluster(parser: argparse.ArgumentParser) -> None:
    """Add --cluster."""
    parser.add_argument(
        "--cluster",
        metavar="NAME|PATH",
        default=os.environ.get("CLUSTER") or "local",
        help="where to run: a cluster file, or its name ($CLUSTER, else local)",
    )


def add_sweep(parser: argparse.ArgumentParser) -> None:
    """Add --sweep."""
    parser.add_argument(
        "--sweep",
        metavar="KEY=V1,V2",
        action="append",
        default=[],
        help="one run for each value, such as method.learning_rate=1e-5,2e-5; given often, one for each combination",
    )


def planned(args: argparse.Namespace) -> Plan:
    """Return the plan of the job on the cluster, with its notes told on stderr.

    Raises BadInput with file, line and key of everything that stands in the way.
    """
    return _planned(args, {None: ()})[0]


def swept(args: argparse.Namespace) -> list[Plan]:
    """Return the plans of a sweep, one for each combination of the values; notes and BadInput as in `planned`."""
    return _planned(args, dict(enumerate(combinations(args.sweep))))


def _planned(args: argparse.Namespace, choices: Mapping[int | None, Sequence[str]]) -> list[Plan]:
    from launch import cluster_files, planner

    name, place, cluster_document = cluster_files.read_cluster(args.cluster)
    plans: list[Plan] = []
    notes: dict[str, None] = {}
    for number, chosen in choices.items():
        job, document = read_job(args.job, args.settings, chosen)
        run = None if number is None else f"{job.name}/{SWEEP}/{number}"
        try:
            plan = planner.plan(job, place, name, workdir=Path.cwd(), runs_root=runs_root(), run=run)
        except planner.Refusal as refusal:
            raise refusal.located(document, cluster_document) from None
        notes |= dict.fromkeys(planner.notes(plan))
        plans.append(plan)
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    return plans


def combinations(sweeps: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the settings of each run of a sweep: every combination of `a.b=v1,v2`, the last key fastest.

    Raises BadInput for what cannot be swept: a place, a limit or a name is the same for all runs of a sweep.
    """
    axes = []
    for sweep in sweeps:
        key, equals, values = sweep.partition("=")
        chosen = [value for value in _between_commas(values) if value.strip()]
        if not equals or len(chosen) < 2:
            raise BadInput(
                f"--sweep {sweep}: found no KEY=V1,V2; accepted: for example method.learning_rate=1e-5,2e-5"
            )
        if key.split(".")[0] not in SWEPT and key != "seed":
            raise BadInput(
                f"--sweep {sweep}: {key} is the same for all runs of a sweep; accepted: seed, or keys of "
                f"{', '.join(SWEPT)}"
            )
        axes.append([f"{key}={value.strip()}" for value in chosen])
    return list(itertools.product(*axes))


SWEPT = ("model", "data", "method")
"""The parts of a job that runs of a sweep may differ in."""


def _between_commas(text: str) -> list[str]:
    """Split at the commas that YAML would split a list at: not at those in brackets and quotes."""
    written = f"[{text}]"
    try:
        root = yaml.compose(written, Loader=Loader)
    except yaml.YAMLError:
        return []
    assert isinstance(root, yaml.SequenceNode)
    return [written[node.start_mark.index : node.end_mark.index] for node in root.value]


def note_missing(plan: Plan) -> None:
    """Tell on stderr what the plan names and is not here: it may well be where the job will run. What lies on the
    volumes of a pod cannot be looked at from here."""
    for problem in [] if plan.launcher == "kubernetes" else missing(plan):
        print(f"note: not here: {problem}", file=sys.stderr)
