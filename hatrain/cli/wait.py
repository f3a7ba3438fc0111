"""`hatrain wait`: wait until a run has ended for good, and exit with its exit code."""

import argparse

from hatrain.cli.jobs import add_run, submitted_runs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_run(parser)


def run(args: argparse.Namespace) -> int:
    """For a sweep, returns the first exit code that is not 0."""
    from launch import follow

    targets = submitted_runs(args.run)
    alive = {target.job: target.directory for target in targets if target.status.alive}
    if alive:
        follow.wait(alive, targets[0].client)
        targets = submitted_runs(args.run)
    for target in targets:
        status = target.status
        reason = f": {status.reason}" if status.reason else ""
        print(f"{target.name}: {status.state} ({status.code}){reason}")
    return next((target.status.code for target in targets if target.status.code), 0)
