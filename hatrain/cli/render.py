"""`hatrain render`: print a job as one file for its scheduler, or write its files to a folder."""

import argparse
import sys
from pathlib import Path

from hatrain.cli.planning import add_cluster, add_force, add_job, note_absent, planned


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_job(parser)
    add_cluster(parser)
    add_force(parser)
    parser.add_argument("--out", metavar="DIR", type=Path, help="write the files to DIR instead of printing one")


def run(args: argparse.Namespace) -> int:
    from hatrain.errors import BadInput
    from hatrain.runtime import seal, streams
    from launch import run_files
    from launch.backends import backend

    plan = planned(args)
    note_absent(plan, args.job)
    target = backend(plan.cluster_spec)
    if args.out is None:
        streams.write_utf8(target.single_file(plan))
        return 0
    if args.out.exists() and not args.out.is_dir():
        raise BadInput(f"--out {args.out}: found a file; accepted: a folder, existing or new")
    for name, text in target.files(plan).items():
        seal.write_text(args.out / name, text, 0o755 if name.endswith(".sh") else 0o644)
    seal.write_text(args.out / "plan.json", run_files.plan_json(plan))
    print(f"to start it: {target.start_command(str(args.out))}", file=sys.stderr)
    return 0
