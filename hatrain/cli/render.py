"""`hatrain render`: the files that a launcher needs, as one stream or in a folder."""

import argparse
import sys
from pathlib import Path

from hatrain.cli.planning import add_cluster, add_job, note_missing, planned


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    add_job(parser)
    add_cluster(parser)
    parser.add_argument("--out", metavar="DIR", type=Path, help="write the files there instead of printing")


def run(args: argparse.Namespace) -> int:
    """Print one stream, or write the files."""
    from hatrain.errors import BadInput
    from hatrain.runtime import seal
    from launch import render, run_files

    plan = planned(args)
    note_missing(plan)
    if args.out is None:
        print(render.stream(plan), end="")
        return 0
    if args.out.exists() and not args.out.is_dir():
        raise BadInput(
            f"--out {args.out}: found a file; accepted: a folder, which is made if it is not there"
        )
    for name, text in render.files(plan).items():
        seal.write_text(args.out / name, text, 0o755 if name.endswith(".sh") else 0o644)
    seal.write_text(args.out / "plan.json", run_files.plan_json(plan))
    print(f"to start it: {render.renderer(plan.launcher).how(str(args.out))}", file=sys.stderr)
    return 0
