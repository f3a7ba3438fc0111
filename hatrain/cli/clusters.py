"""`hatrain clusters`: the cluster files that can be given by name."""

import argparse
import sys

from hatrain.cli import columns


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """This verb takes no arguments."""


def run(args: argparse.Namespace) -> int:
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
    print(columns.folded(rows, columns.width()))
    print(f"your own files are in {cluster_files.user_clusters()} and take precedence", file=sys.stderr)
    print("\n".join(problems), file=sys.stderr, end="\n" if problems else "")
    return 1 if problems else 0
