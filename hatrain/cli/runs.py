"""`hatrain runs`: every run of this folder with its state."""

import argparse
import sys

from hatrain.cli.columns import states
from hatrain.contract.run import all_runs, runs_root


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """This verb takes no arguments."""


def run(args: argparse.Namespace) -> int:
    from launch.status import look

    if runs := all_runs():
        print(states(look(runs, steps=True)))
    else:
        print(f"there is no run in {runs_root()}", file=sys.stderr)
    return 0
