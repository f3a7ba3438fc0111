"""`hatrain logs`: the output of a run; with --follow, until its end."""

import argparse
import sys

from hatrain.cli.jobs import add_run, submitted_run
from hatrain.contract.run import Exit


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    parser.add_argument("--follow", action="store_true", help="continue to the run's end, and exit with its exit code")
    parser.add_argument("--node", type=int, default=0, metavar="N", help="number of the node (default: 0)")


def run(args: argparse.Namespace) -> int:
    """Returns 0, or with --follow the run's exit code."""
    from launch import follow

    target = submitted_run(args.run)
    reader = target.client.reader(target.job, target.directory, node=args.node, whole=True)
    if args.follow and target.status.alive:
        return follow.follow(target.directory, target.job, target.client, reader, stop_on_interrupt=False)
    try:
        sys.stdout.buffer.write(reader.read())
    finally:
        reader.close()
    if not args.follow and reader.problem:
        code, lines = reader.problem
        print("\n".join(lines), file=sys.stderr)
        return code
    if not args.follow:
        return 0
    return int(Exit.FAULT) if target.status.code is None else target.status.code
