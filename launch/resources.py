"""What a scheduler is asked for on behalf of a job, and what of it a place cannot give. Pure."""

import re
from collections.abc import Iterator

from hatrain.contract.cluster import ClusterSpec, KubernetesCluster, LocalCluster, SlurmCluster, Volume
from hatrain.contract.gpus import CPU
from hatrain.contract.plan import ResourceRequest
from hatrain.contract.spec import JobSpec, seconds

Reason = tuple[str, str]

LABEL_LENGTH = 63
"""Longest label of DNS, and longest value of a label: names of pods, hosts and Jobs are both."""

LONGEST_LEAD = 65535
"""Seconds before the end of a job that sbatch's --signal takes at most."""


def request(job: JobSpec, place: ClusterSpec, run: str) -> ResourceRequest | None:
    """Return what the scheduler is asked for, for each node; None where there is none. `run` is the run's name."""
    if isinstance(place, LocalCluster):
        return None
    each = job.hardware.gpus_per_node
    on_cpu = job.hardware.gpu == CPU
    pods = isinstance(place, KubernetesCluster)
    return ResourceRequest(
        name=object_name(run) if pods else job.name,
        time=seconds(job.limits.time),
        gpus=0 if on_cpu else each,
        gpu_type=None if on_cpu else place.gpus.get(job.hardware.gpu),
        cpus=place.cpus_per_gpu * each,
        memory=place.memory_per_gpu * each if isinstance(place, KubernetesCluster) else place.memory,
        shared_memory=place.shared_memory_per_gpu * each if isinstance(place, KubernetesCluster) else None,
        ephemeral_storage=place.ephemeral_storage if isinstance(place, KubernetesCluster) else None,
    )


def object_name(name: str) -> str:
    """Return a run's name as Kubernetes takes it: lower-case letters, digits and dashes."""
    return re.sub(r"[^a-z0-9-]+", "-", name.lower()).strip("-")


def refusals(job: JobSpec, place: ClusterSpec, run: str) -> Iterator[Reason]:
    """Yield (key, reason) of what the place cannot give. Keys of the cluster file begin with `cluster.`."""
    if isinstance(place, LocalCluster):
        if job.hardware.nodes > 1:
            yield "hardware.nodes", f"found {job.hardware.nodes}; a local cluster is one machine: write 1"
        return
    yield from _gpu(job, place)
    if isinstance(place, SlurmCluster):
        yield from _slurm(job, place)
    else:
        yield from _kubernetes(job, place, run)


def _gpu(job: JobSpec, place: SlurmCluster | KubernetesCluster) -> Iterator[Reason]:
    name = job.hardware.gpu
    if place.gpus and name != CPU and name not in place.gpus:
        yield (
            "hardware.gpu",
            f"found {name}, which this cluster does not have; accepted: {', '.join(place.gpus)}",
        )


def _slurm(job: JobSpec, place: SlurmCluster) -> Iterator[Reason]:
    if place.time_limit and seconds(job.limits.time) > seconds(place.time_limit):
        yield "limits.time", f"found {job.limits.time}; the partition grants at most {place.time_limit}"
    if seconds(job.limits.time) <= seconds(place.signal_lead):
        yield (
            "limits.time",
            f"found {job.limits.time}, of which the last {place.signal_lead} are kept for a checkpoint "
            "(signal_lead of the cluster); write more",
        )
    if seconds(place.signal_lead) > LONGEST_LEAD:
        yield "cluster.signal_lead", f"found {place.signal_lead}; Slurm takes up to 18:12:15"


def _kubernetes(job: JobSpec, place: KubernetesCluster, run: str) -> Iterator[Reason]:
    yield from _object_name(object_name(run), job.hardware.nodes, place)
    if place.shared_memory_per_gpu >= place.memory_per_gpu:
        yield (
            "cluster.shared_memory_per_gpu",
            "found as much as memory_per_gpu or more; /dev/shm counts against it, so write less",
        )
    if seconds(job.limits.time) <= seconds(place.termination_grace):
        yield (
            "limits.time",
            f"found {job.limits.time}, of which the last {place.termination_grace} are kept for a checkpoint "
            "(termination_grace of the cluster); write more",
        )
    if place.runs.read_only:
        yield "cluster.runs.read_only", "found true; a run is written, so leave it out"
    elif place.runs.access == "ReadOnlyMany":
        yield (
            "cluster.runs.access",
            "found ReadOnlyMany; a run is written: accepted: ReadWriteOnce, ReadWriteMany",
        )
    elif job.hardware.nodes > 1:
        yield from _several_pods(job.hardware.nodes, place)


def _object_name(name: str, nodes: int, place: KubernetesCluster) -> Iterator[Reason]:
    """What makes a name too long or wrong for the objects of a run; Kueue's own are longer, and hold any of these."""
    longest = longest_object_name(place, nodes)
    if len(name) > longest:
        what = "a JobSet's pods" if place.controller == "jobset" else "a Job's pods"
        yield (
            "name",
            f"comes to {name!r}, {len(name)} characters; the names of {what} leave room for {longest}; "
            "write a shorter one",
        )
    service = (
        "a JobSet" if place.controller == "jobset" else "the Service of several nodes" if nodes > 1 else None
    )
    if service and not name[:1].isalpha():
        yield "name", f"comes to {name!r}; {service} needs a name that begins with a letter"


def longest_object_name(place: KubernetesCluster, nodes: int) -> int:
    """Return how long the name of a run's objects may be: its pods add `-INDEX-xxxxx`, a JobSet's `-node-0` before."""
    index = f"-{nodes - 1}-xxxxx"
    return LABEL_LENGTH - len(index) - (len("-node-0") if place.controller == "jobset" else 0)


def _several_pods(nodes: int, place: KubernetesCluster) -> Iterator[Reason]:
    for key, volume in (("runs", place.runs), ("cache", place.cache), ("data", place.data)):
        if volume is None or volume.claim is None:
            continue
        if volume.access == "ReadWriteMany" or (_only_read(key, volume) and volume.access == "ReadOnlyMany"):
            continue
        yield (
            f"cluster.{key}.access",
            f"found {volume.access}, and the job has {nodes} nodes, which mount {volume.claim} at once; "
            "accepted: a claim that is ReadWriteMany, or one node",
        )


def _only_read(key: str, volume: Volume) -> bool:
    return key == "data" or volume.read_only


def notes(place: ClusterSpec) -> Iterator[str]:
    """Yield what a person should know of a place and is no reason to stop, a line each."""
    if not isinstance(place, KubernetesCluster):
        return
    if "@" not in place.image:
        yield f"{place.image} is no digest: a later attempt may run another image; NAME@sha256:… pins it"
    kept = (("data", place.data), ("runs", place.runs), ("cache", place.cache))
    if on_nodes := [key for key, volume in kept if volume and volume.host_path]:
        yield (
            f"{', '.join(on_nodes)}: a host_path, which a namespace that enforces the restricted pod security standard "
            "refuses; a claim passes"
        )
