"""`hatrain runs`: every run of this folder with its state."""

import argparse
import json
import sys

from hatrain.cli import columns
from hatrain.contract.run import all_runs, runs_root


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print a list with an object for each run")


def run(args: argparse.Namespace) -> int:
    from launch.status import look

    runs = all_runs()
    found = look(runs, steps=True) if runs else []
    if args.json:
        print(json.dumps([now.to_dict() for now in found], indent=2, ensure_ascii=False))
    elif found:
        print(columns.states(found, columns.width()))
    else:
        print(f"there is no run in {runs_root()}", file=sys.stderr)
    return 0
