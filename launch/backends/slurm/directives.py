"""The options of a job, as sbatch reads them from a script."""

import re

from hatrain.contract.cluster import SlurmCluster
from hatrain.contract.plan import Plan, ResourceRequest
from hatrain.contract.spec import seconds
from hatrain.errors import BadInput


def directives(plan: Plan, cluster: SlurmCluster, log: str) -> list[str]:
    """sbatch's options, with comments between them. sbatch expands no variables here: everything is literal."""
    request = plan.resources
    assert request is not None
    values = [
        ("job-name", request.name),
        ("partition", cluster.partition),
        ("account", cluster.account),
        ("qos", cluster.qos),
        ("reservation", cluster.reservation),
        ("constraint", cluster.constraint),
        ("nodes", plan.nodes),
        ("ntasks", plan.nodes),
        ("ntasks-per-node", 1),
        ("cpus-per-task", request.cpus),
        ("mem", None if request.memory is None else f"{-(-request.memory // 2**20)}M"),
        _gpus(cluster, request),
        ("time", _time(request.time)),
        ("chdir", plan.paths.workdir),
        ("output", log),
        ("mail-user", cluster.mail and cluster.mail.user),
        ("mail-type", cluster.mail and ",".join(cluster.mail.events)),
    ]
    return [
        *(_directive(name, str(value)) for name, value in values if value is not None),
        *(["--exclusive"] if cluster.exclusive else []),
        *(_directive(name, value) for name, value in cluster.directives.items()),
        "# A requeued job appends to its log.",
        "--requeue",
        "--open-mode=append",
        "# Send SIGUSR1 this many seconds before the time limit, only to this script (B:): it would kill torchrun.",
        f"--signal=B:USR1@{seconds(cluster.signal_lead)}",
    ]


def _gpus(cluster: SlurmCluster, request: ResourceRequest) -> tuple[str, str | None]:
    count = f"{request.gpu_type}:{request.gpus}" if request.gpu_type else str(request.gpus)
    if cluster.gpus_style == "gres":
        return "gres", f"gpu:{count}" if request.gpus else None
    return "gpus-per-node", count if request.gpus else None


def _time(total: int) -> str:
    """Format seconds as [D-]HH:MM:SS."""
    minutes, second = divmod(total, 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    return f"{days}-{hour:02}:{minute:02}:{second:02}" if days else f"{hour:02}:{minute:02}:{second:02}"


def _directive(name: str, value: str | None) -> str:
    """Quote one option. In a script sbatch (22.05, measured) removes backslashes in and out of quotes and takes `#`
    outside of quotes for a comment; nothing else is special."""
    if value is None:
        return f"--{name}"
    if not value.isprintable():
        raise BadInput(f"{name}: found {value!r}; an sbatch directive must be one line of printable text")
    if re.fullmatch(r"[\w./:@%+,=-]+", value, re.ASCII):
        return f"--{name}={value}"
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'--{name}="{escaped}"'


def log_pattern(path: str) -> str:
    """Escape a path for the file name pattern of --output."""
    if "\\" in path:
        raise BadInput(f"{path}: Slurm does not expand %j in a path with a backslash; use a folder without one")
    return path.replace("%", "%%")
