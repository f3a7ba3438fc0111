"""`hatrain import`: translate a command of the training guide into a job file, or into the matching command."""

import argparse
import sys

from hatrain.errors import BadInput
from hatrain.runtime import streams


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = "hatrain import -- COMMAND ..."
    parser.epilog = (
        "For example: hatrain import -- python3 train.py --run_name my-run ... > jobs/my-run.yaml. Notes on settings "
        "that a job writes in another way go to stderr."
    )
    parser.add_argument(
        "command", nargs=argparse.REMAINDER, help="a command of the guide, after -- or as one quoted argument"
    )


def run(args: argparse.Namespace) -> int:
    from hatrain.guide.command import translate

    command = args.command[1:] if args.command[:1] == ["--"] else args.command
    if not command:
        raise BadInput("hatrain import: found no command; accepted: for example -- python3 train.py --run_name …")
    translation = translate(command)
    streams.write_utf8(translation.text)
    for note in translation.notes:
        print(f"note: {note}", file=sys.stderr)
    return 0
