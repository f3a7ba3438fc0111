"""Reads the state of a run from its Kubernetes objects. The fields are those of the stable batch/v1 and v1, and of
jobset.x-k8s.io/v1alpha2."""

import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, Literal

from launch.backends.kubernetes import reasons
from launch.backends.kubernetes.pod import CONTAINER
from launch.backends.kubernetes.render import RUN
from launch.backends.protocol import JobState

Json = dict[str, Any]

INSTANCE = "app.kubernetes.io/instance"
FROM_HATRAIN = "app.kubernetes.io/name=hatrain"
INDEX = "batch.kubernetes.io/job-completion-index"
_FINISHED = ("Complete", "Completed")


def name(resource: Json) -> str:
    return str(resource["metadata"]["name"])


def run_of(resource: Json) -> str | None:
    """The run that an object belongs to; None for an object that is not hatrain's."""
    run = resource["metadata"].get("annotations", {}).get(RUN)
    return None if run is None else str(run)


def of(resources: Iterable[Json], instance: str, kind: str) -> list[Json]:
    """The objects of a kind that belong to a run, oldest first."""
    found = [
        each
        for each in resources
        if each["kind"] == kind and each["metadata"].get("labels", {}).get(INSTANCE) == instance
    ]
    return sorted(found, key=lambda each: (each["metadata"].get("creationTimestamp", ""), name(each)))


def is_finished(controller: Json) -> bool:
    """Whether a Job or JobSet will never start a pod again."""
    return bool({*_FINISHED, "Failed"} & {*_conditions(controller)})


def state(controller: Json, resources: Sequence[Json], now: datetime) -> JobState:
    """The state of the run of a Job or JobSet, among all objects and events that were found."""
    instance, conditions = name(controller), _conditions(controller)
    pods = of(resources, instance, "Pod")
    if any(condition in conditions for condition in _FINISHED):
        return JobState("ended", code=0)
    if "Failed" in conditions:
        controllers = [controller, *of(resources, instance, "Job")]
        reason, why = _reason(conditions["Failed"]), next(filter(None, map(reasons.end, reversed(pods))), "")
        code = _exit_code(controllers, pods)
        return JobState("ended", reason, code, advice="; ".join(filter(None, [why, reasons.remedy(why)])))
    live = [pod for pod in pods if _phase(pod) in ("Pending", "Running")]
    lost = {name(pod): node for pod in live if (node := reasons.lost_on(pod, now))}
    running = [pod for pod in live if is_running(pod) and name(pod) not in lost]
    waiting = [reason for pod in live for reason in reasons.waiting(pod)]
    if lost:
        # Also while the Job is failing: it waits for such a pod for good.
        reason, advice = reasons.about_lost(*next(iter(lost.items())))
        return JobState("running" if running else "queued", reason, advice=advice)
    if "FailureTarget" in conditions:
        # The Job has failed, and waits for its last pods to end.
        return JobState("running", f"is failing: {_reason(conditions['FailureTarget'])}")
    if running:
        expected = _expected_pods(controller)
        missing = f"{len(running)} of {expected} pods run" if len(running) < expected else ""
        ending = "being deleted" if "deletionTimestamp" in controller["metadata"] else ""
        disrupted = list(filter(None, map(reasons.disruption, running)))
        return _because("running", "; ".join(filter(None, [ending, missing, *disrupted[:1], *waiting[:1]])))
    if controller["spec"].get("suspend"):
        queue = controller["metadata"].get("labels", {}).get("kueue.x-k8s.io/queue-name")
        return JobState("queued", f"the queue {queue} has not admitted it" if queue else "suspended")
    warned = reasons.of_events((each for each in resources if each["kind"] == "Event"), [instance, *map(name, live)])
    if live:
        return _because("queued", waiting[0] if waiting else warned or "its pods are starting")
    if exit_codes := list(_exit_codes(pods)):
        why = reasons.end(pods[-1])
        return _because("queued", f"restarts after exit code {exit_codes[-1]}{f' ({why})' if why else ''}")
    if pods and (why := reasons.end(pods[-1])):
        return _because("queued", f"restarts after: {why}")
    unknown = f"has no pod yet; see: kubectl describe {controller['kind'].lower()} {instance}"
    return _because("queued", warned or unknown)


def _because(phase: Literal["queued", "running"], reason: str) -> JobState:
    return JobState(phase, reason, advice=reasons.remedy(reason))


def index(pod: Json) -> int:
    meta = pod["metadata"]
    value = str({**meta.get("labels", {}), **meta.get("annotations", {})}.get(INDEX, "0"))
    return int(value) if value.isdigit() else 0


def has_ended(pod: Json) -> bool:
    return _phase(pod) in ("Succeeded", "Failed")


def is_running(pod: Json) -> bool:
    return _phase(pod) == "Running"


def _phase(pod: Json) -> str:
    return str(pod.get("status", {}).get("phase", "Pending"))


def _conditions(resource: Json) -> dict[str, Json]:
    conditions = resource.get("status", {}).get("conditions") or []
    return {str(each.get("type")): each for each in conditions if each.get("status") == "True"}


def _reason(condition: Json) -> str:
    return ": ".join(filter(None, (str(condition.get("reason", "")), str(condition.get("message", "")))))


def _expected_pods(controller: Json) -> int:
    if controller["kind"] == "JobSet":
        controller = controller["spec"]["replicatedJobs"][0]["template"]
    return int(controller["spec"].get("completions") or 1)


def _exit_code(controllers: Iterable[Json], pods: Iterable[Json]) -> int | None:
    """The exit code that ended a run: the one that its Job names, else that of the pod that ended last."""
    for controller in controllers:
        failed = _conditions(controller).get("Failed", {})
        if found := re.search(r"failed with exit code (\d+)", str(failed.get("message", ""))):
            return int(found[1])
    return next(reversed(list(_exit_codes(pods))), None)


def _exit_codes(pods: Iterable[Json]) -> Iterator[int]:
    """Exit codes of containers that failed, in the order in which they ended."""
    ended = [
        (str(terminated.get("finishedAt", "")), int(terminated["exitCode"]))
        for pod in pods
        for container in pod.get("status", {}).get("containerStatuses") or []
        if container.get("name") == CONTAINER
        and (terminated := container.get("state", {}).get("terminated"))
        and terminated.get("exitCode")
    ]
    yield from (code for _, code in sorted(ended, key=lambda each: each[0]))


# --- selecting by label -------------------------------------------------------------------------------------

BATCH = 50
"""More names than this are not put into one selector."""


def selector(names: Sequence[str]) -> str:
    """Select the objects of these runs; for very many, those of all runs."""
    return f"{FROM_HATRAIN},{INSTANCE} in ({','.join(names)})" if len(names) <= BATCH else FROM_HATRAIN


def batches(names: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(names), BATCH):
        yield names[start : start + BATCH]
