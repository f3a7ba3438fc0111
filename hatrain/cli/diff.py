"""`hatrain diff`: what submitting a job now would change against what was submitted last."""

import argparse
import sys

from hatrain.cli.planning import add_cluster, add_job, planned
from hatrain.errors import BadInput


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    add_job(parser)
    add_cluster(parser)


def run(args: argparse.Namespace) -> int:
    """Print a unified diff. Returns 0 when nothing would change, 1 when something would."""
    from launch import render, submit

    plan = planned(args)
    there = render.directory(plan)
    submission, speaker = submit.of([plan])
    if not there.plan_file.exists():
        print(f"{there.name}: was not submitted before; everything is new", file=sys.stderr)
    elif lines := there.difference(plan.job):
        print(
            f"{there.name}: another job under this name; submit --fresh sets the old one aside:",
            file=sys.stderr,
        )
        print("\n".join(f"  {line}" for line in lines), file=sys.stderr)
    changed = submit.difference(submission)
    print(changed, end="")
    try:
        kept = speaker.diff(submission) or ""
    except BadInput as error:
        # What was sent from here is shown all the same.
        print(f"note: {error.problems[0]}", file=sys.stderr)
        kept = ""
    print(kept, end="")
    return 1 if changed or kept else 0
