"""`hatrain cancel`: takes a run out of the queue, or ends it; it is not queued again."""

import argparse
import sys
from contextlib import suppress

from hatrain.cli.jobs import add_run, known
from hatrain.errors import BadInput
from hatrain.runtime import provenance


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    add_run(parser)


def run(args: argparse.Namespace) -> int:
    """Cancel the run, or each run of a sweep that still comes to something. Returns 1 when none does."""
    code = 1
    for there in known(args.run):
        if not there.now.alive:
            print(f"{there.run.name}: is {there.now.word}; there is nothing to cancel", file=sys.stderr)
            continue
        job, user = there.job, provenance.user()
        if there.now.word != "queued":
            # First a stop that does not queue again, so that what the cluster's signal makes of it is an end.
            with suppress(BadInput):
                there.speaker.stop(job, there.run, f"hatrain cancel by {user}")
        there.speaker.cancel(job, there.run)
        there.run.record("cancelled", job=job, user=user)
        print(f"{there.run.name}: cancelled")
        code = 0
    return code
