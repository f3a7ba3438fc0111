"""Plan → {path: text} for Kubernetes: one stream of documents that `kubectl apply -f -` takes. Pure: it spells a plan,
and neither decides nor asks anything."""

import hashlib
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hatrain.errors import BadInput
from hatrain.place import KubernetesPlace
from hatrain.plan import Plan, Request
from hatrain.run import RunDirectory
from launch import contents
from launch.kubernetes import controllers, pod
from launch.kubernetes.spelling import document

Json = dict[str, Any]

MANIFESTS = "launch/manifests.yaml"
RUN = "hatrain/run"
"""The annotation that holds a run's own name: two names may come to one object's."""
CONFIG_BYTES = 2**20
"""What a ConfigMap holds at most."""
HERE = Path(__file__).parent


def files(plan: Plan) -> dict[str, str]:
    """Return the files of a run directory that start it, by their path in it. plan.json is not among them.

    Raises BadInput when they are more than a ConfigMap holds.
    """
    return {**_shared(plan), MANIFESTS: stream(plan)}


def stream(plan: Plan) -> str:
    """Return the run's documents: its files, for several nodes the name that they meet under, and what keeps its pods.

    Raises BadInput when the files are more than a ConfigMap holds.
    """
    place, asked = _of(plan)
    gang = place.controller == "jobset"
    held = _held(plan)
    config = f"{asked.name}-{_digest(held)}"
    # A JobSet makes the Service by itself, and says so to its pods.
    served = plan.nodes > 1 and not gang
    parts = [document(_WHY_FILES, _config_map(plan, config, held))]
    if served:
        parts.append(document(_WHY_SERVICE, _service(plan)))
    spec = pod.spec(
        plan,
        place,
        asked,
        files=_volume(config, held),
        subdomain=asked.name if served else None,
        leader=_leader(asked.name, gang=gang),
        uid_label=controllers.JOBSET_UID if gang else controllers.CONTROLLER_UID,
    )
    keeper = controllers.jobset if gang else controllers.job
    template = {"metadata": {"labels": labels(plan), "annotations": _annotations(plan)}, "spec": spec}
    parts.append(document(_why(place), keeper(plan, place, _metadata(plan, asked.name), template)))
    return "".join(parts)


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


def _why(place: KubernetesPlace) -> str:
    parts = [_WHY_JOB]
    if place.controller == "jobset":
        parts.append(_WHY_JOBSET)
    if place.queue:
        parts.append(_WHY_QUEUE)
    return "\n".join(parts)


def _of(plan: Plan) -> tuple[KubernetesPlace, Request]:
    assert isinstance(plan.place, KubernetesPlace) and plan.request is not None
    return plan.place, plan.request


def labels(plan: Plan) -> dict[str, str]:
    """Return what every object of a run is found by."""
    return {"app.kubernetes.io/name": "hatrain", "app.kubernetes.io/instance": _of(plan)[1].name}


def _annotations(plan: Plan) -> dict[str, str]:
    return {
        RUN: RunDirectory(Path(plan.paths.run)).name,
        "hatrain/cluster": plan.cluster,
        "hatrain/identity": plan.identity,
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
    return {**contents.shared(plan), "launch/stop.sh": (HERE / "stop.sh").read_text(encoding="utf-8")}


def _held(plan: Plan) -> dict[str, str]:
    held = {"plan.json": contents.plan_json(plan), **_shared(plan)}
    size = sum(len(path.encode()) + len(text.encode()) for path, text in held.items())
    if size > CONFIG_BYTES:
        raise BadInput(
            f"{plan.job.name}: its files come to {size:,} bytes, and a ConfigMap holds {CONFIG_BYTES:,}; "
            f"shorten the environment, affinity or pod_overlay of the cluster {plan.cluster}"
        )
    return held


def _digest(held: Mapping[str, str]) -> str:
    text = "\0".join(f"{path}\0{text}" for path, text in held.items())
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def _config_map(plan: Plan, name: str, held: Mapping[str, str]) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": _metadata(plan, name),
        "immutable": True,
        "data": {_key(path): text for path, text in held.items()},
    }


def _volume(name: str, held: Mapping[str, str]) -> Json:
    items = [{"key": _key(path), "path": path} for path in held]
    return {"name": "files", "configMap": {"name": name, "items": items}}


def _key(path: str) -> str:
    """Return a file's key, which holds no slash; names are not given twice."""
    return path.rpartition("/")[2]
