"""A cluster under Kubernetes: where a job's pods go, what they hold, and which volumes they see. Only the schema."""

import posixpath
import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, PositiveInt, model_validator

from hatrain.contract.cluster import yaml_values as scalars
from hatrain.contract.cluster.common import BaseCluster, ClusterSecrets, GpuNames, Line, Size
from hatrain.contract.spec import Duration, Model

_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?")
_QUALIFIED = re.compile(
    r"([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"
)

OLDEST = "1.26"
OWNED = {
    "restartPolicy": "whether a pod is made again goes by its exit code",
    "activeDeadlineSeconds": "limits.time of the job says it",
    "terminationGracePeriodSeconds": "termination_grace says it",
    "hostname": "the pods of a job find each other by it",
    "subdomain": "the pods of a job find each other by it",
}
"""Keys of a pod that an overlay may not give, and why."""


def _label(value: str) -> str:
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", value):
        raise ValueError("up to 63 lower-case letters, digits and '-', the first and the last no '-'")
    return value


def _subdomain(value: str) -> str:
    if len(value) > 253 or not re.fullmatch(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?", value):
        raise ValueError(
            "up to 253 lower-case letters, digits, '-' and '.', the first and the last a letter or digit"
        )
    return value


def _queue(value: str) -> str:
    if len(value) > 63:
        raise ValueError("up to 63 characters, for Kueue reads it from a label")
    return _subdomain(value)


def _version(value: str) -> str:
    if not re.fullmatch(r"1\.\d{2}", value):
        raise ValueError("a version such as 1.29")
    if value < OLDEST:
        raise ValueError(f"{OLDEST} or newer, for older ones do not tell exit codes apart")
    return value


def _folder(value: str) -> str:
    if not value.startswith("/") or value != posixpath.normpath(value):
        raise ValueError("a path that begins with /, without . or .. or a / at its end")
    return value


def _below_the_root(value: str) -> str:
    if value == "/":
        raise ValueError("a folder, and not the root, which cannot be written")
    return value


def _image(value: str) -> str:
    name, at, digest = value.partition("@")
    if not name or re.search(r"\s", value) or (at and not re.fullmatch(r"sha256:[0-9a-f]{64}", digest)):
        raise ValueError(
            "an image such as registry/name:tag, or registry/name@sha256: and 64 hexadecimal digits"
        )
    return value


def _inside(value: str) -> str:
    if value.startswith("/") or ".." in value.split("/"):
        raise ValueError("a folder inside the claim, without a / before it or .. in it")
    return value


def _qualified(value: str) -> str:
    if not _QUALIFIED.fullmatch(value):
        raise ValueError(
            "a name such as nvidia.com/gpu: letters, digits, '-', '_' and '.', after a domain and a /"
        )
    return value


def _labels(values: dict[str, str]) -> dict[str, str]:
    for name, value in values.items():
        _qualified(name)
        _label_value(value)
    return values


def _label_value(value: str) -> str:
    if not _LABEL_VALUE.fullmatch(value):
        raise ValueError(f"values of up to 63 letters, digits, '-', '_' and '.', not {value!r}")
    return value


def _gpu_labels(values: dict[str, str]) -> dict[str, str]:
    for value in values.values():
        _label_value(value)
    return values


def _overlay(values: dict[str, Any]) -> dict[str, Any]:
    for name in values:
        if name in OWNED:
            raise ValueError(f"a part of a pod's spec without {name}: {OWNED[name]}")
    return values


DnsLabel = Annotated[str, AfterValidator(_label)]
DnsName = Annotated[str, AfterValidator(_subdomain)]
AbsolutePath = Annotated[Line, AfterValidator(_folder)]
Qualified = Annotated[str, AfterValidator(_qualified)]
Labels = Annotated[dict[str, str], AfterValidator(_labels)]


class Volume(Model):
    """Where data lies: a claim, or a folder of the node."""

    claim: DnsName | None = None
    """Name of a PersistentVolumeClaim in the namespace."""
    access: Literal["ReadWriteOnce", "ReadWriteMany", "ReadOnlyMany"] = "ReadWriteOnce"
    """The claim's access mode. Several nodes need ReadWriteMany where they write."""
    sub_path: Annotated[Line, AfterValidator(_inside)] | None = None
    """A folder inside the claim."""
    host_path: AbsolutePath | None = None
    """A folder of every node, in place of a claim; the restricted standard forbids these."""
    read_only: bool = False

    @model_validator(mode="after")
    def _one(self) -> "Volume":
        if (self.claim is None) == (self.host_path is None):
            raise ValueError("a claim or a host_path, one of them")
        if self.host_path and self.sub_path:
            raise ValueError("a sub_path with a claim; with a host_path the whole path goes there")
        return self


class Rdma(Model):
    """Network cards that GPUs of several nodes reach each other by."""

    resource: Qualified
    """What the cluster calls them, such as rdma/hca_shared_devices_a."""
    count: PositiveInt = 1
    """Of each pod."""


class KubernetesCluster(BaseCluster):
    """A cluster under Kubernetes."""

    kind: Literal["kubernetes"]
    context: Line | None = None
    """Of kubectl; its current one when null."""
    namespace: DnsLabel = "default"
    kubernetes_version: Annotated[str, AfterValidator(_version)] = "1.29"
    """What the cluster runs; newer fields are used where it knows them."""
    controller: Literal["job", "jobset"] = "job"
    """Who keeps the pods: an Indexed Job, or a JobSet where that operator is installed."""
    queue: Annotated[str, AfterValidator(_queue)] | None = None
    """Kueue's LocalQueue; pods start at once when null."""
    priority: DnsName | None = None
    """A PriorityClass; with a queue a WorkloadPriorityClass of Kueue."""
    image: Annotated[Line, AfterValidator(_image)]
    """The image with hatrain in it, best by digest: NAME@sha256:…"""
    image_pull_policy: Literal["IfNotPresent", "Always", "Never"] = "IfNotPresent"
    python: Line = "python3"
    """The interpreter that hatrain is installed for in the image."""
    workdir: Annotated[AbsolutePath, AfterValidator(_below_the_root)] = "/workspace"
    """Where a job's relative paths start from inside the pod; data/, runs/ and models/ lie in it."""
    data: Volume | None = None
    """Mounted at WORKDIR/data, to be read."""
    runs: Volume
    """Its folders runs/ and models/ are mounted at WORKDIR/runs and WORKDIR/models."""
    cache: Volume | None = None
    """The model hub's cache; empty at each start when null."""
    gpu_resource: Qualified = "nvidia.com/gpu"
    """What the cluster calls a GPU."""
    gpu_label: Qualified = "nvidia.com/gpu.product"
    """The node label that tells GPUs apart."""
    gpus: Annotated[GpuNames, AfterValidator(_gpu_labels)] = Field(default_factory=dict)
    """GPU names of jobs to values of that label. Empty takes any node with GPUs."""
    cpus_per_gpu: PositiveInt = 8
    """CPU cores for each GPU; for each process of a job with `gpu: cpu`."""
    memory_per_gpu: Size = 64 * 2**30
    """Memory for each GPU (or process), /dev/shm counted."""
    shared_memory_per_gpu: Size = 8 * 2**30
    """/dev/shm for each GPU (or process), which NCCL and the ranks of a node use."""
    ephemeral_storage: Size = 20 * 2**30
    """Of each pod, for what is compiled, for temporary files, and for models where there is no cache."""
    service_account: DnsName | None = None
    """Whom the pods belong to. No token of it is given to them."""
    pull_secrets: tuple[DnsName, ...] = ()
    """Secrets that open the image's registry."""
    node_selector: Labels = Field(default_factory=dict)
    tolerations: tuple[scalars.Mapping, ...] = ()
    """As Kubernetes writes them."""
    affinity: scalars.Mapping | None = None
    """As Kubernetes writes it."""
    rdma: Rdma | None = None
    """Network cards for each pod of a job with several nodes."""
    pod_security: Literal["restricted", "rdma"] = "restricted"
    """The restricted pod security standard; `rdma` adds the IPC_LOCK capability, which RDMA needs to pin memory."""
    user: PositiveInt = 10001
    """Whom the pods run as, and the group that owns the volumes."""
    termination_grace: Duration = "00:10:00"
    """From a request to stop to the end: long enough for a step and a checkpoint. The last of limits.time."""
    keep_finished: Duration = "168:00:00"
    """How long a finished Job stays to be looked at."""
    pod_overlay: Annotated[scalars.Mapping, AfterValidator(_overlay)] = Field(default_factory=dict)
    """Merged into the pod's spec last, for what this file has no key for: mappings key by key, lists of things with
    names by their names, other lists whole; null takes a key away."""
    secrets: ClusterSecrets = Field(default_factory=dict)
    """Variables that come from Secrets, such as HF_TOKEN: {secret: huggingface, key: token}."""
