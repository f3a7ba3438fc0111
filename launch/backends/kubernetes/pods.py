"""What the objects of a run say of it: queued and why, running, ended and how. Pure; the fields are those of the stable
batch/v1 and v1, and of jobset.x-k8s.io/v1alpha2."""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from launch.backends import JobState
from launch.backends.kubernetes.pod import CONTAINER
from launch.backends.kubernetes.render import RUN

Json = dict[str, Any]

INSTANCE = "app.kubernetes.io/instance"
OURS = "app.kubernetes.io/name=hatrain"
INDEX = "batch.kubernetes.io/job-completion-index"
_FINISHED = ("Complete", "Completed")


def name(one: Json) -> str:
    """Return an object's name."""
    return str(one["metadata"]["name"])


def run_of(one: Json) -> str | None:
    """Return the run that an object belongs to; None for one that is not hatrain's."""
    found = one["metadata"].get("annotations", {}).get(RUN)
    return None if found is None else str(found)


def of(objects: Iterable[Json], instance: str, kind: str) -> list[Json]:
    """Return the objects of a kind that belong to a run, oldest first."""
    found = [
        one
        for one in objects
        if one["kind"] == kind and one["metadata"].get("labels", {}).get(INSTANCE) == instance
    ]
    return sorted(found, key=lambda one: (one["metadata"].get("creationTimestamp", ""), name(one)))


def is_finished(keeper: Json) -> bool:
    """Return whether a Job or JobSet will never start a pod again."""
    return bool({*_FINISHED, "Failed"} & {*_conditions(keeper)})


def state(keeper: Json, objects: Sequence[Json]) -> JobState:
    """Return how the run of a Job or JobSet is doing, from all objects that were found."""
    instance, conditions = name(keeper), _conditions(keeper)
    pods = of(objects, instance, "Pod")
    if any(word in conditions for word in _FINISHED):
        return JobState("ended", code=0)
    if "Failed" in conditions:
        keepers = [keeper, *of(objects, instance, "Job")]
        return JobState("ended", _why(conditions["Failed"]), _code(keepers, pods))
    live = [pod for pod in pods if _phase(pod) in ("Pending", "Running")]
    running = [pod for pod in live if _phase(pod) == "Running"]
    waiting = [word for pod in live for word in _waits(pod)]
    if running:
        wanted = _wanted(keeper)
        missing = f"{len(running)} of {wanted} pods run" if len(running) < wanted else ""
        ending = "ends" if "deletionTimestamp" in keeper["metadata"] else ""
        return JobState("running", "; ".join(filter(None, [ending, missing, *waiting[:1]])))
    if keeper["spec"].get("suspend"):
        queue = keeper["metadata"].get("labels", {}).get("kueue.x-k8s.io/queue-name")
        return JobState("queued", f"the queue {queue} has not let it in" if queue else "suspended")
    if live:
        return JobState("queued", waiting[0] if waiting else "its pods are about to start")
    if ended := list(_exit_codes(pods)):
        return JobState("queued", f"waits to start again after exit code {ended[-1]}")
    return JobState("queued", f"has no pod yet; see: kubectl describe {keeper['kind'].lower()} {instance}")


def index(pod: Json) -> int:
    """Return which node of its run a pod is."""
    meta = pod["metadata"]
    told = {**meta.get("labels", {}), **meta.get("annotations", {})}.get(INDEX, "0")
    return int(told) if str(told).isdigit() else 0


def is_over(pod: Json) -> bool:
    """Return whether a pod prints nothing any more."""
    return _phase(pod) in ("Succeeded", "Failed")


def is_running(pod: Json) -> bool:
    """Return whether a pod's container has begun."""
    return _phase(pod) == "Running"


def _phase(pod: Json) -> str:
    return str(pod.get("status", {}).get("phase", "Pending"))


def _conditions(one: Json) -> dict[str, Json]:
    found = one.get("status", {}).get("conditions") or []
    return {str(each.get("type")): each for each in found if each.get("status") == "True"}


def _why(condition: Json) -> str:
    return ": ".join(filter(None, (str(condition.get("reason", "")), str(condition.get("message", "")))))


def _wanted(keeper: Json) -> int:
    if keeper["kind"] == "JobSet":
        keeper = keeper["spec"]["replicatedJobs"][0]["template"]
    return int(keeper["spec"].get("completions") or 1)


def _code(keepers: Iterable[Json], pods: Iterable[Json]) -> int | None:
    """Return the exit code that ended a run: the one that its Job names, else that of the pod which left last."""
    for keeper in keepers:
        failed = _conditions(keeper).get("Failed", {})
        if found := re.search(r"failed with exit code (\d+)", str(failed.get("message", ""))):
            return int(found[1])
    return next(reversed(list(_exit_codes(pods))), None)


def _exit_codes(pods: Iterable[Json]) -> Iterator[int]:
    """Yield the exit codes of containers that failed, in the order in which they ended."""
    ended = [
        (str(said.get("finishedAt", "")), int(said["exitCode"]))
        for pod in pods
        for container in pod.get("status", {}).get("containerStatuses") or []
        if container.get("name") == CONTAINER
        and (said := container.get("state", {}).get("terminated"))
        and said.get("exitCode")
    ]
    yield from (code for _, code in sorted(ended, key=lambda one: one[0]))


def _waits(pod: Json) -> Iterator[str]:
    """Yield why a pod does not run, in the words of the scheduler or of the node."""
    status = pod.get("status", {})
    for condition in status.get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            yield f"{name(pod)}: {condition.get('message') or condition.get('reason')}"
    for container in status.get("containerStatuses") or []:
        if waits := container.get("state", {}).get("waiting"):
            yield f"{name(pod)}: {_why(waits)}"
