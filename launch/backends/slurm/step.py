"""step.sh: what srun starts on each node. It makes the node ready, and starts node.sh in a container or without."""

import shlex
from collections.abc import Iterator

from hatrain.contract.cluster import SlurmCluster
from hatrain.contract.plan import Plan
from launch.backends.slurm.asked import place_of
from launch.backends.slurm.containers import DOCKER, PASS_ON, mounts, passed

_STEP_BEGINNING = """
# What srun starts on each node: makes the node ready, and starts its share of the run.
#
# usage: step.sh FOLDER LOG, where FOLDER has plan.json and launch/, and names of logs begin with LOG
set -euo pipefail

folder=$1 log=$2
exec >> "$log-node-$SLURM_NODEID.log" 2>&1

# SIGTERM reaches every process of the step. Entry heeds it, and this shell stays for what entry has to say.
trap : TERM
"""

_MODULES = """
# A shell that nobody logged in to may know no modules yet.
for file in /etc/profile.d/{modules,lmod,z00_lmod}.sh; do
  # shellcheck source=/dev/null
  if ! command -v module > /dev/null && [[ -r $file ]]; then source "$file"; fi
done"""

_CACHE = """
# What Triton, Inductor and DeepSpeed compile stays on the node's own disk: shared ones are slow, and lock badly.
cache=$(mktemp -d {scratch}/hatrain-"$SLURM_JOB_ID".XXXXXX)
trap '{end}rm -rf -- "$cache"' EXIT
export TRITON_CACHE_DIR=$cache/triton TORCHINDUCTOR_CACHE_DIR=$cache/inductor TORCH_EXTENSIONS_DIR=$cache/extensions
"""

_STEP_END = """
if [[ $SLURM_NODEID == 0 ]]; then echo "$code" > "$log.code"; fi
exit "$code"
"""


def step_sh(plan: Plan) -> str:
    place = place_of(plan)
    runtime = place.container.runtime if place.container else None
    end = 'docker rm --force "$name" > /dev/null 2>&1 || true; ' if runtime == "docker" else ""
    parts = [
        "#!/usr/bin/env bash",
        *(
            ["# shellcheck disable=SC1090,SC1091 # what the cluster's own lines source is there"]
            if place.setup
            else []
        ),
        _STEP_BEGINNING.strip(),
        *_setup(place),
        *([DOCKER.rstrip()] if runtime == "docker" else []),
        _CACHE.format(scratch=shlex.quote(place.scratch), end=end).rstrip(),
        *(["", *mounts(plan, place.container)] if place.container and runtime != "pyxis" else []),
        "",
        *_node(plan),
        _STEP_END.strip(),
    ]
    return "\n".join(parts) + "\n"


def _setup(place: SlurmCluster) -> Iterator[str]:
    if not (place.modules or place.setup):
        return
    yield "\n# What the cluster needs first. Others' scripts use variables that are not set."
    yield "set +u"
    if place.modules:
        yield _MODULES.strip()
        yield shlex.join(["module", "load", *place.modules])
    yield from place.setup
    yield "set -u"


def _node(plan: Plan) -> Iterator[str]:
    container = place_of(plan).container
    words = ["bash"]
    if container and container.runtime == "apptainer":
        yield f"passed=({' '.join([*passed(plan), 'CUDA_VISIBLE_DEVICES'])})"
        yield PASS_ON.strip()
        nvidia = "--nv " if plan.device == "cuda" else ""
        words = [
            f'apptainer exec {nvidia}--cleanenv --no-home "${{mounts[@]/#/--bind=}}"',
            f"--pwd {shlex.quote(plan.paths.workdir)} {shlex.quote(container.image)} bash",
        ]
    if container and container.runtime == "docker":
        gpus = ' --gpus="\\"device=$SLURM_STEP_GPUS\\""' if plan.device == "cuda" else ""
        yield f"passed=(HOME {' '.join(passed(plan))})"
        words = [
            f'docker run --rm --init --name "$name" --user "$(id -u):$(id -g)"{gpus}',
            '--network=host --ipc=host --ulimit=memlock=-1 "${devices[@]}"',
            f'"${{passed[@]/#/--env=}}" "${{mounts[@]/#/--volume=}}" --workdir {shlex.quote(plan.paths.workdir)}',
            f"--entrypoint bash {shlex.quote(container.image)}",
        ]
    yield "code=0"
    yield " \\\n  ".join(words) + ' "$folder/launch/node.sh" "$folder/plan.json" || code=$?'
