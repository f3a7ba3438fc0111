"""`hatrain runs`: every run of this folder, and how each is doing."""

import argparse
import sys

from hatrain.cli.columns import states
from hatrain.contract.run import all_runs, runs_root


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The listing takes no arguments."""


def run(args: argparse.Namespace) -> int:
    """Print a line for each run."""
    if runs := all_runs():
        print(states(runs))
    else:
        print(f"there is no run in {runs_root()}", file=sys.stderr)
    return 0
