"""`hatrain train`: runs a job on this machine without a launcher, directly or under torchrun. The job is a file, or the
training guide's flags."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from hatrain.cli.job_header import makes_missing
from hatrain.cli.outcome import show
from hatrain.cli.planning import absent, add_force, add_job, planned
from hatrain.contract.plan import Plan
from hatrain.contract.run import Exit, RunDirectory, runs_root
from hatrain.errors import BadInput
from hatrain.text import count


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_job(parser)
    add_force(parser)
    parser.add_argument("--fresh", action="store_true", help="set an earlier run of this name aside and start over")
    parser.epilog = "The training guide's flags also work: hatrain train --run_name NAME --base_model MODEL …"


def run_as_written(arguments: Sequence[str]) -> int | None:
    """Run a command with the guide's flags (`--run_name …`); None for any other command."""
    from hatrain.guide import flags_help, is_guide_command, job_from_flags, whose_flags

    if arguments and arguments[0] == "--help-flags":
        print(flags_help())
        return 0
    if not is_guide_command(arguments):
        return None
    from launch import cluster_files, planner

    try:
        job, notes = job_from_flags(arguments)
    except BadInput as error:
        raise BadInput([*error.problems, *whose_flags(arguments)]) from None
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    name, cluster = cluster_files.load_cluster("local")
    # The guide's flags name no GPU, so that nothing is refused for its memory.
    plan = planner.plan(job, cluster, name, workdir=Path.cwd(), runs_root=runs_root(), force=True)
    return _train(plan, fresh=False)


def run(args: argparse.Namespace) -> int:
    args.cluster = "local"
    return _train(planned(args), fresh=args.fresh, job=args.job)


def _train(plan: Plan, *, fresh: bool, job: str | None = None) -> int:
    ranks = int(os.environ.get("WORLD_SIZE", "1"))
    if "TORCHELASTIC_RUN_ID" in os.environ and ranks != plan.world_size:
        raise BadInput(
            f"hardware: torchrun started {count(ranks, 'rank')}, but the job is planned for {plan.world_size}; "
            f"start {plan.world_size}, or add --set hardware.gpus_per_node={ranks}"
        )
    if problems := absent(plan):
        print("\n".join([*problems, *makes_missing(job, problems)]), file=sys.stderr)
        return Exit.FATAL
    if "TORCHELASTIC_RUN_ID" in os.environ:
        from hatrain.entry import torchrun

        return torchrun.enter(plan, lambda: _adopt(plan, fresh))
    from launch import submit

    for note in submit.check([plan]):
        print(f"note: {note}", file=sys.stderr)
    run_directory = _adopt(plan, fresh)
    from hatrain import entry

    code = entry.main([str(run_directory.folder)])
    show(run_directory, code)
    return code


def _adopt(plan: Plan, fresh: bool) -> RunDirectory:
    from launch import submit

    (planned_run,) = submit.planned_runs([plan])
    submit.adopt(planned_run, fresh=fresh)
    submit.record(planned_run, ["hatrain", *sys.argv[1:]], None)
    return planned_run.directory
