"""Job × cluster → Plan: every decision, before anything is submitted. It reads rows to count them, nothing else."""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from hatrain.contract import model_ref
from hatrain.contract.cluster import ClusterSpec, KubernetesCluster, SlurmCluster
from hatrain.contract.gpus import CPU, GPUS
from hatrain.contract.load import Document, Key
from hatrain.contract.plan import Batch, Paths, Plan
from hatrain.contract.spec import JobSpec
from hatrain.contract.steps import count_steps, divide_batch
from hatrain.errors import BadInput
from hatrain.text import count
from launch import resources, strategies
from launch.rows import count_rows

NOT_YET = (
    ("method.packing", "tree", "auto or off"),
    ("method.packing", "plain", "auto or off"),
    ("data.order", "by_prefix", "shuffled or by_length"),
    ("method.micro_batch_size", "auto", "a number of rows"),
)
"""What the schema knows and training does not do yet: key, value, what to write instead."""


class Refusal(BadInput):
    """A job that cannot run as it stands. `reasons` names the key of each problem; one that begins with `cluster.` is
    of the cluster file."""

    def __init__(self, reasons: Iterable[tuple[str, str]]):
        self.reasons = tuple(reasons)
        super().__init__(f"{key}: {text}" for key, text in self.reasons)

    def located(self, job: Document, cluster: Document | None = None) -> BadInput:
        """Return the same problems, each with the file and the line that its key stands on."""
        return BadInput(f"{_where(key, job, cluster)}: {text}" for key, text in self.reasons)


def _where(name: str, job: Document, cluster: Document | None) -> str:
    key: Key = tuple(name.split("."))
    if key[0] == "cluster" and cluster is not None:
        return cluster.where(key[1:])
    return job.where(key)


def plan(
    job: JobSpec,
    cluster: ClusterSpec,
    cluster_name: str,
    *,
    workdir: Path,
    runs_root: Path,
    run: str | None = None,
) -> Plan:
    """Decide everything about a job on a cluster. `workdir` is where its relative paths start from, here; `run` is
    the run's name where that is not the job's (a run of a sweep).

    Raises Refusal with every reason why it cannot run as it stands.
    """
    run = run or job.name
    reasons = [
        *_not_yet(job),
        *resources.refusals(job, cluster, run),
        *strategies.refusals(job),
        *_numbers(job),
    ]
    ranks = strategies.ranks(job)
    batch: Batch | None = None
    if isinstance(micro := job.method.micro_batch_size, int):
        try:
            batch = batch_of(job.method.batch_size, micro, ranks)
        except Refusal as refusal:
            reasons += refusal.reasons
    if reasons or batch is None:
        raise Refusal(reasons)
    rows = count_rows(job.data.train, workdir)
    on_cpu = job.hardware.gpu == CPU
    checkpointing = job.method.gradient_checkpointing
    return Plan(
        job=job,
        identity=job.identity(),
        cluster=cluster_name,
        cluster_spec=cluster,
        resources=resources.request(job, cluster, run),
        python=_python(cluster),
        environment=_environment(cluster),
        nodes=job.hardware.nodes,
        processes_per_node=job.hardware.gpus_per_node,
        device="cpu" if on_cpu else "cuda",
        sharding=strategies.decided(job),
        gradient_checkpointing=not on_cpu if checkpointing == "auto" else checkpointing,
        batch=batch,
        steps=count_steps(rows, job.method) if rows else None,
        paths=_paths(run, cluster, workdir, runs_root),
        retries=job.limits.retries,
    )


def _python(cluster: ClusterSpec) -> str:
    """Return the interpreter: an environment that set-up lines or an image bring has its own on the PATH."""
    if cluster.python:
        return cluster.python
    brought = isinstance(cluster, SlurmCluster) and (cluster.container or cluster.setup or cluster.modules)
    return "python3" if brought else sys.executable


def _environment(cluster: ClusterSpec) -> dict[str, str]:
    offline = {} if cluster.network else {"HF_HUB_OFFLINE": "1"}
    return {**offline, **cluster.nccl, **cluster.environment}


def _paths(run: str, cluster: ClusterSpec, workdir: Path, runs_root: Path) -> Paths:
    """Return where things are on the machines that run the job: a pod has folders of its own."""
    if isinstance(cluster, KubernetesCluster):
        workdir, runs_root = Path(cluster.workdir), Path(cluster.workdir) / "runs"
    return Paths(
        workdir=str(workdir.absolute()),
        run=str(runs_root.absolute() / run),
        models=str(workdir.absolute() / "models"),
    )


def notes(made: Plan) -> list[str]:
    """Return what a person should know of a plan and is no reason to stop, a line each."""
    asked = made.job.hardware.sharding
    lines = [*resources.notes(made.cluster_spec)]
    if asked not in ("auto", made.sharding):
        lines.append(f"hardware.sharding: {asked} needs several ranks; one rank shards nothing")
    if made.world_size == 1 and made.job.checkpoints.state == "sharded":
        lines.append("checkpoints.state: sharded needs several ranks; one rank writes all of a checkpoint")
    if not made.cluster_spec.network and not model_ref.is_path(made.job.model.base):
        lines.append(
            f"{made.cluster} does not reach the model hub: bring {made.job.model.base} into its cache first, with "
            "hatrain fetch JOB, on a machine that does and shares HF_HOME with it"
        )
    return lines


# --- what stops a job ---------------------------------------------------------------------------------------


def _not_yet(job: JobSpec) -> Iterator[tuple[str, str]]:
    for key, value, instead in NOT_YET:
        part, name = key.split(".")
        if getattr(getattr(job, part), name) == value:
            yield key, f"found {value}, which is not built yet; write {instead}"


def _numbers(job: JobSpec) -> Iterator[tuple[str, str]]:
    gpu = GPUS.get(job.hardware.gpu)
    if gpu and job.model.dtype == "bf16" and not gpu.bf16:
        able = ", ".join(name for name, other in GPUS.items() if other.bf16 and other.memory >= gpu.memory)
        yield (
            "model.dtype",
            f"found bf16, which {gpu.name} cannot compute in; write fp16 or fp32, or a GPU of {able}",
        )


# --- arithmetic ---------------------------------------------------------------------------------------------


def batch_of(rows: int, micro: int, ranks: int) -> Batch:
    """Raises Refusal that offers the nearest batch sizes, and the micro-batches that divide."""
    if batch := divide_batch(rows, micro, ranks):
        return batch
    below = rows - rows % (micro * ranks)
    sizes = " or ".join(str(size) for size in (below, below + micro * ranks) if size)
    remedies = [f"write a batch_size of {sizes}"]
    if rows % ranks == 0:
        share = rows // ranks
        dividing = [size for size in range(1, share + 1) if share % size == 0]
        near = sorted(sorted(dividing, key=lambda size: (abs(size - micro), size))[:2])
        remedies.append(f"a micro_batch_size of {' or '.join(map(str, near))}")
    found = f"found {rows}, which is not micro_batch_size {micro} × accumulation × {count(ranks, 'rank')}"
    raise Refusal([("method.batch_size", f"{found}; {', or '.join(remedies)}")])
