"""Schema of a Slurm cluster file."""

import posixpath
import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, PositiveInt, model_validator

from hatrain.contract.cluster.common import BaseCluster, FileSecrets, GpuNames, Line, Size
from hatrain.contract.spec import Duration, Model
from hatrain.errors import nearest

OWNED = {
    "job-name": "set name in the job",
    "nodes": "set hardware.nodes in the job",
    "ntasks": "set hardware in the job",
    "ntasks-per-node": "set hardware in the job",
    "time": "set limits.time in the job",
    "gpus-per-node": "set hardware in the job",
    "gres": "set hardware in the job, and gpus here",
    "cpus-per-task": "set cpus_per_gpu",
    "mem": "set memory",
    "partition": "set partition",
    "account": "set account",
    "qos": "set qos",
    "constraint": "set constraint",
    "reservation": "set reservation",
    "exclusive": "set exclusive",
    "mail-user": "set mail",
    "mail-type": "set mail",
    "dependency": "set after in the job",
    "array": "use hatrain submit --sweep",
    "output": "every attempt and node has its own log",
    "error": "every attempt and node has its own log",
    "open-mode": "logs are always appended to",
    "requeue": "every job can be requeued",
    "no-requeue": "every job can be requeued",
    "signal": "set signal_lead",
    "chdir": "a job starts in the folder of its submission",
    "wrap": "hatrain writes the script",
    "kill-on-invalid-dep": "set after in the job",
    "gpus": "set hardware in the job",
    "gpus-per-task": "set hardware in the job",
    "test-only": "hatrain submit checks with Slurm first",
    "parsable": "hatrain reads the output of sbatch",
    "wait": "use hatrain wait",
    "tasks-per-node": "set hardware in the job",
    "ntasks-per-gpu": "set hardware in the job",
    "cpus-per-gpu": "set cpus_per_gpu",
    "workdir": "a job starts in the folder of its submission",
    "container": "set container",
    "clusters": "set SLURM_CLUSTERS for hatrain, so that squeue and scancel use it too",
    "help": "it submits no job",
    "usage": "it submits no job",
    "version": "it submits no job",
}
"""Options of sbatch that `directives` must not contain, and what to do instead or why."""


SRUN_OWNED = {
    "export": "the steps get every variable of the job; set directives.export",
    "kill-on-bad-exit": "when a node fails, its peers end",
    "wait": "after training only the first node continues",
    "input": "hatrain reads no input",
    "label": "every attempt and node has its own log",
    "unbuffered": "every attempt and node has its own log",
    "multi-prog": "hatrain writes the command",
    "pty": "a job has no terminal",
    "jobid": "the step belongs to its own job",
    "het-group": "a job is one allocation",
    "overlap": "one step has all of the job",
}
"""Options of srun that `srun` must not contain, beside those of sbatch, and why."""


def _directives(values: dict[str, str | None]) -> dict[str, str | None]:
    for name in values:
        if not re.fullmatch(r"[a-z][a-z0-9-]*", name):
            raise ValueError(f"long options of sbatch without dashes, such as switches, not {name!r}")
        # sbatch accepts an unambiguous prefix of an option.
        option = name if name in OWNED else next((owned for owned in OWNED if owned.startswith(name)), None)
        if option:
            prefix = "" if name == option else f" (which sbatch takes for {option})"
            raise ValueError(f"not {name}{prefix}: {OWNED[option]}")
    return values


def _srun(values: dict[str, str | None]) -> dict[str, str | None]:
    for name in values:
        if not re.fullmatch(r"[a-z][a-z0-9-]*", name):
            raise ValueError(f"long options of srun without dashes, such as mpi, not {name!r}")
        if name in SRUN_OWNED or name in OWNED:
            raise ValueError(f"not {name}: {SRUN_OWNED.get(name) or OWNED[name]}")
        if name.startswith("container"):
            raise ValueError(f"not {name}: set container")
    return values


def _mount(value: str) -> str:
    found = re.fullmatch(r"[/$][^:,]*(:[/$][^:,]*(:(ro|rw))?)?", value)
    if not found:
        raise ValueError(
            "FOLDER, FOLDER:INSIDE or FOLDER:INSIDE:ro, each a path that begins with / or a $VARIABLE and has no comma"
        )
    return value if found[1] else f"{value}:{value}"


def _event(value: str) -> str:
    if value not in MAIL_EVENTS:
        raise ValueError(f"{' | '.join(MAIL_EVENTS)}{nearest(value, MAIL_EVENTS)}")
    return value


MAIL_EVENTS = (
    *("NONE", "BEGIN", "END", "FAIL", "REQUEUE", "ALL", "INVALID_DEPEND", "STAGE_OUT"),
    *("TIME_LIMIT", "TIME_LIMIT_90", "TIME_LIMIT_80", "TIME_LIMIT_50", "ARRAY_TASKS"),
)


class Mail(Model):
    """E-mail from Slurm."""

    user: Line
    """The address."""
    events: Annotated[tuple[Annotated[str, AfterValidator(_event)], ...], Field(min_length=1)] = (
        "END",
        "FAIL",
    )
    """Events that send one."""


class Container(Model):
    """The container that a job runs in. The job's folder and the run's are mounted at their own paths."""

    runtime: Literal["pyxis", "apptainer", "docker", "podman-hpc"]
    """How the compute nodes start containers."""
    image: Line
    """In the notation of the runtime: a squashfs or SIF file, or a name in a registry."""
    mounts: tuple[Annotated[Line, AfterValidator(_mount)], ...] = ()
    """Additional folders: FOLDER, FOLDER:INSIDE or FOLDER:INSIDE:ro."""


def _host(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.][A-Za-z0-9_.-]*(@[A-Za-z0-9_.][A-Za-z0-9_.-]*)?", value):
        raise ValueError("a host of your ~/.ssh/config, or USER@HOST; ports, keys and jump hosts belong into that file")
    return value


def _workdir(value: str) -> str:
    if not value.startswith("/") or value != posixpath.normpath(value) or value == "/" or "\\" in value:
        raise ValueError(
            "a path that begins with /, without variables, ~, backslashes, . or .. or a / at its end, such as "
            "/scratch/ada/hatrain"
        )
    return value


class Ssh(Model):
    """How this machine reaches the cluster, when it is not a login node of it."""

    host: Annotated[Line, AfterValidator(_host)]
    """A host of your ~/.ssh/config, or USER@HOST. ssh must log in without a password there, or ask on a terminal."""
    workdir: Annotated[Line, AfterValidator(_workdir)]
    """A folder there that every node sees. A job's files, runs/ and models/ are in it."""


class SlurmCluster(BaseCluster):
    """A Slurm cluster."""

    kind: Literal["slurm"]
    ssh: Ssh | None = None
    """Submit from a machine outside of the cluster; on a login node when null."""
    partition: Line | None = None
    account: Line | None = None
    qos: Line | None = None
    time_limit: Duration | None = None
    """Longest time that the partition grants. A job that asks for more is refused in the plan."""
    gpus_style: Literal["gpus-per-node", "gres"] = "gpus-per-node"
    """`--gpus-per-node=TYPE:N`, or `--gres=gpu:TYPE:N` for sites that accept only that."""
    gpus: GpuNames = Field(default_factory=dict)
    """GPU names of jobs, mapped to Slurm's gres types. If empty, GPUs are requested by number only."""
    cpus_per_gpu: PositiveInt = 8
    """CPU cores for each GPU."""
    cpus_per_process: PositiveInt = 8
    """CPU cores for each process of a job with `gpu: cpu`."""
    memory: Size | None = None
    """Memory of each node; the partition's default when null."""
    constraint: Line | None = None
    reservation: Line | None = None
    exclusive: bool = False
    """Request whole nodes."""
    mail: Mail | None = None
    directives: Annotated[dict[str, Line | None], AfterValidator(_directives)] = Field(default_factory=dict)
    """Other options of sbatch, without dashes; null for an option without a value. `export: NONE` keeps the variables
    of the shell that submits out of the job."""
    srun: Annotated[dict[str, Line | None], AfterValidator(_srun)] = Field(default_factory=dict)
    """Other options of the srun that starts the nodes, without dashes, such as mpi, cpu-bind and network."""
    signal_lead: Duration = "00:05:00"
    """How long before its time limit a job is asked to save a checkpoint and requeue."""
    modules: tuple[Line, ...] = ()
    """Environment modules to load."""
    setup: tuple[Line, ...] = ()
    """Lines of bash that run first on each node, such as `source ~/venv/bin/activate`; with pyxis inside the
    container."""
    python: Line | None = None
    """The interpreter with hatrain on the nodes. When null, the current one, or python3 with set-up lines, modules or
    a container."""
    container: Container | None = None
    """The container that a job runs in; none when null."""
    scratch: Line = "/tmp"
    """A folder on each node's own disk, for compiled code of Triton, Inductor and DeepSpeed."""
    secrets: FileSecrets = Field(default_factory=dict)
    """Variables that are read from files, such as HF_TOKEN: {file: ~/.config/hatrain/hf-token}."""

    @model_validator(mode="after")
    def _no_modules_with_pyxis(self) -> "SlurmCluster":
        if self.modules and self.container and self.container.runtime == "pyxis":
            raise ValueError("no modules with pyxis: set-up runs inside the container, which has none")
        return self

    @model_validator(mode="after")
    def _interpreter_there(self) -> "SlurmCluster":
        if self.ssh and not (self.python or self.setup or self.modules or self.container):
            raise ValueError(
                "python, setup, modules or a container with ssh: the interpreter of this machine is not on the cluster"
            )
        return self
