"""`hatrain submit`: plan, render, start; and with --follow, watch to the end."""

import argparse
import sys
from pathlib import Path

from hatrain.cli.outcome import show
from hatrain.cli.planning import add_cluster, add_job, note_missing, planned
from hatrain.inputs import missing
from hatrain.run import Exit, RunDirectory


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    add_job(parser)
    add_cluster(parser)
    parser.add_argument(
        "--follow", action="store_true", help="show the run's output to its end, and return its exit code"
    )
    parser.add_argument(
        "--fresh", action="store_true", help="set an earlier run of this name aside, and start anew"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="print exactly the files and the command; do nothing"
    )


def run(args: argparse.Namespace) -> int:
    """Submit the job. Returns 0, or with --follow the run's own code; 78 when a path is not here."""
    from launch import submit

    plan = planned(args)
    there = RunDirectory(Path(plan.paths.run))
    if args.dry_run:
        note_missing(plan)
        print(submit.dry_run(plan), end="")
        return 0
    if there.done.exists() and not args.fresh:
        there.refuse_another(plan.job)
        print(f"{there.name}: finished before; --fresh starts it anew", file=sys.stderr)
        show(there, Exit.FINISHED)
        return 0
    if problems := missing(plan):
        print("\n".join(problems), file=sys.stderr)
        return Exit.FATAL
    started = submit.submit(plan, ["hatrain", *sys.argv[1:]], fresh=args.fresh)
    if not args.follow:
        print(f"{there.name} has started (process {started.process.pid})")
        print(f"  output  tail -f {submit.output(there)}")
        print(f"  stop    hatrain stop {there.name}")
        return 0
    code = submit.follow(started)
    show(there, code)
    return code
