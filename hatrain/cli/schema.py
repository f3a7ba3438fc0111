"""`hatrain schema`: print the JSON Schema that editors complete and check job files or cluster files with."""

import argparse
import json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cluster", action="store_true", help="the schema of a cluster file instead of a job's")


def run(args: argparse.Namespace) -> int:
    from hatrain.contract import cluster, spec

    schema = cluster.json_schema() if args.cluster else spec.json_schema()
    print(json.dumps(schema, indent=2, ensure_ascii=False))
    return 0
