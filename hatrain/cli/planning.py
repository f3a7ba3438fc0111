"""What plan, render, submit and train share: from the words on the command line to a Plan."""

import argparse
import os
import sys
from pathlib import Path

from hatrain.inputs import missing
from hatrain.load import read_job
from hatrain.plan import Plan
from hatrain.run import runs_root


def add_job(parser: argparse.ArgumentParser) -> None:
    """Add JOB and --set."""
    parser.add_argument("job", metavar="JOB", help="a job file, or the name of one in ./jobs")
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


def planned(args: argparse.Namespace) -> Plan:
    """Return the plan of the job on the cluster, with its notes told on stderr.

    Raises BadInput with file, line and key of everything that stands in the way.
    """
    from launch import cluster, planner

    job, document = read_job(args.job, args.settings)
    name, place, place_document = cluster.read_cluster(args.cluster)
    try:
        plan = planner.plan(job, place, name, workdir=Path.cwd(), runs_root=runs_root())
    except planner.Refusal as refusal:
        raise refusal.located(document, place_document) from None
    for note in planner.notes(plan):
        print(f"note: {note}", file=sys.stderr)
    return plan


def note_missing(plan: Plan) -> None:
    """Tell on stderr what the plan names and is not here: it may well be where the job will run."""
    for problem in missing(plan):
        print(f"note: not here: {problem}", file=sys.stderr)
