"""`hatrain clusters`: the places that jobs can be sent to, by name."""

import argparse
import sys

from hatrain.cli.columns import aligned


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The listing takes no arguments."""


def run(args: argparse.Namespace) -> int:
    """Print a line for each cluster file. Returns 1 when one of them cannot be used."""
    from hatrain.errors import BadInput
    from launch import cluster_files

    rows = [("CLUSTER", "KIND", "FILE")]
    problems: list[str] = []
    for path in cluster_files.known():
        try:
            rows.append((path.stem, cluster_files.load_cluster(str(path))[1].kind, str(path)))
        except BadInput as error:
            rows.append((path.stem, "-", str(path)))
            problems += error.problems
    print(aligned(rows))
    print(f"a file of your own in {cluster_files.own_clusters()} comes first", file=sys.stderr)
    print("\n".join(problems), file=sys.stderr, end="\n" if problems else "")
    return 1 if problems else 0
