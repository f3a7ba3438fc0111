"""`hatrain logs`: what a run printed; with --follow, what it prints, to its end."""

import argparse
import sys

from hatrain.cli.jobs import add_run, one


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    add_run(parser)
    parser.add_argument(
        "--follow", action="store_true", help="go on to the run's end, and return its exit code"
    )
    parser.add_argument(
        "--node", type=int, default=0, metavar="N", help="which node's words, from 0 (default)"
    )


def run(args: argparse.Namespace) -> int:
    """Print what there is. Returns 0, or with --follow the run's own code."""
    from launch import follow

    there = one(args.run)
    reader = there.speaker.reader(there.job, there.run, node=args.node, whole=True)
    if args.follow and there.now.alive:
        return follow.follow(there.run, there.job, there.speaker, reader, ours=False)
    try:
        sys.stdout.buffer.write(reader.read())
    finally:
        reader.close()
    return (there.now.code or 0) if args.follow else 0
