"""Plan → {path: text} for Kubernetes: one stream of documents that `kubectl apply -f -` takes. Pure: it spells a plan,
and neither decides nor asks anything."""

import hashlib
import shlex
from collections.abc import Iterable, Mapping
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
"""The annotation that holds a run's own name: two names may come to one object's."""
CONFIG_BYTES = 2**20
"""What a ConfigMap holds at most."""
AT_THE_TOP = ("plan.json", "job.yaml")
"""Files of a run directory that do not lie in launch/."""
HERE = Path(__file__).parent


def files(plan: Plan) -> dict[str, str]:
    """Return the files of a run directory that start it, by their path in it. plan.json is not among them.

    Raises BadInput when they are more than a ConfigMap holds.
    """
    shared = _shared(plan)
    return {**shared, MANIFESTS: _stream(plan, shared)}


def stream(plan: Plan) -> str:
    """Return the run's documents: its files, for several nodes the name that they meet under, and what keeps its pods.

    Raises BadInput when the files are more than a ConfigMap holds.
    """
    return _stream(plan, _shared(plan))


def _stream(plan: Plan, shared: Mapping[str, str]) -> str:
    place, asked = _of(plan)
    gang = place.controller == "jobset"
    files, *service = _parts(plan, shared)
    spec = pod.spec(
        plan,
        place,
        asked,
        files=_volume(files),
        subdomain=asked.name if service else None,
        leader=_leader(asked.name, gang=gang),
        uid_label=controllers.JOBSET_UID if gang else controllers.CONTROLLER_UID,
    )
    keeper = controllers.jobset if gang else controllers.job
    template = {"metadata": {"labels": labels(plan), "annotations": _annotations(plan)}, "spec": spec}
    documents = [
        document(_WHY_FILES, files),
        *(document(_WHY_SERVICE, one) for one in service),
        document(_why(place), keeper(plan, place, _metadata(plan, asked.name), template)),
    ]
    return "".join(documents)


def parts(plan: Plan) -> list[Json]:
    """Return the objects that a run has beside its Job: its files, and for several nodes the name that they meet under.

    A JobSet makes that by itself, and says so to its pods. Raises BadInput as `stream` does.
    """
    return _parts(plan, _shared(plan))


def _parts(plan: Plan, shared: Mapping[str, str]) -> list[Json]:
    place, asked = _of(plan)
    made = [_config_map(plan, asked.name, {"plan.json": run_files.plan_json(plan), **shared})]
    return [*made, _service(plan)] if plan.nodes > 1 and place.controller == "job" else made


def streams(plans: Iterable[Plan]) -> str:
    """Return the runs of a sweep as one stream, each with a Job of its own."""
    return "".join(stream(plan) for plan in plans)


def how(folder: str) -> str:
    """Return the command that starts what was written to a folder."""
    return f"kubectl apply -f {shlex.quote(f'{folder}/{MANIFESTS}')}"


_WHY_FILES = """\
hatrain render wrote this, and kubectl apply -f - starts it. The files of the run as resolved, which its pods see at
/etc/hatrain. Other contents come under another name, so that nothing changes under a pod that reads them."""
_WHY_SERVICE = """\
The name under which the nodes find node 0; published before the pods are ready, for each waits for the others."""
_WHY_JOB = """\
A pod is one attempt. Exit code 78 can never succeed, and 130 is a user's stop: both end the run. 75 has saved a
checkpoint, and a pod that its node lost is nobody's fault: both are made again and not counted. Anything else is a
fault, and made again too; attempts that come to nothing are counted inside, against limits.retries. A pod's deadline
is limits.time of the job less the grace, in which a checkpoint is saved; the run as a whole has none."""
_WHY_JOBSET = """\
A fault of one pod fails the Job inside, and the JobSet makes the pods of all nodes anew, together."""
_WHY_QUEUE = "Suspended until Kueue lets it in."


def _why(place: KubernetesCluster) -> str:
    parts = [_WHY_JOB]
    if place.controller == "jobset":
        parts.append(_WHY_JOBSET)
    if place.queue:
        parts.append(_WHY_QUEUE)
    return "\n".join(parts)


def _of(plan: Plan) -> tuple[KubernetesCluster, ResourceRequest]:
    assert isinstance(plan.cluster_spec, KubernetesCluster) and plan.resources is not None
    return plan.cluster_spec, plan.resources


def labels(plan: Plan) -> dict[str, str]:
    """Return what every object of a run is found by."""
    return {"app.kubernetes.io/name": "hatrain", "app.kubernetes.io/instance": _of(plan)[1].name}


def _annotations(plan: Plan) -> dict[str, str]:
    return {
        RUN: RunDirectory(Path(plan.paths.run)).name,
        "hatrain/cluster": plan.cluster,
        "hatrain/identity": plan.identity[:16],
    }


def _metadata(plan: Plan, name: str) -> Json:
    return {
        "name": name,
        "namespace": _of(plan)[0].namespace,
        "labels": labels(plan),
        "annotations": _annotations(plan),
    }


def _service(plan: Plan) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(plan, _of(plan)[1].name),
        "spec": {"clusterIP": "None", "publishNotReadyAddresses": True, "selector": labels(plan)},
    }


def _leader(name: str, *, gang: bool) -> str:
    return f"{name}-{controllers.REPLICATED_JOB}-0-0.{name}" if gang else f"{name}-0.{name}"


# --- the files ----------------------------------------------------------------------------------------------


def _shared(plan: Plan) -> dict[str, str]:
    return {**run_files.shared(plan), "launch/stop.sh": (HERE / "stop.sh").read_text(encoding="utf-8")}


def _config_map(plan: Plan, name: str, held: Mapping[str, str]) -> Json:
    size = sum(len(path.encode()) + len(text.encode()) for path, text in held.items())
    if size > CONFIG_BYTES:
        raise BadInput(
            f"{plan.job.name}: its files come to {size:,} bytes, and a ConfigMap holds {CONFIG_BYTES:,}; "
            f"shorten the environment, affinity or pod_overlay of the cluster {plan.cluster}"
        )
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": _metadata(plan, f"{name}-{_digest(held)}"),
        "immutable": True,
        "data": {path.rpartition("/")[2]: text for path, text in held.items()},
    }


def _digest(held: Mapping[str, str]) -> str:
    text = "\0".join(f"{path}\0{text}" for path, text in held.items())
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def _volume(files: Json) -> Json:
    """Return the volume of a ConfigMap, whose keys hold no slash: each file at its path in a run directory."""
    items = [{"key": key, "path": key if key in AT_THE_TOP else f"launch/{key}"} for key in files["data"]]
    return {"name": "files", "configMap": {"name": files["metadata"]["name"], "items": items}}
