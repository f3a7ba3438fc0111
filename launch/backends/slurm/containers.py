"""Settings of a job's container for the script of its runtime: image, mounts, and the variables that it sees."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from hatrain.contract import variables
from hatrain.contract.cluster import Container, FileSecret, SlurmCluster
from hatrain.contract.plan import Plan
from hatrain.contract.run import RunDirectory
from hatrain.errors import BadInput
from launch.run_files import needed, quoted_path

CACHES = ("TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR", "TORCH_EXTENSIONS_DIR")


def settings(plan: Plan, cluster: SlurmCluster, container: Container) -> str:
    """Lines of bash that define a container for its runtime, ending with the runtime's own script.

    Raises BadInput for a path that cannot be mounted.
    """
    lines = [
        *_needed(plan, cluster, container),
        f"image={variables.quoted(container.image)}",
        f"workdir={shlex.quote(plan.paths.workdir)}",
        *([] if container.runtime == "pyxis" else [f"device={plan.device}"]),
        *_mounts(plan, cluster, container),
        f"variables=({' '.join(_variables(plan, container))})",
    ]
    return "\n".join(lines) + f"\n\n{script(f'{container.runtime}.sh')}"


def _needed(plan: Plan, cluster: SlurmCluster, container: Container) -> Iterator[str]:
    secrets = {key: secret.file for key, secret in cluster.secrets.items() if isinstance(secret, FileSecret)}
    yield from needed(
        {
            "container.image": container.image,
            **{f"container.mounts.{number}": mount for number, mount in enumerate(container.mounts)},
            **({"scratch": cluster.scratch} if container.runtime == "pyxis" else {}),
            **({"environment.HF_HOME": plan.environment["HF_HOME"]} if "HF_HOME" in plan.environment else {}),
            **{f"secrets.{key}": file for key, file in secrets.items()},
        }
    )


def script(name: str) -> str:
    """A static script of this folder, without the shellcheck directive at the top of one that is only a part."""
    text = Path(__file__).with_name(name).read_text(encoding="utf-8")
    return text.partition("\n")[2] if text.startswith("# shellcheck") else text


def _variables(plan: Plan, container: Container) -> list[str]:
    """Names that the container must see, besides those of env.sh, which node.sh sources inside."""
    rendezvous = ["MASTER_ADDR", "MASTER_PORT"] if plan.nodes > 1 else []
    referred = [name for value in (*plan.environment.values(), plan.python) for name in variables.names(value)]
    job = [*rendezvous, "HATRAIN_START", "HATRAIN_JOB", "HATRAIN_STOP_GRACE", "HF_HOME"]
    step = ["SLURM_JOB_ID", "SLURM_NODEID", *job, *CACHES]
    names = {
        "pyxis": ["HOME", *job],
        "apptainer": [*step, "CUDA_VISIBLE_DEVICES"],
        "docker": ["HOME", *step],
        "podman-hpc": ["HOME", *step, "CUDA_VISIBLE_DEVICES"],
    }[container.runtime]
    return list(dict.fromkeys([*names, *referred]))


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
    yield f"export HF_HOME={variables.quoted(hub_cache) if hub_cache else '${HF_HOME:-$HOME/.cache/huggingface}'}"
    yield "mounts=("
    for path in outer:
        yield f"  {shlex.quote(f'{path}:{path}')}"
    yield '  "$HF_HOME:$HF_HOME"'
    if container.runtime == "pyxis":
        yield f"  {variables.quoted(f'{cluster.scratch}:{cluster.scratch}')}"
    else:
        yield '  "$cache:$cache"'
    for secret in secrets:
        path = quoted_path(secret)
        yield f"  {path}:{path}:ro"
    for mount in container.mounts:
        yield f"  {variables.quoted(mount)}"
    yield ")"
