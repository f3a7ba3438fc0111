"""Why the pods of a run do not run, or ended: in Kubernetes' own words, and what to change."""

import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from launch.backends.kubernetes.pod import CONTAINER

Json = dict[str, Any]

LOST_AFTER = timedelta(seconds=60)
"""A deletion names the moment at which the pod must be gone. One that is still there so much later is on a node that
does not answer."""
_REMEDIES = (
    (r"OOMKilled", "raise memory_per_gpu in the cluster file"),
    (r"Evicted.*ephemeral", "raise ephemeral_storage in the cluster file"),
    (r"Evicted.*memory", "raise memory_per_gpu in the cluster file"),
    (r"exceeded quota", "the quota of the namespace is used up: wait, cancel another run, or ask for more"),
    (r"persistentvolumeclaim|FailedMount|FailedAttachVolume", "check the claims of runs, data and cache"),
    (r"ErrImagePull|ImagePullBackOff|InvalidImageName|ErrImageNeverPull", "check image and pull_secrets"),
    (r"CreateContainerConfigError|secret .* not found", "check secrets: the Secret must be in this namespace"),
    (r"untolerated taint", "add the toleration to the cluster file"),
    (r"node affinity/selector", "check gpus, gpu_label and node_selector: kubectl get nodes --show-labels"),
    (r"Insufficient (?!cpu|memory)\S+", "no node has so many free: wait, or ask for fewer"),
    (r"Insufficient (cpu|memory)", "lower cpus_per_gpu or memory_per_gpu, or wait"),
    (r"PodSecurity", "the namespace refuses such pods: see pod_security and host_path"),
)
"""(pattern, what to do). The first that is found counts."""


def remedy(reason: str) -> str:
    """What to do about a reason; empty if nothing more is known."""
    return next((advice for pattern, advice in _REMEDIES if re.search(pattern, reason, re.DOTALL)), "")


def lost_on(pod: Json, now: datetime) -> str | None:
    """The node of a pod that was to be gone long ago, and is still there: the node does not answer."""
    due = pod["metadata"].get("deletionTimestamp")
    if not due or now - _time(due) < LOST_AFTER:
        return None
    return str(pod.get("spec", {}).get("nodeName") or "its node")


def about_lost(name: str, node: str) -> tuple[str, str]:
    """(reason, advice) for a pod on a node that does not answer. The Job does not replace it: its container might still
    run and write."""
    return (
        f"{name}: its node {node} does not answer, and no pod replaces it before the node is gone",
        f"if {node} is off: kubectl taint nodes {node} node.kubernetes.io/out-of-service=nodeshutdown:NoExecute",
    )


def waiting(pod: Json) -> Iterator[str]:
    """Why a pod does not run yet, in the words of the scheduler or the node."""
    status, name = pod.get("status", {}), pod["metadata"]["name"]
    for condition in status.get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            yield f"{name}: {condition.get('message') or condition.get('reason')}"
    for container in status.get("containerStatuses") or []:
        if state := container.get("state", {}).get("waiting"):
            yield f"{name}: {_worded(state)}"


def disruption(pod: Json) -> str | None:
    """Why Kubernetes itself ends a pod, if it does."""
    for condition in pod.get("status", {}).get("conditions") or []:
        if condition.get("type") == "DisruptionTarget" and condition.get("status") == "True":
            return f"{pod['metadata']['name']}: {_worded(condition)}"
    return None


def end(pod: Json) -> str:
    """Why a pod failed, beyond its exit code: memory with its limit, an eviction, a disruption."""
    status = pod.get("status", {})
    for container in status.get("containerStatuses") or []:
        terminated = container.get("state", {}).get("terminated") or {}
        if container.get("name") == CONTAINER and terminated.get("reason") == "OOMKilled":
            limit = _memory_limit(pod)
            return f"OOMKilled{f' at its limit of {limit}' if limit else ''}"
    if status.get("reason") and status["reason"] != "DeadlineExceeded":  # the deadline is one attempt's limits.time
        return _worded(status)
    return disruption(pod) or ""


def of_events(events: Iterable[Json], names: Sequence[str]) -> str:
    """The newest warning about one of these objects."""
    about = [
        event
        for event in events
        if event.get("type") == "Warning" and event.get("involvedObject", {}).get("name") in names
    ]
    if not about:
        return ""
    newest = max(about, key=lambda event: str(event.get("lastTimestamp") or event.get("eventTime") or ""))
    return f"{newest['involvedObject']['name']}: {_worded(newest)}"


def _worded(state: Json) -> str:
    message = " ".join(str(state.get("message") or "").split())
    return ": ".join(filter(None, (str(state.get("reason") or ""), message)))


def _memory_limit(pod: Json) -> str:
    for container in pod.get("spec", {}).get("containers") or []:
        if container.get("name") == CONTAINER:
            return str(container.get("resources", {}).get("limits", {}).get("memory", ""))
    return ""


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone(UTC)
