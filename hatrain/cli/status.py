"""`hatrain status`: how a run is doing, and where its things are; in the same words on every kind of cluster."""

import argparse
from pathlib import Path

from hatrain.cli.columns import aligned, states
from hatrain.cli.jobs import add_run
from hatrain.contract.run import find_runs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    add_run(parser)


def run(args: argparse.Namespace) -> int:
    """Print the state of a run, or of the runs of a sweep."""
    from hatrain.cli import summary

    runs = find_runs(args.run)
    print(states(runs))
    if len(runs) == 1 and (places := summary.places(runs[0], Path.cwd())):
        print()
        print(aligned([("", what, where) for what, where in places]))
    return 0
