"""`hatrain pull`: bring the results of a run from a cluster behind ssh, also while it runs."""

import argparse
from pathlib import Path

from hatrain.cli.jobs import add_run
from hatrain.contract.run import find_runs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    parser.add_argument(
        "--model",
        action="store_true",
        help="only the model or adapter; while there is none, the newest whole checkpoint",
    )
    parser.add_argument("--metrics", action="store_true", help="only what was measured and logged")


def run(args: argparse.Namespace) -> int:
    """Without options, brings all that compare, report, ask, evaluate and export need here."""
    from launch.backends import backend

    both = args.model == args.metrics
    for each in find_runs(args.run):
        plan = each.plan()
        client = backend(plan.cluster_spec).client()
        for line in client.pull(each, model=both or args.model, metrics=both or args.metrics):
            print(line)
        result = each.result(plan.job)
        if result.is_dir() and (link := each.link_model(Path.cwd() / "models", result)):
            print(f"{each.name}: {link.relative_to(Path.cwd())}")
    return 0
