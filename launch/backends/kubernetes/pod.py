"""The pod of one node: its container, resources, volumes and security context."""

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from hatrain.contract.cluster import KubernetesCluster, Volume
from hatrain.contract.plan import Plan, ResourceRequest
from hatrain.contract.spec import seconds
from launch.backends.kubernetes.overlay import merged
from launch.backends.kubernetes.yaml_output import quantity

Json = dict[str, Any]

CONTAINER = "hatrain"
FILES = "/etc/hatrain"
"""Mount path of the run's files."""
CACHE = "/cache"
PORT = 29500
"""Of the rendezvous. Any port will do: each pod has its own address."""
STOP = '{"reason": "Kubernetes ends the pod", "requeue": true}'


def spec(
    plan: Plan,
    cluster: KubernetesCluster,
    request: ResourceRequest,
    *,
    files: Json,
    subdomain: str | None,
    first_node: str,
    uid_label: str,
) -> Json:
    """The spec of a pod.

    `files` is the volume of the run's files, `subdomain` the Service that gives the pod a host name (None where a
    JobSet does), `first_node` the address of node 0, and `uid_label` the pod label that identifies a submission.
    """
    mounts, volumes = _volumes(cluster, request)
    pod: Json = {
        "restartPolicy": "Never",
        # For one pod, which is one attempt: after this time it is asked to stop, and a new pod continues the run.
        "activeDeadlineSeconds": request.time - seconds(cluster.termination_grace),
        "terminationGracePeriodSeconds": seconds(cluster.termination_grace),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        **({"subdomain": subdomain} if subdomain else {}),
        **_scheduling(cluster, request),
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": cluster.user,
            "runAsGroup": cluster.user,
            "fsGroup": cluster.user,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [
            {
                "name": CONTAINER,
                "image": cluster.image,
                "imagePullPolicy": cluster.image_pull_policy,
                "command": ["bash", f"{FILES}/launch/node.sh", f"{FILES}/plan.json"],
                "workingDir": plan.paths.workdir,
                "env": [*_environment(plan, cluster, first_node, uid_label)],
                "resources": _resources(plan, cluster, request),
                "lifecycle": {
                    "preStop": {"exec": {"command": ["bash", f"{FILES}/launch/stop.sh", plan.paths.run, STOP]}}
                },
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": _capabilities(cluster),
                },
                "volumeMounts": [{"name": files["name"], "mountPath": FILES, "readOnly": True}, *mounts],
            }
        ],
        "volumes": [files, *volumes],
    }
    overlaid: Json = merged(pod, cluster.pod_overlay)
    return overlaid


def _scheduling(cluster: KubernetesCluster, request: ResourceRequest) -> Json:
    label = {cluster.gpu_label: request.gpu_type} if request.gpu_type else {}
    parts = {
        "serviceAccountName": cluster.service_account,
        "imagePullSecrets": [{"name": name} for name in cluster.pull_secrets],
        # With a queue, the priority is a label of the Job that Kueue reads.
        "priorityClassName": None if cluster.queue else cluster.priority,
        "nodeSelector": {**cluster.node_selector, **label},
        "tolerations": list(cluster.tolerations),
        "affinity": cluster.affinity,
    }
    return {key: value for key, value in parts.items() if value}


def _environment(plan: Plan, cluster: KubernetesCluster, first_node: str, uid_label: str) -> Iterator[Json]:
    plain = {
        # Only volumes are writable, and the user is not in /etc/passwd.
        "HOME": "/tmp",
        "USER": "hatrain",
        "HF_HOME": f"{CACHE}/huggingface",
        # hatrain.entry ends its ranks before Kubernetes ends hatrain.entry, so that it can report how they exited.
        "HATRAIN_STOP_GRACE": str(seconds(cluster.termination_grace) * 9 // 10),
    }
    if plan.nodes > 1:
        plain |= {"MASTER_ADDR": first_node, "MASTER_PORT": str(PORT)}
    for name, value in plain.items():
        yield {"name": name, "value": value}
    yield {
        "name": "HATRAIN_SUBMISSION",
        "valueFrom": {"fieldRef": {"fieldPath": f"metadata.labels['{uid_label}']"}},
    }
    for name, secret in cluster.secrets.items():
        yield {"name": name, "valueFrom": {"secretKeyRef": {"name": secret.secret, "key": secret.key}}}


def _resources(plan: Plan, cluster: KubernetesCluster, request: ResourceRequest) -> Json:
    """Requests equal limits: a node under pressure evicts such pods last."""
    amounts: Json = {"cpu": request.cpus}
    if request.memory:
        amounts["memory"] = quantity(request.memory)
    if request.ephemeral_storage:
        amounts["ephemeral-storage"] = quantity(request.ephemeral_storage)
    if request.gpus:
        amounts[cluster.gpu_resource] = request.gpus
    if cluster.rdma and plan.nodes > 1:
        amounts[cluster.rdma.resource] = cluster.rdma.count
    return {"requests": amounts, "limits": amounts}


def _capabilities(cluster: KubernetesCluster) -> Json:
    added = {"add": ["IPC_LOCK"]} if cluster.pod_security == "rdma" else {}
    return {"drop": ["ALL"], **added}


# --- volumes ------------------------------------------------------------------------------------------------


def _volumes(cluster: KubernetesCluster, request: ResourceRequest) -> tuple[list[Json], list[Json]]:
    """(mounts, volumes). /dev/shm is memory and counts against the memory limit."""
    shm: Json = {"medium": "Memory"}
    tmp: Json = {}
    if request.shared_memory:
        shm["sizeLimit"] = quantity(request.shared_memory)
    if request.ephemeral_storage:
        tmp["sizeLimit"] = quantity(request.ephemeral_storage)
    mounts: list[Json] = [{"name": "shm", "mountPath": "/dev/shm"}, {"name": "tmp", "mountPath": "/tmp"}]
    volumes: list[Json] = [{"name": "shm", "emptyDir": shm}, {"name": "tmp", "emptyDir": tmp}]
    if cluster.cache is None:
        mounts.append({"name": "cache", "mountPath": CACHE})
        volumes.append({"name": "cache", "emptyDir": tmp})
    # A claim that is mounted twice is one volume: some drivers wait forever for a second one.
    names: dict[str, str] = {}
    for name, path, volume, folder, read_only in _mounted(cluster):
        source, inside = _source_of(volume, folder)
        if (key := str(source)) not in names:
            names[key] = name
            volumes.append({"name": name, **source})
        mount: Json = {"name": names[key], "mountPath": path}
        if inside:
            mount["subPath"] = inside
        if read_only:
            mount["readOnly"] = True
        mounts.append(mount)
    return mounts, volumes


def _mounted(cluster: KubernetesCluster) -> Iterator[tuple[str, str, Volume, str, bool]]:
    """Yields (volume name, path in the pod, volume, folder in the volume, read-only)."""
    if cluster.data:
        yield "data", f"{cluster.workdir}/data", cluster.data, "", True
    for folder in ("runs", "models"):
        yield folder, f"{cluster.workdir}/{folder}", cluster.runs, folder, False
    if cluster.cache:
        yield "cache", CACHE, cluster.cache, "", cluster.cache.read_only


def _source_of(volume: Volume, folder: str) -> tuple[Json, str]:
    """(source of a volume, path inside it that is mounted)."""
    if volume.host_path:
        path = str(PurePosixPath(volume.host_path, folder))
        return {"hostPath": {"path": path, "type": "Directory"}}, ""
    claim: Json = {"claimName": volume.claim}
    if volume.access == "ReadOnlyMany":
        claim["readOnly"] = True
    return {"persistentVolumeClaim": claim}, "/".join(filter(None, (volume.sub_path, folder)))
