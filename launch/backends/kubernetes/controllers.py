"""The object that creates and recreates the pods of a run: an Indexed Job, or a JobSet around one."""

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
"""Name of the one Job in a JobSet; its pods are NAME-node-0-INDEX."""
FAULTS = 50
"""Faults per node after which the controller gives up. hatrain.entry counts attempts without progress and ends such a
run with 78; this limit is for runs that never start an attempt, for example with an image that lacks hatrain."""


def faults(plan: Plan) -> int:
    """The controller must not give up before hatrain.entry does."""
    return max(FAULTS, plan.retries + 1)


def job(plan: Plan, cluster: KubernetesCluster, metadata: Json, template: Json) -> Json:
    """The backoff limit counts pods, and the fault of one pod fails its peers: hence a limit for each node."""
    spec = {
        **_suspended(cluster),
        **_indexed(plan, cluster, backoff=faults(plan) * plan.nodes),
        "ttlSecondsAfterFinished": seconds(cluster.keep_finished),
        "template": template,
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": _queue_labels(metadata, cluster),
        "spec": spec,
    }


def jobset(plan: Plan, cluster: KubernetesCluster, metadata: Json, template: Json) -> Json:
    """After a fault of one pod, a JobSet recreates the pods of all nodes together."""
    no_retry = {"name": "for_good", "action": "FailJobSet", "onJobFailureReasons": ["PodFailurePolicy"]}
    job_template = {
        "metadata": {"labels": metadata["labels"], "annotations": metadata["annotations"]},
        "spec": {**_indexed(plan, cluster, backoff=0), "template": template},
    }
    spec = {
        **_suspended(cluster),
        "network": {"enableDNSHostnames": plan.nodes > 1, "publishNotReadyAddresses": True},
        "failurePolicy": {"maxRestarts": faults(plan), "rules": [no_retry]},
        "ttlSecondsAfterFinished": seconds(cluster.keep_finished),
        "replicatedJobs": [{"name": REPLICATED_JOB, "replicas": 1, "template": job_template}],
    }
    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": _queue_labels(metadata, cluster),
        "spec": spec,
    }


def _indexed(plan: Plan, cluster: KubernetesCluster, *, backoff: int) -> Json:
    spec: Json = {
        "completionMode": "Indexed",
        "completions": plan.nodes,
        "parallelism": plan.nodes,
        "backoffLimit": backoff,
        "podFailurePolicy": {"rules": _failure_rules(cluster)},
    }
    if version(cluster) >= (1, 28):
        # Two pods of one node must never run at the same time.
        spec["podReplacementPolicy"] = "Failed"
    return spec


def _failure_rules(cluster: KubernetesCluster) -> list[Json]:
    """Rules for the end of a pod; the first that matches applies. bash exits with 126 or 127 if the image has no such
    interpreter."""

    def codes(action: str, *values: int) -> Json:
        rule: Json = {
            "action": action,
            "onExitCodes": {"containerName": CONTAINER, "operator": "In", "values": sorted(values)},
        }
        # Schemas up to 1.28 require this key in every rule.
        return rule if version(cluster) >= (1, 29) else {**rule, "onPodConditions": []}

    return [
        codes("FailJob", Exit.FATAL.value, Exit.STOPPED.value, 126, 127),
        codes("Ignore", Exit.REQUEUE.value),
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
    ]


def version(cluster: KubernetesCluster) -> tuple[int, int]:
    major, minor = cluster.kubernetes_version.split(".")
    return int(major), int(minor)


def _queue_labels(metadata: Json, cluster: KubernetesCluster) -> Json:
    if cluster.queue is None:
        return metadata
    labels = {**metadata["labels"], "kueue.x-k8s.io/queue-name": cluster.queue}
    if cluster.priority:
        labels["kueue.x-k8s.io/priority-class"] = cluster.priority
    return {**metadata, "labels": labels}


def _suspended(cluster: KubernetesCluster) -> Json:
    return {"suspend": True} if cluster.queue else {}
