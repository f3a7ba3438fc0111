"""`hatrain submit`: plan, render, ask the cluster, start; and with --follow, watch to the end."""

import argparse
import sys

from hatrain.cli.outcome import show
from hatrain.cli.planning import add_cluster, add_job, add_sweep, note_missing, planned, swept
from hatrain.contract.inputs import missing
from hatrain.contract.plan import Plan
from hatrain.contract.run import SWEEP, Exit
from hatrain.errors import BadInput


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    add_job(parser)
    add_cluster(parser)
    add_sweep(parser)
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
    from launch import render, submit

    if args.sweep and args.follow:
        raise BadInput(
            "--follow shows one run; follow one of a sweep with: hatrain logs NAME/sweep/0 --follow"
        )
    plans = swept(args) if args.sweep else [planned(args)]
    plan, there = plans[0], render.directory(plans[0])
    if args.fresh and plan.launcher == "kubernetes":
        raise BadInput(
            f"--fresh: {plan.job.name} lies on the cluster's volume, where it cannot be set aside from here; "
            "give the job another name, with --set name=NAME"
        )
    if args.dry_run:
        note_missing(plan)
        print(submit.preview(submit.of(plans)[0]), end="")
        return 0
    if not args.sweep and there.done.exists() and not args.fresh:
        there.refuse_another(plan.job)
        print(f"{there.name}: finished before; --fresh starts it anew", file=sys.stderr)
        show(there, Exit.FINISHED)
        return 0
    if not args.sweep and (there.folder / SWEEP).is_dir():
        raise BadInput(f"{there.folder}: holds a sweep; give this job another name, with --set name=NAME")
    if plan.launcher != "local":
        note_missing(plan)
    elif problems := missing(plan):
        print("\n".join(problems), file=sys.stderr)
        return Exit.FATAL
    return _send(plans, args)


def _send(plans: list[Plan], args: argparse.Namespace) -> int:
    from launch import follow, submit

    submission, speaker = submit.of(plans)
    first, ours = submission.members[0].run, plans[0].launcher == "local"
    # On this machine output goes on in one file: taken before the start, none of an earlier run's is shown.
    reader = speaker.reader("", first, node=0, whole=False) if args.follow and ours else None
    jobs = submit.send(submission, speaker, ["hatrain", *sys.argv[1:]], fresh=args.fresh)
    if args.follow:
        reader = reader or speaker.reader(jobs[0], first, node=0, whole=True)
        code = follow.follow(first, jobs[0], speaker, reader, ours=ours)
        show(first, code)
        return code
    for member, job in zip(submission.members, jobs, strict=True):
        print(f"{member.run.name} is submitted to {member.plan.cluster} (job {job})")
    name = first.name if len(jobs) == 1 else submission.folder.name
    print(f"  state   hatrain status {name}")
    print(f"  output  hatrain logs {first.name} --follow")
    print(f"  stop    hatrain stop {name}")
    return 0
