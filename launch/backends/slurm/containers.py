"""What a job's container sees of the node: folders, and variables."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from hatrain.contract.cluster import Container, FileSecret
from hatrain.contract.plan import Plan
from hatrain.contract.run import RunDirectory
from hatrain.errors import BadInput
from launch import run_files
from launch.backends.slurm.asked import place_of

PASS_ON = """
# A clean environment keeps what a shell's profile says out of the container; these alone go through. Not by --env,
# which takes a comma for the end of a value.
for variable in "${passed[@]}"; do
  if [[ -v $variable ]]; then export "APPTAINERENV_$variable=${!variable}"; fi
done
"""

DOCKER = """
# The container is no child of this shell: it is ended by name, also what an earlier start left.
name=hatrain-$SLURM_JOB_ID-$SLURM_NODEID
docker rm --force "$name" > /dev/null 2>&1 || true
devices=()
if [[ -d /dev/infiniband ]]; then devices+=(--device=/dev/infiniband); fi
"""


def ours(plan: Plan) -> list[str]:
    """Return the variables of job.sbatch that a container has to see; env.sh brings the cluster's own."""
    meeting = ["MASTER_ADDR", "MASTER_PORT"] if plan.nodes > 1 else []
    return [*meeting, "HATRAIN_START", "HATRAIN_STOP_GRACE", "HF_HOME"]


def passed(plan: Plan) -> list[str]:
    """Return all variables that a container which step.sh starts has to see."""
    caches = ["TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR", "TORCH_EXTENSIONS_DIR"]
    return ["SLURM_JOB_ID", "SLURM_NODEID", *ours(plan), *caches]


def mounts(plan: Plan, container: Container) -> Iterator[str]:
    """Yield lines of bash that make `mounts`, FOLDER:INSIDE each, which every runtime writes alike."""
    place = place_of(plan)
    run = RunDirectory(Path(plan.paths.run))
    root = run.folder.parents[2 if run.in_sweep else 0]
    ours = list(dict.fromkeys([plan.paths.workdir, str(root), str(Path(plan.paths.models).parent)]))
    kept = [path for path in ours if not any(Path(other) in Path(path).parents for other in ours)]
    given = plan.environment.get("HF_HOME")
    secrets = [one.file for one in place.secrets.values() if isinstance(one, FileSecret)]
    for path in [*kept, *([given] if given else []), place.scratch, *secrets]:
        if found := re.search(r"[:,]", path):
            raise BadInput(
                f"{path}: {found[0]!r} in a path that {container.runtime} is to mount; use one without"
            )
    yield "# Folders are inside where they are outside."
    yield f"export HF_HOME={shlex.quote(given) if given else '${HF_HOME:-$HOME/.cache/huggingface}'}"
    yield 'mkdir -p -- "$HF_HOME"'
    yield "mounts=("
    for path in kept:
        yield f"  {shlex.quote(f'{path}:{path}')}"
    yield '  "$HF_HOME:$HF_HOME"'
    if container.runtime == "pyxis":
        yield f"  {shlex.quote(f'{place.scratch}:{place.scratch}')}"
    else:
        yield '  "$cache:$cache"'
    for secret in secrets:
        path = run_files.word(secret)
        yield f"  {path}:{path}:ro"
    for mount in container.mounts:
        yield f"  {shlex.quote(mount)}"
    yield ")"
