"""`hatrain completion`: a script that completes verbs, options, jobs, runs and clusters. It looks at files, and starts
no Python."""

import argparse

from hatrain.cli.shells import SHELLS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", metavar="SHELL", choices=list(SHELLS), help="bash, zsh or fish")


def run(args: argparse.Namespace) -> int:
    from hatrain.cli import VERBS, parser_of
    from hatrain.cli.shells.verbs import described

    print(SHELLS[args.shell]([described(verb, VERBS[verb], parser_of(verb)) for verb in VERBS]), end="")
    return 0
