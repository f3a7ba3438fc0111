"""`hatrain cancel`: remove a run from the queue, or end it. It is not requeued."""

import argparse
import sys
from contextlib import suppress

from hatrain.cli.jobs import add_run, submitted_runs
from hatrain.errors import BadInput
from hatrain.runtime import provenance


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_run(parser)


def run(args: argparse.Namespace) -> int:
    """Returns 1 if there is nothing to cancel."""
    code = 1
    for target in submitted_runs(args.run):
        if not target.status.alive:
            if target.status.job and target.client.remove_rest(target.status.job, target.directory):
                print(f"{target.name}: removed what was left of its submission")
                code = 0
            else:
                unknown = f"its state is not known: {target.status.reason}"
                state = f"is {target.status.state}; there is nothing to cancel"
                print(f"{target.name}: {unknown if target.status.state == 'unknown' else state}", file=sys.stderr)
            continue
        job, user = target.job, provenance.user()
        if target.status.state != "queued":
            # First ask for a stop without a requeue, so that the scheduler's signal does not cause one.
            with suppress(BadInput):
                target.client.stop(job, target.directory, f"hatrain cancel by {user}")
        target.client.cancel(job, target.directory)
        target.directory.record("cancelled", job=job, user=user)
        print(f"{target.name}: cancelled")
        code = 0
    return code
