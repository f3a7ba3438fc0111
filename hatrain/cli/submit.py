"""`hatrain submit`: plan, render, check with the cluster, start; with --follow, watch the run to its end."""

import argparse
import sys

from hatrain.cli.job_header import makes_missing
from hatrain.cli.outcome import show
from hatrain.cli.planning import (
    absent,
    add_cluster,
    add_force,
    add_job,
    note_absent,
    planned,
    swept,
)
from hatrain.cli.sweeps import add_sweep
from hatrain.cli.tokenizing import positive
from hatrain.contract.plan import Plan
from hatrain.contract.run import SWEEP, Exit
from hatrain.errors import BadInput


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_job(parser)
    add_cluster(parser)
    add_force(parser)
    add_sweep(parser)
    parser.add_argument(
        "--follow", action="store_true", help="print the run's output to its end, and exit with its exit code"
    )
    parser.add_argument(
        "--fresh", action="store_true", help="move an earlier run of this name aside, and start a new one"
    )
    parser.add_argument(
        "--at-once", type=positive, metavar="N", help="how many runs of a sweep may run at the same time (Slurm)"
    )
    parser.add_argument(
        "--snapshot",
        action="store_true",
        help="copy hatrain into the run directory, and start every attempt from that copy",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="print the files and the command; write and start nothing"
    )


def run(args: argparse.Namespace) -> int:
    """Returns 0, with --follow the run's exit code, and 78 if an input is missing on this machine."""
    from launch import snapshot, submit
    from launch.backends import backend

    is_sweep = bool(args.sweep or args.zip)
    if is_sweep and args.follow:
        raise BadInput("--follow shows one run; follow one run of a sweep with: hatrain logs NAME/sweep/0 --follow")
    if args.at_once and not is_sweep:
        raise BadInput("--at-once: is for a sweep; add --sweep KEY=V1,V2")
    plans = swept(args) if is_sweep else [planned(args)]
    if args.snapshot:
        plans = snapshot.planned(plans)
    if args.fresh:
        plans = submit.fresh(plans)
    plan = plans[0]
    target = backend(plan.cluster_spec)
    directory = target.run_directory(plan)
    if args.dry_run:
        note_absent(plan, args.job)
        submission, _ = submit.prepare(plans, at_once=args.at_once)
        print(submit.preview(submission), end="")
        return 0
    if not is_sweep and directory.done.exists() and not args.fresh:
        directory.refuse_another(plan.job)
        print(f"{directory.name}: has finished already; --fresh starts a new run", file=sys.stderr)
        show(directory, Exit.FINISHED)
        return 0
    if not is_sweep and (directory.folder / SWEEP).is_dir():
        raise BadInput(f"{directory.folder}: holds a sweep; give this job another name, with --set name=NAME")
    if not target.on_this_machine:
        note_absent(plan, args.job)
    elif problems := absent(plan):
        try:
            submit.check(plans)
        except BadInput as error:
            problems = [*problems, *error.problems]
        print("\n".join([*problems, *makes_missing(args.job, problems)]), file=sys.stderr)
        return Exit.FATAL
    return _send(plans, args, on_this_machine=target.on_this_machine)


def _send(plans: list[Plan], args: argparse.Namespace, *, on_this_machine: bool) -> int:
    from launch import follow, submit

    submission, client = submit.prepare(plans, at_once=args.at_once)
    first = submission.runs[0].directory
    # On this machine the output of all submissions is in one file: skip what is there before the start.
    reader = client.reader("", first, node=0, whole=False) if args.follow and on_this_machine else None
    jobs = submit.send(submission, client, ["hatrain", *sys.argv[1:]], fresh=args.fresh)
    if args.follow:
        reader = reader or client.reader(jobs[0], first, node=0, whole=True)
        code = follow.follow(first, jobs[0], client, reader, stop_on_interrupt=on_this_machine)
        show(first, code)
        return code
    for submitted, job in zip(submission.runs, jobs, strict=True):
        print(f"{submitted.directory.name} is submitted to {submitted.plan.cluster} (job {job})")
    name = first.name if len(jobs) == 1 else submission.folder.name
    print(f"  state   hatrain status {name}")
    print(f"  output  hatrain logs {first.name} --follow")
    print(f"  stop    hatrain stop {name}")
    if submission.is_sweep:
        print(f"  results hatrain compare --sweep {name}")
    return 0
