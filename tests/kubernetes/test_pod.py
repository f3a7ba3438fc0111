"""The pod of a rendered Job, run for real by podman: it trains as nobody in particular on a root that it cannot write
to, and leaves with each exit code that its Job tells apart."""

import json
import os
import sys
from pathlib import Path

import pytest

from hatrain.contract.cluster import KubernetesCluster
from hatrain.contract.run import Exit, RunDirectory
from launch import planner
from launch.backends.kubernetes import render as kubernetes
from tests.kubernetes.podman import IMAGE, Podman
from tests.plans import a_job
from tests.require import cannot, need
from tests.storage import storage
from tests.train.conftest import house_rows, write_rows

USER = 10001


@pytest.fixture(scope="module")
def podman():
    need("podman", "podman", "runc", "conmon", "catatonit")
    if os.geteuid():
        cannot("podman", "its storage and its pods are root's here")
    with storage() as folder:
        made = Podman(folder)
        made.build()
        yield made
        made.close()


class House:
    """Volumes as a node has them: rows, a tiny base, runs. Nobody but root and the pods' user may write there."""

    def __init__(self, folder: Path):
        from hatrain.model.tiny import make

        self.folder = folder
        for name in ("data", "runs", "models"):
            (folder / name).mkdir()
        write_rows(folder / "data/train.jsonl", house_rows(16, 1))
        sizes = {"vocabulary": 300, "hidden": 32, "layers": 1, "heads": 2, "ctx_size": 256, "seed": 1}
        make(folder / "data/train.jsonl", folder / "models/base", **sizes)
        for path in [folder, *folder.rglob("*")]:
            os.chown(path, USER, USER)

    def plan(self, name, **changes):
        place = KubernetesCluster(
            kind="kubernetes",
            image=IMAGE,
            image_pull_policy="Never",
            python=sys.executable,
            workdir="/house",
            data={"host_path": str(self.folder / "data")},
            runs={"host_path": str(self.folder)},
            memory_per_gpu="4GiB",
            shared_memory_per_gpu="1GiB",
            cpus_per_gpu=2,
            termination_grace="3m",
            environment={"HF_HUB_OFFLINE": "1"},
        )
        job = {
            "model__base": "models/base",
            "model__dtype": "fp32",
            "data__train": "data/train.jsonl",
            "method__batch_size": 4,
            "method__micro_batch_size": 4,
            "method__ctx_size": 256,
            "evaluation__requests": 0,
            "logging__logging_steps": 1,
            **changes,
        }
        nowhere = Path("/nowhere")
        return planner.plan(a_job(name=name, **job), place, "house", workdir=nowhere, runs_root=nowhere)

    def run(self, name):
        return RunDirectory(self.folder / "runs" / name)


@pytest.fixture(scope="module")
def house(podman, tmp_path_factory):
    return House(tmp_path_factory.mktemp("house"))


def steps(run: RunDirectory) -> int:
    """Return how many steps a run has logged."""
    return len(run.metrics.read_text().splitlines()) if run.metrics.exists() else 0


def outcomes(run: RunDirectory) -> list[int]:
    return [event["code"] for event in run.events() if event["event"] == "outcome"]


def test_a_pod_trains_to_the_end_and_leaves_with_0(podman, house, tmp_path):
    pod = podman.play("ends", kubernetes.stream(house.plan("ends", method__epochs=1)), tmp_path)
    run = house.run("ends")
    pod.until(run.lease.path.exists, "the lease")
    lines = pod.exec("cat", "/proc/1/status").splitlines()
    status = {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
    assert status["Uid"].split() == status["Gid"].split() == [str(USER)] * 4
    assert (status["CapEff"], status["CapBnd"], status["NoNewPrivs"]) == ("0" * 16, "0" * 16, "1")
    assert status["Seccomp"] == "2"
    for path in ("/x", "/usr/x", "/etc/hatrain/x", "/house/data/x"):
        assert "Read-only file system" in pod.podman.run("exec", pod.container, "touch", path, check=False)
    assert pod.wait() == 0, pod.logs()
    assert run.done.exists()
    assert (run.model / "model.safetensors").exists()
    assert steps(run) == 4
    assert [event["submission"] for event in run.events() if event["event"] == "submitted"] == ["uid-ends"]
    assert (house.folder / "models/ends").resolve() == run.model
    assert {path.stat().st_uid for path in run.folder.rglob("*")} == {USER}


def test_a_pod_that_kubernetes_ends_leaves_with_75_and_one_that_the_user_stops_with_130(
    podman, house, tmp_path
):
    stream = kubernetes.stream(house.plan("long", method__epochs=100_000, checkpoints__save_steps=100_000))
    run = house.run("long")
    first = podman.play("long-a", stream, tmp_path)
    first.until(lambda: steps(run) >= 1, "a step")
    assert first.stop() == Exit.REQUEUE, first.logs()
    saved = steps(run)

    second = podman.play("long-b", stream, tmp_path)
    second.until(lambda: steps(run) > saved, "a further step")
    word = json.dumps({"reason": "hatrain stop by ada", "requeue": False})
    said = second.exec("bash", "/etc/hatrain/launch/stop.sh", "/house/runs/long", word)
    assert said == "attempt 2 saves a checkpoint at its next step and leaves\n"
    # What Kubernetes says afterwards does not make another word of it.
    pre_stop = kubernetes.pod.STOP
    assert second.exec("bash", "/etc/hatrain/launch/stop.sh", "/house/runs/long", pre_stop)
    assert second.wait() == Exit.STOPPED, second.logs()
    assert outcomes(run) == [Exit.REQUEUE, Exit.STOPPED]
    numbers = [json.loads(line)["step"] for line in run.metrics.read_text().splitlines()]
    assert numbers == list(range(1, len(numbers) + 1))


def test_a_pod_whose_rank_dies_leaves_with_a_fault(podman, house, tmp_path):
    pod = podman.play("dies", kubernetes.stream(house.plan("dies")), tmp_path)
    pod.until(lambda: "killed" in pod.exec("bash", "-c", KILL_A_RANK), "a rank")
    assert pod.wait() == Exit.FAULT, pod.logs()
    assert "ended without an exit report" in pod.logs()


KILL_A_RANK = """
for process in /proc/[0-9]*; do
  words=$(tr '\\0' ' ' 2> /dev/null < "$process/cmdline") || continue
  if [[ $words == *'-m hatrain.train '* && $words != *torch.distributed.run* ]]; then
    kill -9 "${process#/proc/}" && echo killed
  fi
done
"""


def test_a_pod_that_can_never_succeed_leaves_with_78(podman, house, tmp_path):
    pod = podman.play(
        "missing", kubernetes.stream(house.plan("missing", data__train="data/no.jsonl")), tmp_path
    )
    assert pod.wait() == Exit.FATAL
    assert "data.train: data/no.jsonl: no such file" in pod.logs()


def test_a_pod_without_its_interpreter_leaves_with_127(podman, house, tmp_path):
    plan = house.plan("nowhere").model_copy(update={"python": "/no/such/python"})
    assert podman.play("nowhere", kubernetes.stream(plan), tmp_path).wait() == 127


def test_the_user_stops_a_pod_that_waits_for_its_parent(podman, house, tmp_path):
    plan = house.plan("waits", after="nobody")
    house.run("nobody").folder.mkdir()
    pod = podman.play("waits", kubernetes.stream(plan), tmp_path)
    pod.until(lambda: "waiting for nobody to finish" in pod.logs(), "its waiting")
    word = json.dumps({"reason": "hatrain stop by ada", "requeue": False})
    pod.exec("bash", "/etc/hatrain/launch/stop.sh", "/house/runs/waits", word)
    assert pod.wait() == Exit.STOPPED, pod.logs()


@pytest.mark.long
def test_two_pods_of_a_job_meet_train_as_one_and_leave_together(podman, house, tmp_path):
    plan = house.plan("pair", hardware__nodes=2, method__micro_batch_size=2, method__epochs=1)
    stream = kubernetes.stream(plan)
    # This machine's own network, on which node 0 has the name that the Service would give it.
    pods = [
        podman.play(
            f"pair-{node}",
            stream,
            tmp_path,
            index=node,
            network="host",
            hosts="127.0.0.1 localhost pair-0.pair\n",
        )
        for node in (1, 0)
    ]
    assert [pod.wait() for pod in pods] == [0, 0], "".join(pod.logs() for pod in pods)
    run = house.run("pair")
    assert run.done.exists()
    assert steps(run) == 4
    assert "node 1 in attempt 1" in pods[0].logs()
