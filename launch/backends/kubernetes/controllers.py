"""Who keeps the pods of a run and makes them again: an Indexed Job, or a JobSet around one. Pure."""

from typing import Any

from hatrain.contract.cluster import KubernetesCluster
from hatrain.contract.plan import Plan
from hatrain.contract.run import Exit
from hatrain.contract.spec import seconds
from launch.backends.kubernetes.pod import CONTAINER

Json = dict[str, Any]

CONTROLLER_UID = "batch.kubernetes.io/controller-uid"
JOBSET_UID = "jobset.sigs.k8s.io/jobset-uid"
REPLICATED_JOB = "node"
"""What a JobSet calls its one Job; its pods are NAME-node-0-INDEX."""
FAULTS = 50
"""Faults of all nodes that a run survives. Entry counts the attempts that come to nothing, and ends such a run with 78;
this only bounds what never gets so far as to begin, such as an image without hatrain in it."""


def faults(plan: Plan) -> int:
    """Return how often a run may fail before its controller gives up: never before entry does."""
    return max(FAULTS, plan.retries + 1)


def job(plan: Plan, place: KubernetesCluster, metadata: Json, template: Json) -> Json:
    """Return an Indexed Job. Each pod that fails counts, and a pod's fault fails its peers: hence so many for each."""
    spec = {
        **_suspended(place),
        **_indexed(plan, place, backoff=faults(plan) * plan.nodes),
        "ttlSecondsAfterFinished": seconds(place.keep_finished),
        "template": template,
    }
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": _queued(metadata, place), "spec": spec}


def jobset(plan: Plan, place: KubernetesCluster, metadata: Json, template: Json) -> Json:
    """Return a JobSet of one Indexed Job, whose pods it makes anew together after a fault of any."""
    for_good = {"name": "for_good", "action": "FailJobSet", "onJobFailureReasons": ["PodFailurePolicy"]}
    one = {
        "metadata": {"labels": metadata["labels"], "annotations": metadata["annotations"]},
        "spec": {**_indexed(plan, place, backoff=0), "template": template},
    }
    spec = {
        **_suspended(place),
        "network": {"enableDNSHostnames": plan.nodes > 1, "publishNotReadyAddresses": True},
        "failurePolicy": {"maxRestarts": faults(plan), "rules": [for_good]},
        "ttlSecondsAfterFinished": seconds(place.keep_finished),
        "replicatedJobs": [{"name": REPLICATED_JOB, "replicas": 1, "template": one}],
    }
    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": _queued(metadata, place),
        "spec": spec,
    }


def _indexed(plan: Plan, place: KubernetesCluster, *, backoff: int) -> Json:
    spec: Json = {
        "completionMode": "Indexed",
        "completions": plan.nodes,
        "parallelism": plan.nodes,
        "backoffLimit": backoff,
        "podFailurePolicy": {"rules": _by_exit_code(place)},
    }
    if version(place) >= (1, 28):
        # Two pods of one node must never be at work together.
        spec["podReplacementPolicy"] = "Failed"
    return spec


def _by_exit_code(place: KubernetesCluster) -> list[Json]:
    """Return the rules of what a pod's end means, the first that fits counts. 126 and 127 are bash's, which found no
    such interpreter in the image."""

    def codes(action: str, *values: int) -> Json:
        rule: Json = {
            "action": action,
            "onExitCodes": {"containerName": CONTAINER, "operator": "In", "values": sorted(values)},
        }
        # Schemas up to 1.28 want the key in every rule.
        return rule if version(place) >= (1, 29) else {**rule, "onPodConditions": []}

    return [
        codes("FailJob", Exit.FATAL.value, Exit.STOPPED.value, 126, 127),
        codes("Ignore", Exit.REQUEUE.value),
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
    ]


def version(place: KubernetesCluster) -> tuple[int, int]:
    """Return a cluster's version, to be compared."""
    major, minor = place.kubernetes_version.split(".")
    return int(major), int(minor)


def _queued(metadata: Json, place: KubernetesCluster) -> Json:
    if place.queue is None:
        return metadata
    labels = {**metadata["labels"], "kueue.x-k8s.io/queue-name": place.queue}
    if place.priority:
        labels["kueue.x-k8s.io/priority-class"] = place.priority
    return {**metadata, "labels": labels}


def _suspended(place: KubernetesCluster) -> Json:
    return {"suspend": True} if place.queue else {}
