"""`hatrain help`: all verbs in groups, or the options and examples of one."""

import argparse

from hatrain.cli import VERBS, overview, parser_of
from hatrain.errors import BadInput, nearest


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("verb", metavar="VERB", nargs="?", help="show the options and examples of this verb")


def run(args: argparse.Namespace) -> int:
    """Raises BadInput for a name that is no verb."""
    if args.verb is None:
        print(overview())
    elif args.verb in VERBS:
        parser_of(args.verb).print_help()
    else:
        raise BadInput(f"hatrain help: no verb {args.verb}{nearest(args.verb, VERBS)}; `hatrain help` lists all")
    return 0
