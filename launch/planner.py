"""Job × cluster → Plan: makes every decision before anything is submitted. The only files it reads are those whose rows
it counts, what is known of their lengths, and the configuration of the base model."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from hatrain.contract import model_ref
from hatrain.contract.cluster import ClusterSpec
from hatrain.contract.gpus import GIB, GPUS, MPS
from hatrain.contract.load import Document, Key
from hatrain.contract.plan import Batch, Memory, Paths, Plan, ResourceRequest
from hatrain.contract.run import RunDirectory
from hatrain.contract.spec import Dpo, JobSpec
from hatrain.contract.spec import seconds as seconds_of
from hatrain.contract.steps import count_steps, divide_batch
from hatrain.errors import BadInput
from hatrain.runtime import machine
from hatrain.text import count
from launch import candidates, chat_template, looks, mps, precision, speed, strategies, token_rows
from launch.backends import backend
from launch.backends.protocol import Backend, Reason
from launch.candidates import Candidate
from launch.memory import sources
from launch.memory.needs import checkpoint_of, disk_bytes, host_bytes
from launch.memory.structure import NotKnown, Structure, adapters_of
from launch.rows import count_rows, overlong_refusals, overlong_rows

LARGE_LEARNING_RATE = 0.1
DAY = "24:00:00"
SHORTEST = 1800
"""Seconds that an attempt may take beside its steps."""


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
    force: bool = False,
    ask_hub: bool = False,
    fresh: bool = False,
) -> Plan:
    """Decide everything about a job on a cluster.

    `workdir` is the folder on this machine that relative paths start from. `run` is the run's name where it differs
    from the job's (a run of a sweep). With `force` a job that does not fit into its GPUs is planned too. With
    `ask_hub` the model hub is asked for the sizes of a model that are not known here. With `fresh` an earlier run of
    this name is not continued. Raises Refusal with every reason why the job cannot run as it stands.
    """
    run = run or job.name
    target = backend(cluster)
    job = job.with_dtype(None if fresh else _earlier(runs_root / run))
    model, unknown = (None, "") if not job.hardware.is_cuda else _structure(job, workdir, runs_root, ask_hub)
    chosen, why = candidates.choose(job, model)
    overlong = overlong_rows(job, workdir, runs_root, run)
    rows = count_rows(job.data.train, workdir, overlong)
    steps = count_steps(rows, job.method) if rows else None
    seconds = speed.seconds(job, chosen.layout, model, workdir, steps) if chosen and model else None
    job = with_time(job, cluster, seconds)
    reasons = [*_refusals(job, target, run)]
    if model:
        reasons += token_rows.refusals(job, model)
    if target.shares_files:
        reasons += chat_template.refusals(job.model, workdir, runs_root)
    if unknown and job.method.micro_batch_size == "auto":
        reasons.append(("method.micro_batch_size", f"found auto, but {unknown}; write a number of rows"))
    reasons += overlong_refusals(job, workdir, overlong)
    batch: Batch | None = None
    rows_at_a_time = chosen.layout.micro_batch if chosen else job.method.micro_batch_size
    try:
        batch = batch_of(
            job.method.batch_size, 1 if rows_at_a_time == "auto" else rows_at_a_time, strategies.ranks(job)
        )
    except Refusal as refusal:
        reasons += refusal.reasons
    if reasons or batch is None or chosen is None:
        raise Refusal(reasons)
    memory = _memory(job, chosen, model, why, lambda changed: any(_refusals(changed, target, run))) if model else None
    if memory and not memory.fits and not force:
        raise Refusal([("hardware.gpu", _too_large(job, memory))])
    job = candidates.decided_as(job, chosen.layout)
    job_workdir, job_runs_root = (path.absolute() for path in target.roots(workdir, runs_root))
    return Plan(
        job=job,
        identity=job.identity(),
        cluster=cluster_name,
        cluster_spec=cluster,
        resources=_with_memory(target.resources(job, run), memory),
        python=target.python(),
        environment=_environment(cluster),
        nodes=job.hardware.nodes,
        processes_per_node=job.hardware.gpus_per_node,
        device="cuda" if job.hardware.is_cuda else "mps" if job.hardware.gpu == MPS else "cpu",
        sharding=chosen.layout.sharding,
        gradient_checkpointing=chosen.layout.checkpointing,
        batch=batch,
        steps=steps,
        overlong=sum(overlong.values()) if all(file.path in overlong for file in job.data.train) else None,
        memory=memory,
        memory_unknown=unknown,
        seconds=seconds,
        paths=Paths(workdir=str(job_workdir), run=str(job_runs_root / run), models=str(job_workdir / "models")),
        retries=job.limits.retries,
    )


def _earlier(folder: Path) -> JobSpec | None:
    """The job of the run that a plan continues; None without one that can be read."""
    run = RunDirectory(folder)
    try:
        return run.job() if run.plan_file.is_file() else None
    except BadInput:
        return None


def _structure(job: JobSpec, workdir: Path, runs_root: Path, ask_hub: bool) -> tuple[Structure | None, str]:
    """The structure of the base model, or why it is not known."""
    try:
        model = sources.structure_of(
            job.model.base, job.model.revision, workdir=workdir, runs_root=runs_root, ask_hub=ask_hub
        )
        adapters_of(model, job)
    except NotKnown as error:
        return None, f"the memory that {job.model.base} needs is not known: {error}"
    return model, ""


def _memory(
    job: JobSpec, chosen: Candidate, model: Structure, why: str, is_refused: Callable[[JobSpec], bool]
) -> Memory:
    assert chosen.need is not None
    gpu = GPUS[job.hardware.gpu].memory
    fits = chosen.need.total <= gpu
    return Memory(
        parts=dict(chosen.need.parts),
        moment=chosen.need.moment,
        gpu=gpu,
        host=host_bytes(model, job, chosen.layout),
        checkpoint=checkpoint_of(model, job),
        disk=disk_bytes(model, job),
        why=why,
        remedies=candidates.remedies(job, model, LESS * chosen.need.total if fits else gpu, is_refused),
    )


def _too_large(job: JobSpec, memory: Memory) -> str:
    """The refusal of a job that does not fit, with what would."""
    largest = ", ".join(
        f"{name} {gib(size)}" for name, size in sorted(memory.parts.items(), key=lambda part: -part[1])[:4]
    )
    remedies = (
        "; these fit: " + " | ".join(memory.remedies) if memory.remedies else "; no larger GPU here fits it either"
    )
    return (
        f"found {job.hardware.gpu} with {gib(memory.gpu)} GiB, but the run needs {gib(memory.total)} ({largest}, …)"
        f"{remedies}; --force plans it nevertheless"
    )


def gib(size: int) -> str:
    return f"{size / GIB:.1f}"


def with_time(job: JobSpec, cluster: ClusterSpec, estimate: int | None) -> JobSpec:
    """Replace `limits.time: auto` by half as much again as the estimate, and half an hour for loading and evaluation;
    without an estimate by the longest time that the cluster grants, or a day."""
    if job.limits.time != "auto":
        return job
    longest = seconds_of(getattr(cluster, "time_limit", None) or DAY)
    seconds = min(longest, SHORTEST + estimate * 3 // 2) if estimate else longest
    time = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:00"
    return job.model_copy(update={"limits": job.limits.model_copy(update={"time": time})})


def _with_memory(request: ResourceRequest | None, memory: Memory | None) -> ResourceRequest | None:
    """Ask the scheduler for at least what the run needs of main memory."""
    if request is None or memory is None or (request.memory or 0) >= memory.host:
        return request
    return request.model_copy(update={"memory": memory.host})


def _environment(cluster: ClusterSpec) -> dict[str, str]:
    offline = {} if cluster.network else {"HF_HUB_OFFLINE": "1"}
    return {**offline, **cluster.nccl, **cluster.environment}


def notes(made: Plan) -> list[str]:
    """What a user should know about a plan that can run, one line each."""
    sharding = made.job.hardware.sharding
    lines = [*backend(made.cluster_spec).notes(made.job)]
    if sharding not in ("auto", made.sharding):
        lines.append(f"hardware.sharding: {sharding} needs several ranks; one rank shards nothing")
    if made.world_size == 1 and made.job.checkpoints.state == "sharded":
        lines.append("checkpoints.state: sharded needs several ranks; one rank writes all of a checkpoint")
    lines += precision.notes(made)
    lines += [mps.UNTESTED] if made.device == "mps" else []
    lines += looks.notes(made)
    lines += _unlikely(made)
    lines += _about_memory(made)
    if not made.cluster_spec.network and not model_ref.is_path(made.job.model.base):
        lines.append(
            f"{made.cluster} has no access to the model hub: download {made.job.model.base} into its cache first, "
            "with hatrain fetch JOB, on a machine that has access and shares HF_HOME"
        )
    return lines


LESS = 0.9
"""Of the prediction: what is offered to a run that ran out of memory although it should fit."""
TIGHT = 0.95
"""Of a GPU's memory, beyond which a prediction may be wrong by more than what is left."""


def _about_memory(made: Plan) -> Iterator[str]:
    memory = made.memory
    if made.memory_unknown:
        yield made.memory_unknown
    if memory and not memory.fits:
        yield f"hardware.gpu: the run needs {gib(memory.total)} GiB of {gib(memory.gpu)}: it will run out of memory"
    elif memory and memory.total > TIGHT * memory.gpu:
        yield f"hardware.gpu: the run needs {gib(memory.total)} GiB of {gib(memory.gpu)}, which is close"
    if made.seconds and made.seconds > seconds_of(made.job.limits.time):
        yield (
            f"limits.time: {made.job.limits.time} is less than the {made.seconds / 3600:.1f} hours that the run is "
            "estimated to take; an attempt that ends early is queued again"
        )


def _unlikely(made: Plan) -> Iterator[str]:
    """Settings that work and that hardly anybody means."""
    method = made.job.method
    if method.learning_rate > LARGE_LEARNING_RATE:
        yield (
            f"method.learning_rate: {method.learning_rate:g} is far above the usual 1e-6 to 1e-3; training will "
            "probably diverge"
        )
    if made.steps and method.max_steps and method.max_steps > made.steps.total:
        yield (
            f"method.max_steps: {method.max_steps:,}, but {count(method.epochs, 'epoch')} of these rows have "
            f"{count(made.steps.total, 'step')}, and the run ends there; raise method.epochs for more"
        )
    if made.steps and made.steps.rows < method.batch_size:
        rows = count(made.steps.rows, "row")
        yield f"method.batch_size: {method.batch_size}, but an epoch has {rows}: each is a single step"
    cores = machine.cores()
    processes = made.processes_per_node
    if made.cluster_spec.single_machine and made.device == "cpu" and processes > cores:
        yield f"hardware.gpus_per_node: {processes} processes share the {count(cores, 'core')} of this machine"


# --- refusals -----------------------------------------------------------------------------------------------


def _refusals(job: JobSpec, target: Backend[Any], run: str) -> Iterator[Reason]:
    """What a job cannot have, whatever memory it needs."""
    yield from target.refusals(job, run)
    yield from strategies.refusals(job)
    yield from precision.refusals(job)
    yield from _quantization(job)
    yield from _packing(job)
    yield from _compile(job)
    yield from looks.refusals(job)
    yield from mps.refusals(job, target.cluster)


def _packing(job: JobSpec) -> Iterator[Reason]:
    method = job.method
    if isinstance(method, Dpo) and method.mixes_rows and method.packing in ("tree", "plain"):
        yield (
            "method.packing",
            f"found {method.packing} with loss: {method.loss}, which looks at several pairs at once, so that its "
            "result would depend on the packs; write auto or off",
        )


def _compile(job: JobSpec) -> Iterator[Reason]:
    if not job.hardware.compile:
        return
    if job.method.gradient_checkpointing is True:
        yield (
            "hardware.compile",
            "found true with gradient_checkpointing: true, but torch compiles nothing that it recomputes; write false, "
            "or gradient_checkpointing: false",
        )
    if job.model.quantization:
        yield (
            "hardware.compile",
            f"found true with a {job.model.quantization.kind} base, which is not tested; write false",
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
