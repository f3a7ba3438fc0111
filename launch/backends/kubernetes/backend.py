"""The backend of a Kubernetes cluster."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from hatrain.contract.cluster import KubernetesCluster, Volume
from hatrain.contract.plan import Plan, ResourceRequest
from hatrain.contract.run import RunDirectory, runs_root
from hatrain.contract.spec import JobSpec, seconds
from launch.backends import gpus
from launch.backends.kubernetes import render
from launch.backends.protocol import Backend, Client, Reason

LABEL_LENGTH = 63
"""Longest DNS label and label value: the names of pods, hosts and Jobs are both."""


class KubernetesBackend(Backend[KubernetesCluster]):
    shares_files = False

    def refusals(self, job: JobSpec, run: str) -> Iterator[Reason]:
        cluster, nodes, time = self.cluster, job.hardware.nodes, job.limits.time
        yield from gpus.refusals(job, cluster.gpus)
        yield from self._name_refusals(object_name(run), nodes)
        if cluster.shared_memory_per_gpu >= cluster.memory_per_gpu:
            yield (
                "cluster.shared_memory_per_gpu",
                "found no less than memory_per_gpu; /dev/shm is a part of the memory, so write less",
            )
        if seconds(time) <= seconds(cluster.termination_grace):
            yield (
                "limits.time",
                f"found {time}, of which the last {cluster.termination_grace} are reserved for a checkpoint "
                "(termination_grace of the cluster); write more",
            )
        if cluster.runs.read_only:
            yield "cluster.runs.read_only", "found true; runs must be writable, so leave it out"
        elif cluster.runs.access == "ReadOnlyMany":
            yield (
                "cluster.runs.access",
                "found ReadOnlyMany; runs must be writable: accepted: ReadWriteOnce, ReadWriteMany",
            )
        elif nodes > 1:
            yield from self._volume_refusals(nodes)

    def _name_refusals(self, name: str, nodes: int) -> Iterator[Reason]:
        """Pods append `-INDEX-xxxxx` to the name, and those of a JobSet `-node-0` before that."""
        jobset = self.cluster.controller == "jobset"
        longest = LABEL_LENGTH - len(f"-{nodes - 1}-xxxxx") - (len("-node-0") if jobset else 0)
        if len(name) > longest:
            pods = "a JobSet's pods" if jobset else "a Job's pods"
            yield (
                "name",
                f"becomes {name!r}, {len(name)} characters; with the suffixes of {pods} at most {longest} fit; "
                "write a shorter one",
            )
        service = "a JobSet" if jobset else "the Service of several nodes" if nodes > 1 else None
        if service and not name[:1].isalpha():
            yield "name", f"becomes {name!r}; {service} needs a name that begins with a letter"

    def _volume_refusals(self, nodes: int) -> Iterator[Reason]:
        """Several pods mount a volume at once."""
        for key, volume in self._volumes():
            if volume.claim is None or volume.access == "ReadWriteMany":
                continue
            if volume.access == "ReadOnlyMany" and (key == "data" or volume.read_only):
                continue
            yield (
                f"cluster.{key}.access",
                f"found {volume.access}, and the job has {nodes} nodes, which mount {volume.claim} at once; "
                "accepted: a claim that is ReadWriteMany, or one node",
            )

    def _volumes(self) -> Iterator[tuple[str, Volume]]:
        cluster = self.cluster
        for key, volume in (("data", cluster.data), ("runs", cluster.runs), ("cache", cluster.cache)):
            if volume:
                yield key, volume

    @property
    def has_image(self) -> bool:
        return True

    def notes(self, job: JobSpec) -> Iterator[str]:
        image = self.cluster.image
        if "@" not in image:
            yield f"{image} has no digest: a later attempt may run another image; pin it with NAME@sha256:…"
        if host_paths := [key for key, volume in self._volumes() if volume.host_path]:
            yield (
                f"{', '.join(host_paths)}: a namespace that enforces the restricted pod security standard refuses "
                "a host_path; use a claim there"
            )
        starts_all_or_none = self.cluster.queue or self.cluster.pod_overlay.get("schedulerName")
        if job.hardware.nodes > 1 and self.cluster.controller == "job" and not starts_all_or_none:
            yield (
                f"hardware.nodes: {job.hardware.nodes} pods start one by one as there is room, and the first wait for "
                "the last; a queue of Kueue, or a scheduler for gangs (pod_overlay.schedulerName), starts all or none"
            )

    def resources(self, job: JobSpec, run: str) -> ResourceRequest:
        cluster, per_node = self.cluster, job.hardware.gpus_per_node
        return gpus.request(
            job,
            object_name(run),
            cluster.gpus,
            cluster.cpus_per_gpu,
            cluster.cpus_per_process,
            memory=cluster.memory_per_gpu * per_node,
            shared_memory=cluster.shared_memory_per_gpu * per_node,
            ephemeral_storage=cluster.ephemeral_storage,
        )

    def python(self) -> str:
        return self.cluster.python

    def roots(self, workdir: Path, runs_root: Path) -> tuple[Path, Path]:
        """A pod has folders of its own."""
        return Path(self.cluster.workdir), Path(self.cluster.workdir) / "runs"

    def run_directory(self, plan: Plan) -> RunDirectory:
        """The run's own directory is on a volume of the cluster. This one holds what was submitted."""
        inside = Path(plan.paths.run).relative_to(Path(plan.paths.workdir) / "runs")
        return RunDirectory(runs_root() / inside)

    def files(self, plan: Plan) -> dict[str, str]:
        return render.files(plan, self.cluster)

    def single_file(self, plan: Plan) -> str:
        return render.single_file(plan, self.cluster)

    def start_command(self, folder: str) -> str:
        return f"kubectl apply --server-side -f {shlex.quote(f'{folder}/{render.MANIFESTS}')}"

    def client(self) -> Client:
        from launch.backends.kubernetes.client import KubernetesClient

        return KubernetesClient(self.cluster)


def object_name(name: str) -> str:
    """A run's name in the form that Kubernetes accepts: lower-case letters, digits and dashes."""
    return re.sub(r"[^a-z0-9-]+", "-", name.lower()).strip("-")
