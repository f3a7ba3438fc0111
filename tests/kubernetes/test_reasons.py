"""What status says about pods that do not run, or were ended by Kubernetes, and what to change."""

from datetime import UTC, datetime

import pytest

from launch.backends.kubernetes import pods, reasons
from tests.kubernetes.objects import condition, job, pod

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
QUOTA = 'pods "kitchen-0-x" is forbidden: exceeded quota: gpus, requested: nvidia.com/gpu=8, used: 8, limited: 8'


def state(*objects):
    return pods.state(objects[0], objects, NOW)


def warning(about: str, reason: str, message: str, time: str = "2026-11-25T11:00:00Z") -> dict:
    return {
        "kind": "Event",
        "type": "Warning",
        "metadata": {"name": f"{about}.1"},
        "involvedObject": {"name": about},
        "reason": reason,
        "message": message,
        "lastTimestamp": time,
    }


def deleted(each: dict, due: str, node: str = "gpu-3") -> dict:
    each["metadata"]["deletionTimestamp"] = due
    each["spec"]["nodeName"] = node
    return each


def limited(each: dict, memory: str) -> dict:
    each["spec"]["containers"] = [{"name": "hatrain", "resources": {"limits": {"memory": memory}}}]
    return each


def killed(each: dict, reason: str) -> dict:
    each["status"]["containerStatuses"][0]["state"]["terminated"]["reason"] = reason
    return each


def test_a_pod_on_a_node_that_does_not_answer_is_not_running_and_the_node_is_named():
    lost = deleted(pod("kitchen", "Running"), "2026-11-25T11:50:00Z")
    found = state(job("kitchen"), lost)
    assert found.phase == "queued" and "its node gpu-3 does not answer" in found.reason
    assert "kubectl taint nodes gpu-3 node.kubernetes.io/out-of-service" in found.advice
    # Within its grace period it saves a checkpoint.
    assert state(job("kitchen"), deleted(pod("kitchen", "Running"), "2026-11-25T12:05:00Z")).phase == "running"


def test_a_pod_that_kubernetes_ends_says_why():
    ending = deleted(pod("kitchen", "Running"), "2026-11-25T12:05:00Z")
    ending["status"]["conditions"] = [
        condition("DisruptionTarget", "PreemptionByScheduler", "a pod of higher priority")
    ]
    assert "PreemptionByScheduler: a pod of higher priority" in state(job("kitchen"), ending).reason


def test_a_pod_killed_for_its_memory_says_the_limit_and_the_key():
    ended = limited(killed(pod("kitchen", "Failed", code=137), "OOMKilled"), "64Gi")
    again = state(job("kitchen"), ended)
    assert again.reason == "restarts after exit code 137 (OOMKilled at its limit of 64Gi)"
    assert again.advice == "raise memory_per_gpu in the cluster file"
    for_good = state(job("kitchen", condition("Failed", "BackoffLimitExceeded")), ended)
    assert for_good.advice == "OOMKilled at its limit of 64Gi; raise memory_per_gpu in the cluster file"


@pytest.mark.parametrize(
    ("message", "advice"),
    [
        ("The node was low on resource: ephemeral-storage.", "raise ephemeral_storage in the cluster file"),
        ("The node was low on resource: memory.", "raise memory_per_gpu in the cluster file"),
        ("Usage of EmptyDir volume exceeds the limit", ""),
    ],
)
def test_an_eviction_says_why(message, advice):
    evicted = pod("kitchen", "Failed")
    evicted["status"] |= {"reason": "Evicted", "message": message, "containerStatuses": []}
    found = state(job("kitchen"), evicted)
    assert found.reason == f"restarts after: Evicted: {message}" and found.advice == advice


def test_a_job_that_is_failing_is_told_before_its_last_pod_has_ended():
    found = state(
        job("kitchen", condition("FailureTarget", "PodFailurePolicy", "exit code 78")), pod("kitchen", "Running")
    )
    assert found.phase == "running" and found.reason == "is failing: PodFailurePolicy: exit code 78"


def test_a_job_that_fails_while_a_node_does_not_answer_names_the_node_that_it_waits_for():
    lost = deleted(pod("kitchen", "Running"), "2026-11-25T11:50:00Z")
    found = state(job("kitchen", condition("FailureTarget", "PodFailurePolicy", "exit code 78")), lost)
    assert "its node gpu-3 does not answer" in found.reason and "out-of-service" in found.advice


@pytest.mark.parametrize(
    ("objects", "reason", "advice"),
    [
        ([warning("kitchen", "FailedCreate", QUOTA)], f"kitchen: FailedCreate: {QUOTA}", "the quota of the namespace"),
        (
            [
                pod("kitchen", "Pending"),
                warning("kitchen-0-m01", "FailedMount", 'persistentvolumeclaim "runs" not found'),
                warning("kitchen-0-m01", "Old", "told before", "2026-11-25T10:00:00Z"),
                warning("another", "FailedMount", "of another run", "2026-11-25T11:59:00Z"),
            ],
            'kitchen-0-m01: FailedMount: persistentvolumeclaim "runs" not found',
            "check the claims",
        ),
    ],
)
def test_what_only_events_tell_is_told(objects, reason, advice):
    found = state(job("kitchen"), *objects)
    assert (found.phase, found.reason) == ("queued", reason)
    assert found.advice.startswith(advice)


def test_a_deadline_is_the_end_of_one_attempt_and_needs_no_remedy():
    ended = pod("kitchen", "Failed", code=75)
    ended["status"]["reason"] = "DeadlineExceeded"
    assert state(job("kitchen"), ended).reason == "restarts after exit code 75"
    assert reasons.remedy("DeadlineExceeded") == ""
