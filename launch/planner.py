"""Job × cluster → Plan: makes every decision before anything is submitted. The only files it reads are those whose rows
it counts."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from hatrain.contract import model_ref
from hatrain.contract.cluster import ClusterSpec
from hatrain.contract.gpus import CPU, GPUS
from hatrain.contract.load import Document, Key
from hatrain.contract.plan import Batch, Paths, Plan
from hatrain.contract.spec import MIXING_LOSSES, Dpo, JobSpec
from hatrain.contract.steps import count_steps, divide_batch
from hatrain.errors import BadInput
from hatrain.text import count
from launch import strategies
from launch.backends import backend
from launch.backends.protocol import Reason
from launch.rows import count_rows

NOT_YET = (("method.micro_batch_size", "auto", "a number of rows"),)
"""Values that the schema accepts and training does not support yet: key, value, what to write instead."""
LARGE_LEARNING_RATE = 0.1


class Refusal(BadInput):
    """A job that cannot run as it stands. `reasons` names the key of each problem; keys that begin with `cluster.` are
    those of the cluster file."""

    def __init__(self, reasons: Iterable[Reason]):
        self.reasons = tuple(reasons)
        super().__init__(f"{key}: {text}" for key, text in self.reasons)

    def located(self, job: Document, cluster: Document | None = None) -> BadInput:
        """The same problems, each with the file and line of its key."""
        return BadInput(f"{_location(key, job, cluster)}: {text}" for key, text in self.reasons)


def _location(name: str, job: Document, cluster: Document | None) -> str:
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
    """Decide everything about a job on a cluster.

    `workdir` is the folder on this machine that relative paths start from. `run` is the run's name where it differs
    from the job's (a run of a sweep). Raises Refusal with every reason why the job cannot run as it stands.
    """
    run = run or job.name
    target = backend(cluster)
    reasons = [
        *_not_yet(job),
        *target.refusals(job, run),
        *strategies.refusals(job),
        *_dtype(job),
        *_quantization(job),
        *_packing(job),
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
    job_workdir, job_runs_root = (path.absolute() for path in target.roots(workdir, runs_root))
    return Plan(
        job=job,
        identity=job.identity(),
        cluster=cluster_name,
        cluster_spec=cluster,
        resources=target.resources(job, run),
        python=target.python(),
        environment=_environment(cluster),
        nodes=job.hardware.nodes,
        processes_per_node=job.hardware.gpus_per_node,
        device="cpu" if on_cpu else "cuda",
        sharding=strategies.decided(job),
        gradient_checkpointing=not on_cpu if checkpointing == "auto" else checkpointing,
        batch=batch,
        steps=count_steps(rows, job.method) if rows else None,
        paths=Paths(workdir=str(job_workdir), run=str(job_runs_root / run), models=str(job_workdir / "models")),
        retries=job.limits.retries,
    )


def _environment(cluster: ClusterSpec) -> dict[str, str]:
    offline = {} if cluster.network else {"HF_HUB_OFFLINE": "1"}
    return {**offline, **cluster.nccl, **cluster.environment}


def notes(made: Plan) -> list[str]:
    """What a user should know about a plan that can run, one line each."""
    sharding = made.job.hardware.sharding
    lines = [*backend(made.cluster_spec).notes()]
    if sharding not in ("auto", made.sharding):
        lines.append(f"hardware.sharding: {sharding} needs several ranks; one rank shards nothing")
    if made.world_size == 1 and made.job.checkpoints.state == "sharded":
        lines.append("checkpoints.state: sharded needs several ranks; one rank writes all of a checkpoint")
    lines += _unlikely(made)
    if not made.cluster_spec.network and not model_ref.is_path(made.job.model.base):
        lines.append(
            f"{made.cluster} has no access to the model hub: download {made.job.model.base} into its cache first, "
            "with hatrain fetch JOB, on a machine that has access and shares HF_HOME"
        )
    return lines


def _unlikely(made: Plan) -> Iterator[str]:
    """Settings that work and that hardly anybody means."""
    method = made.job.method
    if method.learning_rate > LARGE_LEARNING_RATE:
        yield (
            f"method.learning_rate: {method.learning_rate:g} is far above the usual 1e-6 to 1e-3; training will "
            "probably diverge"
        )
    if made.steps and made.steps.rows < method.batch_size:
        rows = count(made.steps.rows, "row")
        yield f"method.batch_size: {method.batch_size}, but an epoch has {rows}: each is a single step"
    cores = cpu_cores()
    processes = made.processes_per_node
    if made.cluster_spec.single_machine and made.device == "cpu" and processes > cores:
        yield f"hardware.gpus_per_node: {processes} processes share the {count(cores, 'core')} of this machine"


def cpu_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0))


# --- refusals -----------------------------------------------------------------------------------------------


def _not_yet(job: JobSpec) -> Iterator[Reason]:
    for key, value, instead in NOT_YET:
        part, name = key.split(".")
        if getattr(getattr(job, part), name) == value:
            yield key, f"found {value}, which is not supported yet; write {instead}"


def _dtype(job: JobSpec) -> Iterator[Reason]:
    gpu = GPUS.get(job.hardware.gpu)
    if gpu and job.model.dtype == "bf16" and not gpu.bf16:
        capable = ", ".join(name for name, other in GPUS.items() if other.bf16 and other.memory >= gpu.memory)
        yield (
            "model.dtype",
            f"found bf16, which {gpu.name} does not support; write fp16 or fp32, or one of these GPUs: {capable}",
        )


def _packing(job: JobSpec) -> Iterator[Reason]:
    method = job.method
    if isinstance(method, Dpo) and method.loss in MIXING_LOSSES and method.packing in ("tree", "plain"):
        yield (
            "method.packing",
            f"found {method.packing} with loss: {method.loss}, which looks at several pairs at once, so that its "
            "result would depend on the packs; write auto or off",
        )


def _quantization(job: JobSpec) -> Iterator[Reason]:
    if job.model.quantization and job.method.lora is None:
        kind = job.model.quantization.kind
        yield "model.quantization", f"found {kind}, but {kind} weights cannot be trained; add method.lora, or remove it"


# --- arithmetic ---------------------------------------------------------------------------------------------


def batch_of(rows: int, micro: int, ranks: int) -> Batch:
    """Divide the rows of one step: rows = micro-batch × accumulation × ranks, exactly.

    Raises Refusal with the nearest batch sizes, and the nearest micro-batch sizes that divide.
    """
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
    found = f"found {rows}, which is not a multiple of micro_batch_size {micro} × {count(ranks, 'rank')}"
    raise Refusal([("method.batch_size", f"{found}; {', or '.join(remedies)}")])
