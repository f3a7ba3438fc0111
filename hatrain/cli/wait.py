"""`hatrain wait`: returns when a run has left for good, with its own exit code."""

import argparse

from hatrain.cli.jobs import add_run, known


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    add_run(parser)


def run(args: argparse.Namespace) -> int:
    """Wait for the run, or for all runs of a sweep. Returns 0, or the first code that is another."""
    from launch import follow

    waiting = known(args.run)
    live = {there.job: there.run for there in waiting if there.now.alive}
    if live:
        follow.wait(live, waiting[0].speaker)
        waiting = known(args.run)
    for there in waiting:
        now = there.now
        print(f"{there.run.name}: {now.word} ({now.code})" + (f": {now.reason}" if now.reason else ""))
    return next((there.now.code for there in waiting if there.now.code), 0)
