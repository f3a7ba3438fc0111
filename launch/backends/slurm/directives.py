"""The options of a job as sbatch reads them in a script."""

import re

from hatrain.contract.cluster import SlurmCluster
from hatrain.contract.plan import Plan, ResourceRequest
from hatrain.contract.spec import seconds
from hatrain.errors import BadInput
from launch.backends.slurm.asked import place_of, request_of


def directives(plan: Plan, log: str) -> list[str]:
    """Return sbatch's options, comments among them. sbatch expands no variables here, so that all is literal."""
    place, request = place_of(plan), request_of(plan)
    each = [
        ("job-name", request.name),
        ("partition", place.partition),
        ("account", place.account),
        ("qos", place.qos),
        ("reservation", place.reservation),
        ("constraint", place.constraint),
        ("nodes", plan.nodes),
        ("ntasks", plan.nodes),
        ("ntasks-per-node", 1),
        ("cpus-per-task", request.cpus),
        ("mem", None if request.memory is None else f"{-(-request.memory // 2**20)}M"),
        _gpus(place, request),
        ("time", _time(request.time)),
        ("chdir", plan.paths.workdir),
        ("output", log),
        ("mail-user", place.mail and place.mail.user),
        ("mail-type", place.mail and ",".join(place.mail.events)),
    ]
    lead = seconds(place.signal_lead)
    return [
        *(_directive(name, str(value)) for name, value in each if value is not None),
        *(["--exclusive"] if place.exclusive else []),
        *(_directive(name, value) for name, value in place.directives.items()),
        "# A job that is queued again goes on in its log.",
        "--requeue",
        "--open-mode=append",
        "# So many seconds before the end a warning comes, to this shell alone (B:): torchrun would die of it.",
        f"--signal=B:USR1@{lead}",
    ]


def _gpus(place: SlurmCluster, request: ResourceRequest) -> tuple[str, str | None]:
    counted = f"{request.gpu_type}:{request.gpus}" if request.gpu_type else str(request.gpus)
    if place.gpus_style == "gres":
        return "gres", f"gpu:{counted}" if request.gpus else None
    return "gpus-per-node", counted if request.gpus else None


def _time(total: int) -> str:
    """Return seconds as Slurm writes a time."""
    minutes, second = divmod(total, 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    return f"{days}-{hour:02}:{minute:02}:{second:02}" if days else f"{hour:02}:{minute:02}:{second:02}"


def _directive(name: str, value: str | None) -> str:
    """Return one option as sbatch reads it in a script: a backslash is undone in and out of quotes, a `#` outside of
    them begins a comment, and nothing else is special (measured with 22.05)."""
    if value is None:
        return f"--{name}"
    if not value.isprintable():
        raise BadInput(f"{name}: found {value!r}; a directive of sbatch is one line of printable text")
    if re.fullmatch(r"[\w./:@%+,=-]+", value, re.ASCII):
        return f"--{name}={value}"
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'--{name}="{escaped}"'


def pattern(path: str) -> str:
    """Return a path as it stands in a pattern of a log's name."""
    if "\\" in path:
        raise BadInput(f"{path}: Slurm fills in no job's id behind a backslash; use a folder without one")
    return path.replace("%", "%%")
