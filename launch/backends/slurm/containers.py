"""Settings of a job's container for pyxis.sh, apptainer.sh and docker.sh: image, mounts, and the variables that it
sees."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from hatrain.contract.cluster import Container, FileSecret, SlurmCluster
from hatrain.contract.plan import Plan
from hatrain.contract.run import RunDirectory
from hatrain.errors import BadInput
from launch.run_files import quoted_path

CACHES = ("TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR", "TORCH_EXTENSIONS_DIR")


def settings(plan: Plan, cluster: SlurmCluster, container: Container) -> str:
    """Lines of bash that define a container for its runtime, ending with the runtime's own script.

    Raises BadInput for a path that cannot be mounted.
    """
    variables = _variables(plan, container)
    lines = [
        f"image={shlex.quote(container.image)}",
        f"workdir={shlex.quote(plan.paths.workdir)}",
        *([] if container.runtime == "pyxis" else [f"device={plan.device}"]),
        *_mounts(plan, cluster, container),
        f"variables=({' '.join(variables)})",
    ]
    return "\n".join(lines) + f"\n\n{script(f'{container.runtime}.sh')}"


def script(name: str) -> str:
    """A static script of this folder, without the shellcheck directive at the top of one that is only a part."""
    text = Path(__file__).with_name(name).read_text(encoding="utf-8")
    return text.partition("\n")[2] if text.startswith("# shellcheck") else text


def _variables(plan: Plan, container: Container) -> list[str]:
    """Names that the container must see, besides those of env.sh, which node.sh sources inside."""
    rendezvous = ["MASTER_ADDR", "MASTER_PORT"] if plan.nodes > 1 else []
    job = [*rendezvous, "HATRAIN_START", "HATRAIN_STOP_GRACE", "HF_HOME"]
    if container.runtime == "pyxis":
        return ["HOME", *job]
    step = ["SLURM_JOB_ID", "SLURM_NODEID", *job, *CACHES]
    return [*step, "CUDA_VISIBLE_DEVICES"] if container.runtime == "apptainer" else ["HOME", *step]


def _mounts(plan: Plan, cluster: SlurmCluster, container: Container) -> Iterator[str]:
    """`mounts` is an array of OUTSIDE:INSIDE, a form that every runtime accepts."""
    runs_root = RunDirectory(Path(plan.paths.run)).root
    folders = [plan.paths.workdir, str(runs_root), str(Path(plan.paths.models).parent)]
    folders = list(dict.fromkeys(folders))
    outer = [path for path in folders if not any(Path(other) in Path(path).parents for other in folders)]
    hub_cache = plan.environment.get("HF_HOME")
    secrets = [secret.file for secret in cluster.secrets.values() if isinstance(secret, FileSecret)]
    for path in [*outer, *([hub_cache] if hub_cache else []), cluster.scratch, *secrets]:
        if found := re.search(r"[:,]", path):
            raise BadInput(
                f"{path}: contains {found[0]!r}, and {container.runtime} cannot mount such a path; rename it"
            )
    yield "# Folders have the same path inside and outside."
    yield f"export HF_HOME={shlex.quote(hub_cache) if hub_cache else '${HF_HOME:-$HOME/.cache/huggingface}'}"
    yield "mounts=("
    for path in outer:
        yield f"  {shlex.quote(f'{path}:{path}')}"
    yield '  "$HF_HOME:$HF_HOME"'
    if container.runtime == "pyxis":
        yield f"  {shlex.quote(f'{cluster.scratch}:{cluster.scratch}')}"
    else:
        yield '  "$cache:$cache"'
    for secret in secrets:
        path = quoted_path(secret)
        yield f"  {path}:{path}:ro"
    for mount in container.mounts:
        yield f"  {shlex.quote(mount)}"
    yield ")"
