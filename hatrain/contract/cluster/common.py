"""Schema of what every kind of cluster file has: environment, secrets (by name only), network."""

import re
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BeforeValidator, Field, NonNegativeFloat, model_validator

from hatrain.contract.gpus import GPUS
from hatrain.contract.spec import Duration, Model
from hatrain.errors import nearest
from hatrain.runtime import credentials

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SECRET_NAME = re.compile(r"(^|_)(TOKEN|PASSWORD|PASSWD|SECRET|CREDENTIALS?|(API|ACCESS|SECRET|PRIVATE)_KEY)$", re.I)
_SECRET_VALUE = re.compile(r"(hf_[A-Za-z0-9]{20,}|AKIA[A-Z0-9]{16}|gh[pousr]_[A-Za-z0-9]{30,}|github_pat_\w{30,})")
"""Tokens of the model hub, AWS access keys and GitHub tokens, by their prefixes."""


def _line(value: str) -> str:
    if not value.strip() or any(ord(letter) < 32 or ord(letter) == 127 for letter in value):
        raise ValueError("one line of text, without control characters")
    return value


def _variables(values: dict[str, Any]) -> dict[str, Any]:
    for name in values:
        if not _VARIABLE.fullmatch(name):
            raise ValueError(f"names of letters, digits and '_', not {name!r}")
    return values


def _environment(values: dict[str, str]) -> dict[str, str]:
    for name, value in _variables(values).items():
        if "\0" in value:
            raise ValueError(f"text without NUL characters in {name}")
        if _SECRET_NAME.search(name) or _SECRET_VALUE.search(value) or credentials.in_url(value):
            raise ValueError(f"no secrets: {name} is one; set its source under secrets instead")
    return values


def _nccl(values: dict[str, str]) -> dict[str, str]:
    for name in _environment(values):
        if not name.startswith("NCCL_"):
            raise ValueError(f"names that begin with NCCL_, not {name!r}; others go under environment")
    return values


def _gpus(values: dict[str, Any]) -> dict[str, Any]:
    for name in values:
        if name not in GPUS:
            raise ValueError(f"GPU names such as {', '.join(list(GPUS)[-5:])}, not {name!r}{nearest(name, GPUS)}")
    return values


def _size(value: Any) -> Any:
    if isinstance(value, str):
        if found := re.fullmatch(r"(\d+)\s*([MGT])iB?", value.strip()):
            return int(found[1]) * {"M": 2**20, "G": 2**30, "T": 2**40}[found[2]]
        raise ValueError("a size such as 512MiB, 64GiB or 1TiB")
    return value


Line = Annotated[str, AfterValidator(_line)]
"""One line, where a second line would be read as a command or an option."""
Environment = Annotated[dict[str, str], AfterValidator(_environment)]
Size = Annotated[int, BeforeValidator(_size, json_schema_input_type=str), Field(gt=0)]
"""Bytes."""
GpuNames = Annotated[dict[str, Line], AfterValidator(_gpus)]
"""GPU names of jobs, mapped to the names that the cluster uses."""


class FileSecret(Model):
    """A secret in a file with mode 0600, on the machine that runs the job."""

    file: Line
    """Its path; `~` is the home folder on that machine. The file contains the value and nothing else."""


class ClusterSecret(Model):
    """A key of a Kubernetes Secret."""

    secret: Line
    """Name of the Secret."""
    key: Line
    """One of its keys."""

    @model_validator(mode="after")
    def _named(self) -> "ClusterSecret":
        # Validated as a whole, because the error then does not show the value: it may be the secret itself.
        if len(self.secret) > 253 or not re.fullmatch(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?", self.secret):
            raise ValueError("secret is the name of a Secret (lower-case letters, digits, '-', '.'), not its value")
        if not re.fullmatch(r"[A-Za-z0-9._-]{1,253}", self.key):
            raise ValueError("key is a key of the Secret: letters, digits, '-', '_' and '.'")
        return self


class BaseCluster(Model):
    """What every kind of cluster has."""

    single_machine: ClassVar[bool] = False
    """Whether every attempt runs on the same machine, so that a retry cannot avoid a broken one."""

    environment: Environment = Field(default_factory=dict)
    """Exported before anything starts. Never a secret."""
    nccl: Annotated[dict[str, str], AfterValidator(_nccl)] = Field(default_factory=dict)
    """Variables of NCCL, such as NCCL_SOCKET_IFNAME. None by default: NCCL detects its network."""
    price_per_gpu_hour: Annotated[dict[str, NonNegativeFloat], AfterValidator(_gpus)] = Field(default_factory=dict)
    """What an hour of one GPU costs, by the GPU names of jobs, in any currency."""
    mean_time_between_failures: Duration | None = None
    """Of a run on this cluster, preemptions counted; `checkpoints.save_steps: auto` follows it. 24 hours when null."""
    network: bool = True
    """Whether the machines that run jobs have access to the model hub. If not, hatrain fetch fills the cache."""


FileSecrets = Annotated[dict[str, FileSecret], AfterValidator(_variables)]
ClusterSecrets = Annotated[dict[str, ClusterSecret], AfterValidator(_variables)]
