"""Schema of a Kubernetes cluster file."""

import posixpath
import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, PositiveInt, model_validator

from hatrain.contract.cluster import pod_keys, yaml_values
from hatrain.contract.cluster.common import BaseCluster, ClusterSecrets, GpuNames, Line, Size
from hatrain.contract.spec import Duration, Model, seconds

_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?")
_QUALIFIED = re.compile(r"([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")

OLDEST = "1.26"
ANNOTATION_BYTES = 2**17
"""Half of what an object may have: hatrain and the cluster add their own."""
OWN_LABELS = ("app.kubernetes.io/name", "app.kubernetes.io/instance")
SHORTEST_GRACE = 30
"""Seconds."""
VARIABLES = ("HOME", "USER", "HF_HOME", "MASTER_ADDR", "MASTER_PORT")
"""That hatrain sets in its pods. A second one of that name would be refused."""


def _label(value: str) -> str:
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", value):
        raise ValueError("up to 63 lower-case letters, digits and '-', without '-' at either end")
    return value


def _subdomain(value: str) -> str:
    if len(value) > 253 or not re.fullmatch(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?", value):
        raise ValueError("up to 253 lower-case letters, digits, '-' and '.', with a letter or digit at either end")
    return value


def _queue(value: str) -> str:
    if len(value) > 63:
        raise ValueError("up to 63 characters, because Kueue reads it from a label")
    return _subdomain(value)


def _version(value: str) -> str:
    if not re.fullmatch(r"1\.\d{2}", value):
        raise ValueError("a version such as 1.29")
    if value < OLDEST:
        raise ValueError(f"{OLDEST} or newer, because older versions do not distinguish exit codes")
    return value


def _folder(value: str) -> str:
    if not value.startswith("/") or value != posixpath.normpath(value):
        raise ValueError("a path that begins with /, without . or .. or a / at its end")
    return value


def _below_the_root(value: str) -> str:
    if value == "/":
        raise ValueError("a folder other than /, which is read-only")
    return value


def _image(value: str) -> str:
    name, at, digest = value.partition("@")
    if not name or re.search(r"\s", value) or (at and not re.fullmatch(r"sha256:[0-9a-f]{64}", digest)):
        raise ValueError("an image such as registry/name:tag, or registry/name@sha256: and 64 hexadecimal digits")
    return value


def _inside(value: str) -> str:
    if value.startswith("/") or ".." in value.split("/"):
        raise ValueError("a folder inside the claim, without a leading / and without ..")
    return value


def _qualified(value: str) -> str:
    if not _QUALIFIED.fullmatch(value):
        raise ValueError("a name such as nvidia.com/gpu: a domain, a /, then letters, digits, '-', '_' and '.'")
    return value


def _labels(values: dict[str, str]) -> dict[str, str]:
    for name, value in values.items():
        _qualified(name)
        _label_value(value)
    return values


def _annotations(values: dict[str, str]) -> dict[str, str]:
    for name in values:
        _qualified(name)
    if (size := sum(len(name.encode()) + len(value.encode()) for name, value in values.items())) > ANNOTATION_BYTES:
        raise ValueError(f"at most {ANNOTATION_BYTES} bytes of annotations, not {size}")
    return values


def _foreign(values: dict[str, str]) -> dict[str, str]:
    for name in values:
        if name.startswith("hatrain/") or name in OWN_LABELS:
            raise ValueError(f"other names than {name}, by which hatrain finds its own objects")
    return values


def _label_value(value: str) -> str:
    if not _LABEL_VALUE.fullmatch(value):
        raise ValueError(f"values of up to 63 letters, digits, '-', '_' and '.', not {value!r}")
    return value


def _gpu_labels(values: dict[str, str]) -> dict[str, str]:
    for value in values.values():
        _label_value(value)
    return values


def _grace(value: str) -> str:
    if seconds(value) < SHORTEST_GRACE:
        raise ValueError(f"at least {SHORTEST_GRACE} seconds: a step and a checkpoint must fit, not {value}")
    return value


def _secrets(values: dict[str, Any]) -> dict[str, Any]:
    for name in values:
        if name in VARIABLES or name.startswith("HATRAIN_"):
            raise ValueError(f"other names than {name}, which the pods have already")
    return values


DnsLabel = Annotated[str, AfterValidator(_label)]
DnsName = Annotated[str, AfterValidator(_subdomain)]
AbsolutePath = Annotated[Line, AfterValidator(_folder)]
Qualified = Annotated[str, AfterValidator(_qualified)]
Device = Annotated[Qualified, AfterValidator(pod_keys.resource)]
Labels = Annotated[dict[str, str], AfterValidator(_labels)]
Annotations = Annotated[dict[str, str], AfterValidator(_annotations)]


class Volume(Model):
    """A claim, or a folder of the node."""

    claim: DnsName | None = None
    """Name of a PersistentVolumeClaim in the namespace."""
    access: Literal["ReadWriteOnce", "ReadWriteMany", "ReadOnlyMany"] = "ReadWriteOnce"
    """Access mode of the claim. Several nodes need ReadWriteMany to write."""
    sub_path: Annotated[Line, AfterValidator(_inside)] | None = None
    """A folder inside the claim."""
    host_path: AbsolutePath | None = None
    """A folder of every node instead of a claim; the restricted pod security standard forbids it."""
    read_only: bool = False

    @model_validator(mode="after")
    def _one(self) -> "Volume":
        if (self.claim is None) == (self.host_path is None):
            raise ValueError("either a claim or a host_path")
        if self.host_path and self.sub_path:
            raise ValueError("a sub_path only with a claim; add it to the host_path instead")
        return self


class Rdma(Model):
    """Network cards for communication between GPUs of several nodes."""

    resource: Device
    """Resource name in the cluster, such as rdma/hca_shared_devices_a."""
    count: PositiveInt = 1
    """Number for each pod."""


class Topology(Model):
    """A level of Kueue's topology, such as cloud.provider.com/topology-rack, in which all pods must or should be."""

    required: Qualified | None = None
    """The level in which they must be."""
    preferred: Qualified | None = None
    """The level in which they should be."""

    @model_validator(mode="after")
    def _one(self) -> "Topology":
        if (self.required is None) == (self.preferred is None):
            raise ValueError("either required or preferred")
        return self


class KubernetesCluster(BaseCluster):
    """A Kubernetes cluster."""

    kind: Literal["kubernetes"]
    context: Line | None = None
    """Context of kubectl; the current one when null."""
    namespace: DnsLabel = "default"
    kubernetes_version: Annotated[str, AfterValidator(_version)] = "1.29"
    """Version of the cluster. Newer fields are used only where the version has them."""
    controller: Literal["job", "jobset"] = "job"
    """What creates the pods: an Indexed Job, or a JobSet where that operator is installed."""
    queue: Annotated[str, AfterValidator(_queue)] | None = None
    """A LocalQueue of Kueue; pods start at once when null."""
    priority: DnsName | None = None
    """A PriorityClass; with a queue a WorkloadPriorityClass of Kueue."""
    image: Annotated[Line, AfterValidator(_image)]
    """The image with hatrain, preferably by digest: NAME@sha256:…"""
    image_pull_policy: Literal["IfNotPresent", "Always", "Never"] = "IfNotPresent"
    python: Line = "python3"
    """The interpreter with hatrain in the image."""
    workdir: Annotated[AbsolutePath, AfterValidator(_below_the_root), AfterValidator(pod_keys.mounted)] = "/workspace"
    """The folder in the pod that relative paths start from; data/, runs/ and models/ are in it."""
    data: Volume | None = None
    """Mounted read-only at WORKDIR/data."""
    runs: Volume
    """Its folders runs/ and models/ are mounted at WORKDIR/runs and WORKDIR/models."""
    cache: Volume | None = None
    """The cache of the model hub; an empty one for each pod when null."""
    gpu_resource: Device = "nvidia.com/gpu"
    """Resource name of a GPU."""
    gpu_label: Qualified = "nvidia.com/gpu.product"
    """The node label with the GPU model."""
    gpus: Annotated[GpuNames, AfterValidator(_gpu_labels)] = Field(default_factory=dict)
    """GPU names of jobs, mapped to values of that label. If empty, any node with GPUs is used."""
    cpus_per_gpu: PositiveInt = 8
    """CPU cores for each GPU."""
    cpus_per_process: PositiveInt = 8
    """CPU cores for each process of a job with `gpu: cpu`."""
    memory_per_gpu: Size = 64 * 2**30
    """Memory for each GPU (or process), including /dev/shm."""
    shared_memory_per_gpu: Size = 8 * 2**30
    """/dev/shm for each GPU (or process), which NCCL and the ranks of a node use."""
    ephemeral_storage: Size = 20 * 2**30
    """Local disk of each pod, for compiled code, temporary files, and models if there is no cache volume."""
    service_account: DnsName | None = None
    """Of the pods. Its token is not mounted."""
    pull_secrets: tuple[DnsName, ...] = ()
    """Secrets for the registry of the image."""
    node_selector: Labels = Field(default_factory=dict)
    tolerations: tuple[Annotated[yaml_values.Mapping, AfterValidator(pod_keys.toleration)], ...] = ()
    """In the notation of Kubernetes."""
    affinity: Annotated[yaml_values.Mapping, AfterValidator(pod_keys.affinity)] | None = None
    """In the notation of Kubernetes."""
    labels: Annotated[Labels, AfterValidator(_foreign)] = Field(default_factory=dict)
    """Labels of the Job or JobSet, such as those that costs are counted by."""
    annotations: Annotated[Annotations, AfterValidator(_foreign)] = Field(default_factory=dict)
    """Annotations of the Job or JobSet."""
    pod_labels: Annotated[Labels, AfterValidator(_foreign)] = Field(default_factory=dict)
    """Labels of the pods."""
    pod_annotations: Annotated[Annotations, AfterValidator(_foreign)] = Field(default_factory=dict)
    """Annotations of the pods, such as karpenter.sh/do-not-disrupt or k8s.v1.cni.cncf.io/networks."""
    topology: Topology | None = None
    """How near to each other Kueue places the pods of several nodes."""
    rdma: Rdma | None = None
    """Network cards for each pod of a job with several nodes."""
    pod_security: Literal["restricted", "rdma"] = "restricted"
    """The restricted pod security standard; `rdma` adds the IPC_LOCK capability, which RDMA needs to pin memory."""
    user: Annotated[PositiveInt, Field(le=2**31 - 1)] = 10001
    """User of the pods, and group of the volumes."""
    termination_grace: Annotated[Duration, AfterValidator(_grace)] = "00:10:00"
    """From a stop request to the end: long enough for one step and a checkpoint. It is a part of limits.time."""
    keep_finished: Duration = "168:00:00"
    """How long a finished Job is kept."""
    pod_overlay: Annotated[yaml_values.Mapping, AfterValidator(pod_keys.overlay)] = Field(default_factory=dict)
    """Merged into the pod's spec last, for settings without a key here: mappings by key, lists by the keys that
    Kubernetes merges them by (mounts by mountPath, variables by name), other lists as a whole; null removes a key."""
    secrets: Annotated[ClusterSecrets, AfterValidator(_secrets)] = Field(default_factory=dict)
    """Variables from Secrets, such as HF_TOKEN: {secret: huggingface, key: token}."""

    @model_validator(mode="after")
    def _consistent(self) -> "KubernetesCluster":
        if both := sorted(self.secrets.keys() & self.environment.keys()):
            raise ValueError(f"{both[0]} either under environment or under secrets")
        if self.topology and not self.queue:
            raise ValueError("topology only with a queue: Kueue reads it")
        return self
