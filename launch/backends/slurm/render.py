"""Plan → {path: text} for Slurm: job.sbatch, which sbatch takes, and step.sh, which srun starts on each node. Pure: it
spells a plan, and neither decides nor starts anything."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from hatrain.contract.plan import Plan
from hatrain.errors import BadInput
from launch import run_files
from launch.backends.slurm.asked import request_of
from launch.backends.slurm.directives import directives, pattern
from launch.backends.slurm.job import STEP, job_sbatch
from launch.backends.slurm.step import step_sh

JOB = "launch/job.sbatch"


def files(plan: Plan) -> dict[str, str]:
    """Return the files of a run directory that start it, by their path in it. plan.json is not among them.

    Raises BadInput for a path that Slurm, or the container's runtime, has no way to write.
    """
    run = plan.paths.run
    head = [
        "job=$SLURM_JOB_ID",
        f"run={shlex.quote(run)}",
        "# plan.json and launch/ are there, or in the folder that sbatch was given behind this script.",
        "folder=${1:-$run}",
        'mkdir -p "$run/launch"',
    ]
    log = pattern(f"{run}/launch/slurm-") + "%j.log"
    return {**run_files.shared(plan), STEP: step_sh(plan), JOB: job_sbatch(plan, directives(plan, log), head)}


def stream(plan: Plan) -> str:
    """Return one batch script that holds every file: to be read, kept, or piped to sbatch. Raises as `files` does."""
    carried = {"plan.json": run_files.plan_json(plan), **run_files.shared(plan), STEP: step_sh(plan)}
    head = [
        "job=$SLURM_JOB_ID",
        f"run={shlex.quote(plan.paths.run)}",
        "# Small files, in a folder that every node sees; entry takes them over into the run directory.",
        "folder=$run/launch/sbatch-$job",
        'mkdir -p "$folder/launch"',
        *run_files.written(carried, "folder"),
    ]
    log = pattern(f"{plan.paths.workdir}/") + "%x-%j.log"
    return job_sbatch(plan, directives(plan, log), head)


def how(folder: str) -> str:
    """Return the command that starts what was written to a folder; what the job says goes to where it runs."""
    here = str(Path(folder).absolute())
    return shlex.join(["sbatch", "--output=%x-%j.log", f"{here}/{JOB}", here])


def array(plans: Sequence[Plan], folder: Path) -> str:
    """Return the batch script of a sweep: an array, each task of which is the run of its number.

    Raises BadInput when the runs ask Slurm for different things, and as `files` does.
    """
    first = plans[0]
    for plan in plans[1:]:
        asked, before = _asked(plan), _asked(first)
        if different := [key for key in asked if asked[key] != before[key]]:
            raise BadInput(
                f"the runs of a sweep are tasks of one array, which ask Slurm for the same; these differ in "
                f"{', '.join(different)}: submit them one by one"
            )
    head = [
        "# Each task is the run of its number. $SLURM_JOB_ID of the last is the number of the whole array.",
        "job=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID",
        f"run={shlex.quote(str(folder))}/sweep/$SLURM_ARRAY_TASK_ID",
        "folder=$run",
        'mkdir -p "$run/launch"',
    ]
    numbers = [int(Path(plan.paths.run).name) for plan in plans]
    log = pattern(f"{folder}/launch/slurm-") + "%A_%a.log"
    return job_sbatch(first, [*directives(first, log), f"--array={_ranges(numbers)}"], head)


def _asked(plan: Plan) -> dict[str, object]:
    return {"nodes": plan.nodes, **request_of(plan).model_dump(exclude={"name"})}


def _ranges(numbers: Sequence[int]) -> str:
    whole = list(range(numbers[0], numbers[0] + len(numbers)))
    return f"{whole[0]}-{whole[-1]}" if list(numbers) == whole else ",".join(map(str, numbers))
