"""`hatrain status`: the state of a run, and where its files are."""

import argparse
from pathlib import Path

from hatrain.cli.columns import aligned, states
from hatrain.cli.jobs import add_run
from hatrain.contract.run import find_runs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_run(parser)


def run(args: argparse.Namespace) -> int:
    from hatrain.cli import summary
    from launch.status import look

    runs = find_runs(args.run)
    found = look(runs, steps=True)
    print(states(found))
    if len(found) == 1 and found[0].newest:
        print(f"\n  {found[0].newest}")
    if len(runs) == 1 and (paths := summary.paths(runs[0], Path.cwd())):
        print()
        print(aligned([("", name, path) for name, path in paths]))
    return 0
