"""The pod of a node: what runs in it, what it may use, what it sees, and what it may not do. Pure."""

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from hatrain.contract.cluster import KubernetesCluster, Volume
from hatrain.contract.plan import Plan, ResourceRequest
from hatrain.contract.spec import seconds
from launch.backends.kubernetes.yaml_output import merged, quantity

Json = dict[str, Any]

CONTAINER = "hatrain"
FILES = "/etc/hatrain"
"""Where the files of a run are mounted."""
CACHE = "/cache"
PORT = 29500
"""Where the ranks meet: any will do, for a pod has an address of its own."""
STOP = '{"reason": "Kubernetes ends the pod", "requeue": true}'


def spec(
    plan: Plan,
    place: KubernetesCluster,
    asked: ResourceRequest,
    *,
    files: Json,
    subdomain: str | None,
    leader: str,
    uid_label: str,
) -> Json:
    """Return the spec of a pod.

    `files` is the volume of the run's files; `subdomain` the Service that gives it a name, where it has none by itself;
    `leader` the address of node 0; `uid_label` the label of a pod that tells one submission from the next.
    """
    mounts, volumes = _volumes(place, asked)
    made: Json = {
        "restartPolicy": "Never",
        # Of one pod, which is one attempt: at the end of this time it is told to stop, and another one goes on.
        "activeDeadlineSeconds": asked.time - seconds(place.termination_grace),
        "terminationGracePeriodSeconds": seconds(place.termination_grace),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        **({"subdomain": subdomain} if subdomain else {}),
        **({"subdomain": subdomain} if subdomain else {}),
        **_scheduling(place, asked),
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": place.user,
            "runAsGroup": place.user,
            "fsGroup": place.user,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [
            {
                "name": CONTAINER,
                "image": place.image,
                "imagePullPolicy": place.image_pull_policy,
                "command": ["bash", f"{FILES}/launch/node.sh", f"{FILES}/plan.json"],
                "workingDir": plan.paths.workdir,
                "env": [*_environment(plan, place, leader, uid_label)],
                "resources": _resources(plan, place, asked),
                "lifecycle": {
                    "preStop": {
                        "exec": {"command": ["bash", f"{FILES}/launch/stop.sh", plan.paths.run, STOP]}
                    }
                },
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": _capabilities(place),
                },
                "volumeMounts": [{"name": files["name"], "mountPath": FILES, "readOnly": True}, *mounts],
            }
        ],
        "volumes": [files, *volumes],
    }
    overlaid: Json = merged(made, place.pod_overlay)
    return overlaid


def _scheduling(place: KubernetesCluster, asked: ResourceRequest) -> Json:
    label = {place.gpu_label: asked.gpu_type} if asked.gpu_type else {}
    parts = {
        "serviceAccountName": place.service_account,
        "imagePullSecrets": [{"name": name} for name in place.pull_secrets],
        # With a queue the priority is Kueue's, and a label of the Job.
        "priorityClassName": None if place.queue else place.priority,
        "nodeSelector": {**place.node_selector, **label},
        "tolerations": list(place.tolerations),
        "affinity": place.affinity,
    }
    return {key: value for key, value in parts.items() if value}


def _environment(plan: Plan, place: KubernetesCluster, leader: str, uid_label: str) -> Iterator[Json]:
    plain = {
        # Nothing but volumes can be written to, and the user is in nobody's list.
        "HOME": "/tmp",
        "USER": "hatrain",
        "HF_HOME": f"{CACHE}/huggingface",
        # Entry gives up on its ranks before Kubernetes gives up on entry, so that it can say how they left.
        "HATRAIN_STOP_GRACE": str(seconds(place.termination_grace) * 9 // 10),
    }
    if plan.nodes > 1:
        plain |= {"MASTER_ADDR": leader, "MASTER_PORT": str(PORT)}
    for name, value in plain.items():
        yield {"name": name, "value": value}
    yield {
        "name": "HATRAIN_SUBMISSION",
        "valueFrom": {"fieldRef": {"fieldPath": f"metadata.labels['{uid_label}']"}},
    }
    for name, secret in place.secrets.items():
        yield {"name": name, "valueFrom": {"secretKeyRef": {"name": secret.secret, "key": secret.key}}}


def _resources(plan: Plan, place: KubernetesCluster, asked: ResourceRequest) -> Json:
    """Return requests that are limits too: such a pod is the last that a node in need evicts."""
    amounts: Json = {"cpu": asked.cpus}
    if asked.memory:
        amounts["memory"] = quantity(asked.memory)
    if asked.ephemeral_storage:
        amounts["ephemeral-storage"] = quantity(asked.ephemeral_storage)
    if asked.gpus:
        amounts[place.gpu_resource] = asked.gpus
    if place.rdma and plan.nodes > 1:
        amounts[place.rdma.resource] = place.rdma.count
    return {"requests": amounts, "limits": amounts}


def _capabilities(place: KubernetesCluster) -> Json:
    added = {"add": ["IPC_LOCK"]} if place.pod_security == "rdma" else {}
    return {"drop": ["ALL"], **added}


# --- volumes ------------------------------------------------------------------------------------------------


def _volumes(place: KubernetesCluster, asked: ResourceRequest) -> tuple[list[Json], list[Json]]:
    """Return (mounts, volumes). /dev/shm is memory, and counts against the limit that it is part of."""
    shm: Json = {"medium": "Memory"}
    tmp: Json = {}
    if asked.shared_memory:
        shm["sizeLimit"] = quantity(asked.shared_memory)
    if asked.ephemeral_storage:
        tmp["sizeLimit"] = quantity(asked.ephemeral_storage)
    mounts: list[Json] = [{"name": "shm", "mountPath": "/dev/shm"}, {"name": "tmp", "mountPath": "/tmp"}]
    volumes: list[Json] = [{"name": "shm", "emptyDir": shm}, {"name": "tmp", "emptyDir": tmp}]
    if place.cache is None:
        mounts.append({"name": "cache", "mountPath": CACHE})
        volumes.append({"name": "cache", "emptyDir": tmp})
    # A claim that is used twice is one volume: some drivers wait for ever for its second.
    names: dict[str, str] = {}
    for name, path, volume, folder, read_only in _kept(place):
        source, inside = _source(volume, folder)
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


def _kept(place: KubernetesCluster) -> Iterator[tuple[str, str, Volume, str, bool]]:
    """Yield (volume's name, path in the pod, volume, folder in it, whether it is only read)."""
    if place.data:
        yield "data", f"{place.workdir}/data", place.data, "", True
    for folder in ("runs", "models"):
        yield folder, f"{place.workdir}/{folder}", place.runs, folder, False
    if place.cache:
        yield "cache", CACHE, place.cache, "", place.cache.read_only


def _source(volume: Volume, folder: str) -> tuple[Json, str]:
    """Return a volume's source, and the path inside it that is mounted."""
    if volume.host_path:
        path = str(PurePosixPath(volume.host_path, folder))
        return {"hostPath": {"path": path, "type": "Directory"}}, ""
    claim: Json = {"claimName": volume.claim}
    if volume.access == "ReadOnlyMany":
        claim["readOnly"] = True
    return {"persistentVolumeClaim": claim}, "/".join(filter(None, (volume.sub_path, folder)))
