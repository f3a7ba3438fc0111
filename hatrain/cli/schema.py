"""`hatrain schema`: the JSON Schema that editors complete and check job files with."""

import argparse
import json

from hatrain.spec import json_schema


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The schema takes no arguments."""


def run(args: argparse.Namespace) -> int:
    """Print the schema."""
    print(json.dumps(json_schema(), indent=2, ensure_ascii=False))
    return 0
