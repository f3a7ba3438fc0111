"""Renders a plan for Kubernetes, as one stream of documents for `kubectl apply -f -`."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hatrain.contract.cluster import KubernetesCluster
from hatrain.contract.plan import Plan, ResourceRequest
from hatrain.contract.run import RunDirectory
from hatrain.errors import BadInput
from launch import run_files
from launch.backends.kubernetes import controllers, pod
from launch.backends.kubernetes.yaml_output import document

Json = dict[str, Any]

MANIFESTS = "launch/manifests.yaml"
RUN = "hatrain/run"
"""Annotation with the run's own name: the names of two runs may become the same object name."""
CONFIG_MAP_BYTES = 2**20
"""Maximum size of a ConfigMap."""
TOP_LEVEL = ("plan.json", "job.yaml")
"""Files of a run directory that are not in launch/."""
HERE = Path(__file__).parent


def files(plan: Plan, cluster: KubernetesCluster) -> dict[str, str]:
    """Raises BadInput if the files do not fit into a ConfigMap."""
    return {**_shared(plan), MANIFESTS: single_file(plan, cluster)}


def single_file(plan: Plan, cluster: KubernetesCluster) -> str:
    """The run's documents: a ConfigMap with its files, for several nodes a Service, and the Job or JobSet.

    Raises BadInput if the files do not fit into a ConfigMap.
    """
    request = request_of(plan)
    jobset = cluster.controller == "jobset"
    config_map, *service = parts(plan, cluster)
    spec = pod.spec(
        plan,
        cluster,
        request,
        files=_files_volume(config_map),
        subdomain=request.name if service else None,
        first_node=_first_node(request.name, jobset=jobset),
        uid_label=controllers.JOBSET_UID if jobset else controllers.CONTROLLER_UID,
    )
    controller = controllers.jobset if jobset else controllers.job
    template = {
        "metadata": {
            "labels": {**cluster.pod_labels, **labels(plan)},
            "annotations": {**cluster.pod_annotations, **_topology(cluster), **_annotations(plan)},
        },
        "spec": spec,
    }
    about = _metadata(plan, cluster, request.name)
    about["labels"] = {**cluster.labels, **about["labels"]}
    about["annotations"] = {**cluster.annotations, **about["annotations"]}
    documents = [
        document(_ABOUT_FILES, config_map),
        *(document(_ABOUT_SERVICE, each) for each in service),
        document(
            _about_controller(cluster),
            controller(plan, cluster, about, template),
        ),
    ]
    return "".join(documents)


def parts(plan: Plan, cluster: KubernetesCluster) -> list[Json]:
    """The objects of a run besides its Job: the ConfigMap, and for several nodes a Service (a JobSet makes its own).

    Raises BadInput if the files do not fit into a ConfigMap.
    """
    config_map = _config_map(plan, cluster, {"plan.json": run_files.plan_json(plan), **_shared(plan)})
    if plan.nodes > 1 and cluster.controller == "job":
        return [config_map, _service(plan, cluster)]
    return [config_map]


_ABOUT_FILES = """\
Written by hatrain; start it with kubectl apply -f -. These are the files of the run as resolved, which its pods mount
at /etc/hatrain. The name contains a hash of the contents, so that nothing changes under a running pod."""
_ABOUT_SERVICE = """\
The address of node 0. It is published before the pods are ready, because each waits for the others."""
_ABOUT_JOB = """\
A pod is one attempt. Exit codes 78 (can never succeed) and 130 (stopped by the user) end the run. After 75 (stopped
from outside, the checkpoint is safe) and after the loss of a node, the pod is recreated and not counted. Any other
code is a fault: the pod is recreated, and hatrain counts attempts without progress against limits.retries. The
deadline of a pod is limits.time of the job less the grace period, in which a checkpoint is saved; the run as a whole
has no deadline."""
_ABOUT_JOBSET = """\
A fault of one pod fails the Job inside, and the JobSet recreates the pods of all nodes together."""
_ABOUT_QUEUE = "Suspended until Kueue admits it."


def _about_controller(cluster: KubernetesCluster) -> str:
    lines = [_ABOUT_JOB]
    if cluster.controller == "jobset":
        lines.append(_ABOUT_JOBSET)
    if cluster.queue:
        lines.append(_ABOUT_QUEUE)
    return "\n".join(lines)


def request_of(plan: Plan) -> ResourceRequest:
    assert plan.resources is not None
    return plan.resources


def labels(plan: Plan) -> dict[str, str]:
    """Labels that every object of a run has."""
    return {"app.kubernetes.io/name": "hatrain", "app.kubernetes.io/instance": request_of(plan).name}


def _topology(cluster: KubernetesCluster) -> dict[str, str]:
    """What Kueue reads at the pod template."""
    levels = cluster.topology.model_dump(exclude_none=True) if cluster.topology else {}
    return {f"kueue.x-k8s.io/podset-{kind}-topology": level for kind, level in levels.items()}


def _annotations(plan: Plan) -> dict[str, str]:
    return {
        RUN: RunDirectory(Path(plan.paths.run)).name,
        "hatrain/cluster": plan.cluster,
        "hatrain/identity": plan.identity[:16],
    }


def _metadata(plan: Plan, cluster: KubernetesCluster, name: str) -> Json:
    return {
        "name": name,
        "namespace": cluster.namespace,
        "labels": labels(plan),
        "annotations": _annotations(plan),
    }


def _service(plan: Plan, cluster: KubernetesCluster) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(plan, cluster, request_of(plan).name),
        "spec": {"clusterIP": "None", "publishNotReadyAddresses": True, "selector": labels(plan)},
    }


def _first_node(name: str, *, jobset: bool) -> str:
    return f"{name}-{controllers.REPLICATED_JOB}-0-0.{name}" if jobset else f"{name}-0.{name}"


# --- the files ----------------------------------------------------------------------------------------------


def _shared(plan: Plan) -> dict[str, str]:
    return {**run_files.shared(plan), "launch/stop.sh": (HERE / "stop.sh").read_text(encoding="utf-8")}


def _config_map(plan: Plan, cluster: KubernetesCluster, contents: Mapping[str, str]) -> Json:
    size = sum(len(path.encode()) + len(text.encode()) for path, text in contents.items())
    if size > CONFIG_MAP_BYTES:
        raise BadInput(
            f"{plan.job.name}: its files have {size:,} bytes, and a ConfigMap holds at most {CONFIG_MAP_BYTES:,}; "
            f"shorten the environment, affinity or pod_overlay of the cluster {plan.cluster}"
        )
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": _metadata(plan, cluster, f"{request_of(plan).name}-{_digest(contents)}"),
        "immutable": True,
        "data": {path.rpartition("/")[2]: text for path, text in contents.items()},
    }


def _digest(contents: Mapping[str, str]) -> str:
    text = "\0".join(f"{path}\0{text}" for path, text in contents.items())
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def _files_volume(config_map: Json) -> Json:
    """The keys of a ConfigMap contain no slash: map each to its path in a run directory."""
    items = [{"key": key, "path": key if key in TOP_LEVEL else f"launch/{key}"} for key in config_map["data"]]
    return {"name": "files", "configMap": {"name": config_map["metadata"]["name"], "items": items}}
