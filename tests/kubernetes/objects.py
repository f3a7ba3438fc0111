"""Objects as an API server returns them, reduced to the fields that are read: Jobs, JobSets and pods at each stage of
a run."""

from typing import Any

Json = dict[str, Any]

TIME = "2026-11-25T10:{minute:02d}:00Z"


def _meta(name: str, instance: str, run: str, minute: int, **more: Any) -> Json:
    return {
        "name": name,
        "namespace": "team",
        "uid": f"uid-of-{name}",
        "creationTimestamp": TIME.format(minute=minute),
        "labels": {
            "app.kubernetes.io/name": "hatrain",
            "app.kubernetes.io/instance": instance,
            **more.pop("labels", {}),
        },
        "annotations": {"hatrain/run": run, **more.pop("annotations", {})},
        **more,
    }


def condition(kind: str, reason: str = "", message: str = "", status: str = "True") -> Json:
    """A condition of a Job, JobSet or pod."""
    return {"type": kind, "status": status, "reason": reason, "message": message}


def job(name: str, *conditions: Json, run: str | None = None, nodes: int = 1, **more: Any) -> Json:
    """`suspend` and `queue` are Kueue's; `deleting` is a Job that is being deleted; `of` is the object of the run."""
    spec = {"completions": nodes, "parallelism": nodes, "suspend": more.pop("suspend", False)}
    labels = {"kueue.x-k8s.io/queue-name": more.pop("queue")} if "queue" in more else {}
    deletion = {"deletionTimestamp": TIME.format(minute=59)} if more.pop("deleting", False) else {}
    meta = _meta(name, more.pop("of", name), run or name, 0, labels=labels, **deletion)
    assert not more
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": meta,
        "spec": spec,
        "status": {"conditions": list(conditions)},
    }


def jobset(name: str, *conditions: Json, run: str | None = None, nodes: int = 1) -> Json:
    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": _meta(name, name, run or name, 0),
        "spec": {"replicatedJobs": [{"name": "node", "template": {"spec": {"completions": nodes}}}]},
        "status": {"conditions": list(conditions)},
    }


def pod(
    of: str,
    phase: str,
    *,
    index: int = 0,
    minute: int = 1,
    code: int | None = None,
    waiting: tuple[str, str] | None = None,
    unschedulable: str | None = None,
    run: str | None = None,
) -> Json:
    state: Json = {"running": {"startedAt": TIME.format(minute=minute)}}
    if code is not None:
        state = {"terminated": {"exitCode": code, "finishedAt": TIME.format(minute=minute + 1)}}
    if waiting:
        state = {"waiting": {"reason": waiting[0], "message": waiting[1]}}
    conditions = [condition("PodScheduled", "Unschedulable", unschedulable, "False")] if unschedulable else []
    index_of = {"batch.kubernetes.io/job-completion-index": str(index)}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": _meta(f"{of}-{index}-m{minute:02d}", of, run or of, minute, annotations=index_of),
        "spec": {},
        "status": {
            "phase": phase,
            "conditions": conditions,
            "containerStatuses": [] if unschedulable else [{"name": "hatrain", "state": state}],
        },
    }


def listed(*objects: Json) -> Json:
    """Objects as `kubectl get -o json` lists them."""
    return {"apiVersion": "v1", "kind": "List", "items": list(objects)}
