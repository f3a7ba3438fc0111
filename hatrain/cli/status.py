"""`hatrain status`: the state of a run, and where its files are."""

import argparse
import json
from pathlib import Path

from hatrain.cli import columns
from hatrain.cli.jobs import add_run
from hatrain.contract.run import find_runs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    parser.add_argument("--json", action="store_true", help="print a list with an object for the run, or for each")


def run(args: argparse.Namespace) -> int:
    from hatrain.cli import summary
    from launch.status import look

    runs = find_runs(args.run)
    found = look(runs, steps=True)
    if args.json:
        files = [{name.lower(): path for name, path in summary.paths(run)} for run in runs]
        listed = [{**now.to_dict(), "files": paths} for now, paths in zip(found, files, strict=True)]
        print(json.dumps(listed, indent=2, ensure_ascii=False))
        return 0
    print(columns.states(found, columns.width()))
    if len(found) == 1 and found[0].newest:
        print(f"\n  {found[0].newest}")
    if len(runs) == 1 and (paths := summary.paths(runs[0], Path.cwd())):
        print()
        print(columns.aligned([("", name, path) for name, path in paths]))
    return 0
