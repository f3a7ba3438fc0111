"""`hatrain stop`: asks a run to save a checkpoint and leave, for good. It kills nothing."""

import argparse
import sys

from hatrain import provenance
from hatrain.run import Stop, find_run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.add_argument("run", metavar="RUN", help="a run's name, or its folder")


def run(args: argparse.Namespace) -> int:
    """Write the stop file of the live attempt. Returns 1 when there is none."""
    there = find_run(args.run)
    attempts = there.all_attempts()
    if not attempts or there.lease.holder() is None:
        state = "has finished" if there.done.exists() else "is not running"
        print(f"{there.name} {state}; there is nothing to stop", file=sys.stderr)
        return 1
    attempts[-1].request_stop(Stop(f"hatrain stop by {provenance.user()}", requeue=False))
    print(f"{there.name}: attempt {attempts[-1].number} saves a checkpoint at its next step and leaves")
    return 0
