"""Runs of two nodes that are submitted with the real kubectl, and whose pods are entry processes on this machine."""

import copy

import pytest

from hatrain.contract.run import RunDirectory
from tests.harness import calls, has_started, until
from tests.kubernetes.api_server import Failure


def run_of(kubelet) -> RunDirectory:
    return RunDirectory(kubelet.workdir / "runs/kitchen")


def aside(run: RunDirectory) -> list:
    return list(run.folder.parent.glob(f"{run.folder.name}.*"))


def ends(pods) -> list[int]:
    """The exit codes of pods. What they printed is shown where a test fails."""
    ended = [pod.end() for pod in pods]
    for _, output in ended:
        print(output)
    return [code for code, _ in ended]


@pytest.mark.parametrize(("controller", "first"), [("job", 1), ("jobset", 0)])
def test_a_fresh_submission_starts_anew_on_all_nodes_and_only_once(cluster, controller, first):
    laptop, kubelet = cluster(controller=controller)
    laptop.submit()
    assert ends(kubelet.start(0, 1)) == [0, 0]
    run = run_of(kubelet)
    assert run.done.exists()
    kubelet.complete()
    refused = laptop.submit("--set", "seed=7", code=2)
    assert "holds another job of this name; use --fresh" in refused

    laptop.submit("--set", "seed=7", "--fresh")
    acts = "fault,finish"
    (early,) = kubelet.start(first, act=acts)
    if first:
        # A node that is there before node 0 takes no part in the old run, which is finished.
        until(lambda: run.plan().job.seed == 42 and early.process.poll() is None, "node 1 waits")
    (late,) = kubelet.start(1 - first, act=acts)
    assert ends([early, late]) == [1, 1]
    (old,) = aside(run)
    assert (old / "DONE").exists() and RunDirectory(old).job().seed == 42
    assert run.job().seed == 7 and not run.done.exists()
    assert sorted(calls(run)) == ["training fault", "training fault on node 1"]

    # The pods that come after a fault belong to the same submission.
    assert ends(kubelet.start(1, 0, act=acts)) == [0, 0]
    assert aside(run) == [old] and run.done.exists()
    assert [attempt.number for attempt in run.all_attempts()] == [1, 2]
    submitted = [event["submission"] for event in run.events() if event["event"] == "submitted"]
    assert len(submitted) == 1


def test_a_node_that_waits_for_a_fresh_start_leaves_when_its_pod_is_ended(cluster):
    laptop, kubelet = cluster()
    laptop.submit()
    assert ends(kubelet.start(0, 1)) == [0, 0]
    kubelet.complete()
    laptop.submit("--set", "seed=7", "--fresh")
    (follower,) = kubelet.start(1)
    kubelet.ask_to_end(follower)
    assert ends([follower]) == [75]
    assert aside(run_of(kubelet)) == [] and run_of(kubelet).job().seed == 42


@pytest.mark.parametrize("controller", ["job", "jobset"])
def test_a_stop_asks_the_next_pod_and_ends_all_nodes(cluster, controller):
    laptop, kubelet = cluster(controller=controller)
    laptop.submit()
    pods = kubelet.start(0, 1, act="stop")
    until(has_started(run_of(kubelet)), "training")
    leaving = copy.deepcopy(laptop.api.objects["pods", pods[0].name])
    leaving["metadata"] |= {"name": "kitchen-0-leaving", "deletionTimestamp": "2026-11-25T12:00:00Z"}
    laptop.api.put(leaving)
    gone = Failure(500, "InternalError", "error dialing backend: the node gpu-3 does not answer")
    laptop.api.answer = lambda request: gone if f"{pods[0].name}/exec" in request else None
    output = laptop.hatrain("stop", "kitchen")
    assert output == "kitchen: attempt 1 saves a checkpoint after its current step and exits\n"
    asked = [request for request in laptop.api.requests if "/exec" in request]
    assert pods[0].name in asked[0] and pods[1].name in asked[-1] and "leaving" not in " ".join(asked)
    assert ends(pods) == [130, 130]


def test_a_stop_that_is_forbidden_or_not_answered_says_why_and_ends_nothing(cluster):
    laptop, kubelet = cluster()
    laptop.submit()
    pods = kubelet.start(0, 1, act="stop")
    until(has_started(run_of(kubelet)), "training")
    message = 'pods "kitchen-0-m01" is forbidden: User "ada" cannot create resource "pods/exec" in API group ""'
    refused = {
        Failure(403, "Forbidden", message): ['cannot create resource "pods/exec"'],
        Failure(500, "InternalError", "error dialing backend: node away"): ["dialing backend", "dialing backend"],
    }
    for failure, expected in refused.items():
        laptop.api.answer = lambda request, failure=failure: failure if "/exec" in request else None
        lines = laptop.hatrain("stop", "kitchen", code=1).splitlines()
        assert all(words in line for words, line in zip(expected, lines, strict=True)), lines
    assert all(pod.process.poll() is None for pod in pods)
