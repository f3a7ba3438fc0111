"""`hatrain wait`: wait until a run has ended for good, and exit with its exit code."""

import argparse

from hatrain.cli.columns import width
from hatrain.cli.compare import of_sweep
from hatrain.cli.jobs import add_run, submitted_runs
from hatrain.contract.run import Exit


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_run(parser)


def run(args: argparse.Namespace) -> int:
    """For a sweep, prints its results as well, and returns the first exit code that is not 0."""
    from launch import follow

    targets = submitted_runs(args.run)
    # A scheduler that does not answer at this moment may do so soon.
    alive = {
        target.job: target.directory for target in targets if target.status.alive or target.status.state == "unknown"
    }
    if alive:
        follow.wait(alive, targets[0].client)
        targets = submitted_runs(args.run)
    # What is not known is not a success.
    codes = [int(Exit.FAULT) if target.status.code is None else target.status.code for target in targets]
    for target, code in zip(targets, codes, strict=True):
        reason = f": {target.status.reason}" if target.status.reason else ""
        print(f"{target.name}: {target.status.state} ({code}){reason}")
    if len(targets) > 1:
        print(f"\n{of_sweep(targets, width())}")
    return next((code for code in codes if code), 0)
