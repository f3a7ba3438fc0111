"""`hatrain schema`: the JSON Schemas that editors complete and check job files and cluster files with."""

import argparse
import json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.add_argument("--cluster", action="store_true", help="of a cluster file, in place of a job's")


def run(args: argparse.Namespace) -> int:
    """Print the schema."""
    from hatrain.contract import cluster as place
    from hatrain.contract import spec

    schema = place.json_schema() if args.cluster else spec.json_schema()
    print(json.dumps(schema, indent=2, ensure_ascii=False))
    return 0
