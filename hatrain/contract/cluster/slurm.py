"""A cluster under Slurm: its queue, its names of GPUs, and what a job runs in there. Only the schema."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, PositiveInt, model_validator

from hatrain.contract.cluster.common import BaseCluster, FileSecrets, GpuNames, Line, Size
from hatrain.contract.spec import Duration, Model
from hatrain.errors import nearest

OWNED = {
    "job-name": "name in the job",
    "nodes": "hardware.nodes in the job",
    "ntasks": "hardware in the job",
    "ntasks-per-node": "hardware in the job",
    "time": "limits.time in the job",
    "gpus-per-node": "hardware in the job",
    "gres": "hardware in the job, and gpus here",
    "cpus-per-task": "cpus_per_gpu",
    "mem": "memory",
    "partition": "partition",
    "account": "account",
    "qos": "qos",
    "constraint": "constraint",
    "reservation": "reservation",
    "exclusive": "exclusive",
    "mail-user": "mail",
    "mail-type": "mail",
    "dependency": "after in the job",
    "array": "hatrain submit --sweep",
    "output": "nothing: every attempt and node has a log of its own",
    "error": "nothing: every attempt and node has a log of its own",
    "open-mode": "nothing: a log goes on where an attempt follows another",
    "requeue": "nothing: every job can be queued again",
    "no-requeue": "nothing: every job can be queued again",
    "signal": "signal_lead",
    "chdir": "nothing: a job starts where it was submitted",
    "export": "environment",
    "wrap": "nothing: the script is ours",
    "kill-on-invalid-dep": "after in the job",
    "gpus": "hardware in the job",
    "gpus-per-task": "hardware in the job",
    "test-only": "hatrain submit, which asks first",
    "parsable": "nothing: hatrain reads what sbatch answers",
    "wait": "hatrain wait",
    "tasks-per-node": "hardware in the job",
    "ntasks-per-gpu": "hardware in the job",
    "cpus-per-gpu": "cpus_per_gpu",
    "workdir": "nothing: a job starts where it was submitted",
    "container": "container",
    "clusters": "SLURM_CLUSTERS around hatrain, which squeue and scancel heed too",
    "help": "nobody: it asks for no job",
    "usage": "nobody: it asks for no job",
    "version": "nobody: it asks for no job",
}
"""Options of sbatch that extra directives may not give, with the key that says it."""


def _directives(values: dict[str, str | None]) -> dict[str, str | None]:
    for name in values:
        if not re.fullmatch(r"[a-z][a-z0-9-]*", name):
            raise ValueError(f"long options of sbatch without dashes, such as switches, not {name!r}")
        # sbatch takes the beginning of a name for the name, where no other begins so.
        if (
            meant := name
            if name in OWNED
            else next((owned for owned in OWNED if owned.startswith(name)), None)
        ):
            short = "" if name == meant else f" (which sbatch takes for {meant})"
            raise ValueError(f"not {name}{short}, which is said by {OWNED[meant]}")
    return values


def _mount(value: str) -> str:
    found = re.fullmatch(r"/[^:,]*(:/[^:,]*(:(ro|rw))?)?", value)
    if not found:
        raise ValueError(
            "FOLDER, FOLDER:INSIDE or FOLDER:INSIDE:ro, each a path that begins with / and has no comma"
        )
    return value if found[1] else f"{value}:{value}"


def _event(value: str) -> str:
    if value not in MAIL_EVENTS:
        raise ValueError(f"{' | '.join(MAIL_EVENTS)}{nearest(value, MAIL_EVENTS)}")
    return value


MAIL_EVENTS = ("BEGIN", "END", "FAIL", "REQUEUE", "TIME_LIMIT_90", "ALL")


class Mail(Model):
    """Whom Slurm writes to, and when."""

    user: Line
    """An address."""
    events: Annotated[tuple[Annotated[str, AfterValidator(_event)], ...], Field(min_length=1)] = (
        "END",
        "FAIL",
    )
    """When Slurm writes."""


class Container(Model):
    """What a job runs in. The job's folder and the run's are mounted at their own paths."""

    runtime: Literal["pyxis", "apptainer", "docker"]
    """How containers are started on the compute nodes."""
    image: Line
    """As the runtime writes it: a squashfs or SIF file, or a registry's name."""
    mounts: tuple[Annotated[Line, AfterValidator(_mount)], ...] = ()
    """Other folders that are mounted: FOLDER, FOLDER:INSIDE or FOLDER:INSIDE:ro."""


class SlurmCluster(BaseCluster):
    """A cluster under Slurm."""

    kind: Literal["slurm"]
    partition: Line | None = None
    account: Line | None = None
    qos: Line | None = None
    time_limit: Duration | None = None
    """Longest time that the partition grants; a job that asks for more is refused in the plan."""
    gpus_style: Literal["gpus-per-node", "gres"] = "gpus-per-node"
    """How GPUs are asked for: `--gpus-per-node=TYPE:N`, or `--gres=gpu:TYPE:N` on sites that take only that."""
    gpus: GpuNames = Field(default_factory=dict)
    """GPU names of jobs to Slurm's gres types. Empty asks for GPUs by their number alone."""
    cpus_per_gpu: PositiveInt = 8
    """CPU cores for each GPU; for each process of a job with `gpu: cpu`."""
    memory: Size | None = None
    """Memory of each node; what the partition gives by itself when null."""
    constraint: Line | None = None
    reservation: Line | None = None
    exclusive: bool = False
    """Ask for whole nodes."""
    mail: Mail | None = None
    directives: Annotated[dict[str, Line | None], AfterValidator(_directives)] = Field(default_factory=dict)
    """Further options of sbatch, without dashes; null for one that takes no value."""
    signal_lead: Duration = "00:05:00"
    """How long before the end of its time a job is told to save a checkpoint and queue again."""
    modules: tuple[Line, ...] = ()
    """Environment modules to load."""
    setup: tuple[Line, ...] = ()
    """Lines of bash that come before everything on each node, such as `source ~/venv/bin/activate`; with pyxis
    inside the container."""
    python: Line | None = None
    """The interpreter that hatrain is installed for there; when null the one that plans, or python3 after set-up
    lines and in a container."""
    container: Container | None = None
    """What a job runs in; the node itself when null."""
    scratch: Line = "/tmp"
    """A folder on each node's own disk, for what Triton, Inductor and DeepSpeed compile."""
    secrets: FileSecrets = Field(default_factory=dict)
    """Variables that are read from files, such as HF_TOKEN: {file: ~/.config/hatrain/hf-token}."""

    @model_validator(mode="after")
    def _modules_of_the_node(self) -> "SlurmCluster":
        if self.modules and self.container and self.container.runtime == "pyxis":
            raise ValueError("no modules with pyxis, which starts inside the container, where there are none")
        return self
