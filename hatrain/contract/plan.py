"""The schema of plan.json: every decision about a job on a cluster. The launch side writes it, the training side
reads it."""

from typing import Any, Literal

from pydantic import NonNegativeInt, PositiveInt, model_validator

from hatrain.contract.cluster import ClusterSpec
from hatrain.contract.spec import JobSpec, Model

Sharding = Literal["none", "ddp", "fsdp", "zero1", "zero2", "zero3"]


class Batch(Model):
    """The rows of one optimizer step: rows_per_step = micro_batch_size × accumulation × ranks."""

    rows_per_step: PositiveInt
    """Rows per optimizer step, over all ranks."""
    micro_batch_size: PositiveInt
    """Rows per rank per micro-batch."""
    accumulation: PositiveInt
    """Micro-batches of one rank in one step."""
    ranks: PositiveInt
    """Training processes over all nodes."""


class Steps(Model):
    """Optimizer steps, from the training rows counted where the plan was made. Dropped rows lower them."""

    rows: PositiveInt
    """Rows of one epoch, weights counted."""
    per_epoch: PositiveInt
    """Optimizer steps of one epoch; the last may hold fewer rows."""
    total: PositiveInt
    """Optimizer steps of the run: those of all epochs, or max_steps if that is less."""


class Paths(Model):
    """Folders on the machine that runs the job."""

    workdir: str
    """The job's relative paths start from here."""
    run: str
    """The run directory."""
    models: str
    """Links to finished models."""
    code: str | None = None
    """The copy of hatrain that the run starts from; null for the installed package."""


class ResourceRequest(Model):
    """What the scheduler is asked for, per node unless stated otherwise."""

    name: str
    """The job's name at the scheduler."""
    time: PositiveInt
    """Seconds, of one attempt."""
    gpus: NonNegativeInt
    """0 for ranks on the CPU."""
    gpu_type: str | None
    """The cluster's name for the GPU; any GPU when null."""
    cpus: PositiveInt
    memory: PositiveInt | None
    """Bytes; the cluster's default when null."""
    shared_memory: PositiveInt | None
    """Bytes of /dev/shm, counted in `memory`; null where the node's own is used."""
    ephemeral_storage: PositiveInt | None
    """Bytes on the node's disk; null where they are not limited."""


NOT_TENSORS = ("CUDA context", "NCCL", "fragmentation")
"""Parts of a prediction that torch does not count as allocated."""


class Memory(Model):
    """What a run is predicted to need."""

    parts: dict[str, NonNegativeInt]
    """Bytes of one GPU at the moment that needs most, by part."""
    moment: str
    """When that is."""
    gpu: PositiveInt
    """Bytes that one GPU has."""
    host: PositiveInt
    """Bytes of main memory on one node: for loading, offload, checkpoints, merging and export."""
    checkpoint: PositiveInt
    """Bytes of one checkpoint."""
    disk: PositiveInt
    """Bytes of the checkpoints and the model."""
    why: str
    """Why this way of running was chosen; empty where the job left nothing open."""
    remedies: tuple[str, ...] = ()
    """The smallest changes with which a run fits, or needs clearly less; each as options of the command line."""

    @property
    def total(self) -> int:
        return sum(self.parts.values())

    @property
    def fits(self) -> bool:
        return self.total <= self.gpu


class Plan(Model):
    """One job on one cluster, with every decision made."""

    version: Literal[3] = 3
    """Of this schema. Version 2 is read as well; version 1 held no cluster and no resources, and is refused."""
    job: JobSpec
    identity: str
    """JobSpec.identity."""
    cluster: str
    """Name of the cluster file."""
    cluster_spec: ClusterSpec
    """Content of the cluster file."""
    resources: ResourceRequest | None
    """Null without a scheduler."""
    python: str
    """The interpreter with hatrain where the job runs: a path, or a name on the PATH."""
    environment: dict[str, str]
    """Variables exported before anything starts. Never a secret."""
    nodes: PositiveInt
    """Machines."""
    processes_per_node: PositiveInt
    """Ranks on each machine."""
    device: Literal["cpu", "cuda", "mps"]
    """Device of each rank."""
    sharding: Sharding
    """How weights, gradients and optimizer state are sharded."""
    gradient_checkpointing: bool
    """Whether activations are recomputed in the backward pass."""
    batch: Batch
    steps: Steps | None
    """None where the training rows could not be counted."""
    overlong: NonNegativeInt | None = None
    """Training rows that are longer than the context, which `steps` leaves out. None where this machine does not know
    the length of all rows."""
    memory: Memory | None = None
    """None on processors, and for a model whose configuration is not known here."""
    memory_unknown: str = ""
    """Why the need of memory is not known."""
    seconds: PositiveInt | None = None
    """Estimated time of all steps; None where rows or model are not known, and on processors."""
    paths: Paths
    retries: NonNegativeInt
    """Consecutive attempts after the first that may fail and seal no checkpoint."""

    @model_validator(mode="before")
    @classmethod
    def _read_version_2(cls, value: Any) -> Any:
        """Rename the keys of version 2: `place` is `cluster_spec` and `request` is `resources`."""
        if not isinstance(value, dict) or value.get("version") != 2:
            return value
        renamed = {"place": "cluster_spec", "request": "resources"}
        return {renamed.get(key, key): item for key, item in value.items()} | {"version": 3}

    @property
    def launcher(self) -> str:
        """Kind of the cluster."""
        return self.cluster_spec.kind

    @property
    def world_size(self) -> int:
        """Ranks over all nodes."""
        return self.nodes * self.processes_per_node
