"""`hatrain diff`: what submitting a job now would change compared with its last submission."""

import argparse
import sys

from hatrain.cli.planning import add_cluster, add_force, add_job, planned
from hatrain.errors import BadInput


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_job(parser)
    add_cluster(parser)
    add_force(parser)


def run(args: argparse.Namespace) -> int:
    """Prints a unified diff. Returns 0 if nothing would change, 1 if something would."""
    from launch import submit

    plan = planned(args)
    submission, client = submit.prepare([plan])
    directory = submission.runs[0].directory
    if not directory.plan_file.exists():
        print(f"{directory.name}: was not submitted before; everything is new", file=sys.stderr)
    elif lines := directory.difference(plan.job):
        print(f"{directory.name}: another job has this name; submit --fresh moves it aside:", file=sys.stderr)
        print("\n".join(f"  {line}" for line in lines), file=sys.stderr)
    changed = submit.difference(submission)
    print(changed, end="")
    try:
        changed_objects = client.diff(submission) or ""
    except BadInput as error:
        # The difference between the files is known without the scheduler.
        print(f"note: {error.problems[0]}", file=sys.stderr)
        changed_objects = ""
    print(changed_objects, end="")
    return 1 if changed or changed_objects else 0
