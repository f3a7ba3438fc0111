"""Renders a plan for Slurm. Files are static scripts behind a short generated head: job.sbatch (job.sh), step.sh,
setup.sh, container.sh."""

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from hatrain.contract import variables
from hatrain.contract.cluster import SlurmCluster
from hatrain.contract.plan import Plan
from hatrain.contract.spec import seconds
from hatrain.errors import BadInput
from hatrain.text import count
from launch import run_files
from launch.backends.slurm import containers
from launch.backends.slurm.containers import script
from launch.backends.slurm.directives import directives, log_pattern

JOB = "launch/job.sbatch"
EARLY_SECONDS = 30
"""hatrain.entry ends ranks that do not exit this long before Slurm would end them, and hatrain.entry with them."""


def files(plan: Plan, cluster: SlurmCluster) -> dict[str, str]:
    """Raises BadInput for a path that Slurm or the container's runtime cannot take."""
    location = [
        "job=$SLURM_JOB_ID",
        f"run={shlex.quote(plan.paths.run)}",
        "folder=${1:-$run} # contains plan.json and launch/",
    ]
    log = log_pattern(f"{plan.paths.run}/launch/slurm-") + "%j.log"
    job = _job(plan, cluster, directives(plan, cluster, log), location)
    return {**run_files.shared(plan), **_node_files(plan, cluster), JOB: job}


def single_file(plan: Plan, cluster: SlurmCluster) -> str:
    """One batch script that carries every file. Raises as `files` does."""
    carried = {"plan.json": run_files.plan_json(plan), **run_files.shared(plan), **_node_files(plan, cluster)}
    location = [
        "job=$SLURM_JOB_ID",
        f"run={shlex.quote(plan.paths.run)}",
        "folder=$run/launch/sbatch-$job # for the files below; every node sees it",
    ]
    log = log_pattern(f"{plan.paths.workdir}/") + "%x-%j.log"
    return _job(plan, cluster, directives(plan, cluster, log), location, carried)


def start_command(folder: str) -> str:
    path = str(Path(folder).absolute())
    return shlex.join(["sbatch", "--output=%x-%j.log", f"{path}/{JOB}", path])


def array(plans: Sequence[Plan], cluster: SlurmCluster, folder: Path, at_once: int | None = None) -> str:
    """The batch script of a sweep: an array whose tasks are the runs, of which `at_once` may run at the same time.

    Raises BadInput if the runs ask Slurm for different resources, and as `files` does.
    """
    first = plans[0]
    for plan in plans[1:]:
        requested, expected = _request(plan), _request(first)
        if different := [key for key in requested if requested[key] != expected[key]]:
            raise BadInput(
                "the runs of a sweep are the tasks of one array, which all have the same resources; these differ in "
                f"{', '.join(different)}: submit them one by one"
            )
    location = [
        "# $SLURM_JOB_ID is of no use here: the last task has the id of the whole array.",
        "job=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID",
        f"run={shlex.quote(str(folder))}/sweep/$SLURM_ARRAY_TASK_ID",
        "folder=$run # contains plan.json and launch/",
    ]
    numbers = [int(Path(plan.paths.run).name) for plan in plans]
    log = log_pattern(f"{folder}/launch/slurm-") + "%A_%a.log"
    options = [*directives(first, cluster, log), f"--array={_ranges(numbers)}{f'%{at_once}' if at_once else ''}"]
    return _job(first, cluster, options, location)


def _job(
    plan: Plan,
    cluster: SlurmCluster,
    options: Sequence[str],
    location: Sequence[str],
    carried: Mapping[str, str] | None = None,
) -> str:
    nodes, processes = count(plan.nodes, "node"), count(plan.processes_per_node, "process", "processes")
    grace = max(seconds(cluster.signal_lead) - EARLY_SECONDS, 1)
    container = cluster.container
    pyxis = container is not None and container.runtime == "pyxis"
    assert plan.resources is not None
    srun = [f"--{name}" if value is None else f"--{name}={value}" for name, value in cluster.srun.items()]
    parts = [
        "#!/usr/bin/env bash",
        f"# {plan.job.name} on the cluster {json.dumps(plan.cluster)}: {nodes} with {processes}"
        f"{' each' if plan.nodes > 1 else ''}, sharding {plan.sharding}. Written by hatrain.",
        "#",
        *(line if line.startswith("#") else f"#SBATCH {line}" for line in options),
        "",
        "set -euo pipefail",
        "",
        *location,
        f"nodes={plan.nodes}",
        f"stop_grace={grace} # seconds",
        f"time_limit={plan.resources.time} # seconds",
        *([f"srun_options=({' '.join(shlex.quote(option) for option in srun)})"] if srun else []),
        "",
        *([containers.settings(plan, cluster, container)] if container and pyxis else []),
        script("job.sh"),
        *([*run_files.unpack(carried), ""] if carried else []),
        "main",
    ]
    return "\n".join(parts) + "\n"


def _node_files(plan: Plan, cluster: SlurmCluster) -> dict[str, str]:
    """Files that srun uses on each node. All are always written, so that none of an earlier submission is left."""
    return {
        "launch/step.sh": script("step.sh"),
        "launch/setup.sh": "\n".join(_setup(cluster)) + "\n",
        "launch/container.sh": _container(plan, cluster),
    }


def _container(plan: Plan, cluster: SlurmCluster) -> str:
    head = "# shellcheck shell=bash disable=SC2034,SC2154 # step.sh sets and uses them\n"
    container = cluster.container
    if container is None or container.runtime == "pyxis":
        inside = "srun has started the container." if container else "No container."
        return f"{head}# {inside} step.sh sources this.\nstart=(bash)\n"
    return (
        f"{head}# A container for this node's share of the run. step.sh sources this.\n"
        f"{containers.settings(plan, cluster, container)}"
    )


def _setup(cluster: SlurmCluster) -> Iterator[str]:
    yield "# shellcheck shell=bash disable=SC1090,SC1091,SC2034"
    yield "# Prepares a node, with the modules and set-up lines of the cluster file. step.sh sources this."
    yield from prepare(cluster)
    yield "# A folder on the node's own disk."
    yield from run_files.needed({"scratch": cluster.scratch})
    yield f"scratch={variables.quoted(cluster.scratch)}"


def prepare(cluster: SlurmCluster) -> Iterator[str]:
    """Lines of bash that load the modules and run the set-up lines of a cluster file."""
    if cluster.modules:
        yield script("modules.sh").rstrip("\n")
        yield shlex.join(["module", "load", *cluster.modules])
    yield from cluster.setup


def _request(plan: Plan) -> dict[str, object]:
    assert plan.resources is not None
    return {"nodes": plan.nodes, **plan.resources.model_dump(exclude={"name"})}


def _ranges(numbers: Sequence[int]) -> str:
    first, last = numbers[0], numbers[-1]
    is_range = list(numbers) == list(range(first, last + 1))
    return f"{first}-{last}" if is_range else ",".join(map(str, numbers))
