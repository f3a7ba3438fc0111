"""What was decided: the schema of plan.json, which the launch wing writes and the training wing reads. Schema only."""

from typing import Any, Literal

from pydantic import NonNegativeInt, PositiveInt, model_validator

from hatrain.contract.cluster import ClusterSpec
from hatrain.contract.spec import JobSpec, Model

Sharding = Literal["none", "ddp", "fsdp", "zero1", "zero2", "zero3"]


class Batch(Model):
    """How the rows of one optimizer step come together: rows_per_step = micro_batch_size × accumulation × ranks."""

    rows_per_step: PositiveInt
    """Rows per optimizer step, over all ranks."""
    micro_batch_size: PositiveInt
    """Rows per rank per pass."""
    accumulation: PositiveInt
    """Passes of one rank in one step."""
    ranks: PositiveInt
    """Processes that train, over all nodes."""


class Steps(Model):
    """What the training rows come to, counted where the plan was made. Rows that are dropped lower it."""

    rows: PositiveInt
    """Rows of one epoch, weights counted."""
    per_epoch: PositiveInt
    """Optimizer steps of one epoch; the last may hold fewer rows."""
    total: PositiveInt
    """Optimizer steps of the run."""


class Paths(Model):
    """Where things are on the machine that runs the job."""

    workdir: str
    """Folder that the job's relative paths start from."""
    run: str
    """The run directory."""
    models: str
    """Folder of the links to finished models."""


class ResourceRequest(Model):
    """What a scheduler is asked for: for each node, where nothing else is said."""

    name: str
    """What the scheduler calls the job."""
    time: PositiveInt
    """Seconds that one attempt may take."""
    gpus: NonNegativeInt
    """0 where the ranks compute on processors."""
    gpu_type: str | None
    """What the place calls the GPU; any when null."""
    cpus: PositiveInt
    memory: PositiveInt | None
    """Bytes; what the place gives by itself when null."""
    shared_memory: PositiveInt | None
    """Bytes of /dev/shm, part of the memory; null where it is the node's own."""
    ephemeral_storage: PositiveInt | None
    """Bytes of the node's own disk; null where nobody counts them."""


class Plan(Model):
    """One job on one cluster, with nothing left to decide."""

    version: Literal[3] = 3
    """Of this schema. Version 2 is read as well; version 1 held no cluster and no resources, and is refused."""
    job: JobSpec
    identity: str
    """SHA-256 of what makes two runs the same; see JobSpec.identity."""
    cluster: str
    """Name of the cluster file."""
    cluster_spec: ClusterSpec
    """What that file says."""
    resources: ResourceRequest | None
    """What the scheduler is asked for; null where there is none."""
    python: str
    """The interpreter that hatrain is installed for, where the job runs: a path, or a name on its PATH."""
    environment: dict[str, str]
    """Exported before anything starts. Never a secret."""
    nodes: PositiveInt
    """Machines."""
    processes_per_node: PositiveInt
    """Ranks on each machine."""
    device: Literal["cpu", "cuda"]
    """What each rank computes on."""
    sharding: Sharding
    """How weights, gradients and optimizer state are spread over the ranks."""
    gradient_checkpointing: bool
    """Whether activations are computed again in the backward pass."""
    batch: Batch
    steps: Steps | None
    """None where the training rows could not be counted."""
    paths: Paths
    retries: NonNegativeInt
    """Consecutive attempts, after the first, that may seal no new checkpoint."""

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
        """Who starts the processes: local, slurm or kubernetes."""
        return self.cluster_spec.kind

    @property
    def world_size(self) -> int:
        """Ranks over all nodes."""
        return self.nodes * self.processes_per_node
