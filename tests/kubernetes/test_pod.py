"""The pod of a rendered Job, run by podman: it trains as an unprivileged user on a read-only root, and exits with each
code that the Job distinguishes."""

import json
import os
import sys
from pathlib import Path

import pytest

from hatrain.contract.cluster import KubernetesCluster
from hatrain.contract.run import Exit, RunDirectory
from launch import planner
from launch.backends.kubernetes.pod import STOP
from tests.kubernetes.podman import IMAGE, Podman
from tests.launch.rendering import single_file
from tests.plans import a_job
from tests.require import cannot, need
from tests.storage import storage
from tests.train.conftest import house_rows, write_rows

USER = 10001


@pytest.fixture(scope="module")
def podman():
    need("podman", "podman", "runc", "conmon", "catatonit")
    if os.geteuid():
        cannot("podman", "needs root on this machine")
    with storage() as folder:
        podman = Podman(folder)
        podman.build()
        yield podman
        podman.close()


class Volumes:
    """The volumes of a node: rows, a tiny base model, runs. Only root and the user of the pods may write there."""

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
        cluster = KubernetesCluster(
            kind="kubernetes",
            image=IMAGE,
            image_pull_policy="Never",
            python=sys.executable,
            workdir="/training",
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
        return planner.plan(a_job(name=name, **job), cluster, "my-k8s", workdir=nowhere, runs_root=nowhere)

    def run(self, name):
        return RunDirectory(self.folder / "runs" / name)


@pytest.fixture(scope="module")
def volumes(podman, tmp_path_factory):
    return Volumes(tmp_path_factory.mktemp("volumes"))


def logged_steps(run: RunDirectory) -> int:
    return len(run.metrics.read_text().splitlines()) if run.metrics.exists() else 0


def exit_codes(run: RunDirectory) -> list[int]:
    return [event["code"] for event in run.events() if event["event"] == "outcome"]


def test_a_pod_trains_to_the_end_and_exits_with_0(podman, volumes, tmp_path):
    pod = podman.play("ends", single_file(volumes.plan("ends", method__epochs=1)), tmp_path)
    run = volumes.run("ends")
    pod.until(run.lease.path.exists, "the lease")
    lines = pod.exec("cat", "/proc/1/status").splitlines()
    status = {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
    assert status["Uid"].split() == status["Gid"].split() == [str(USER)] * 4
    assert (status["CapEff"], status["CapBnd"], status["NoNewPrivs"]) == ("0" * 16, "0" * 16, "1")
    assert status["Seccomp"] == "2"
    for path in ("/x", "/usr/x", "/etc/hatrain/x", "/training/data/x"):
        assert "Read-only file system" in pod.podman.run("exec", pod.container, "touch", path, check=False)
    assert pod.wait() == 0, pod.logs()
    assert run.done.exists()
    assert (run.model / "model.safetensors").exists()
    assert logged_steps(run) == 4
    assert [event["submission"] for event in run.events() if event["event"] == "submitted"] == ["uid-ends"]
    assert (volumes.folder / "models/ends").resolve() == run.model
    assert {path.stat().st_uid for path in run.folder.rglob("*")} == {USER}


def test_a_pod_exits_with_75_if_kubernetes_ends_it_and_with_130_if_the_user_stops_it(podman, volumes, tmp_path):
    manifests = single_file(volumes.plan("long", method__epochs=100_000, checkpoints__save_steps=100_000))
    run = volumes.run("long")
    first = podman.play("long-a", manifests, tmp_path)
    first.until(lambda: logged_steps(run) >= 1, "a step")
    assert first.stop() == Exit.REQUEUE, first.logs()
    saved = logged_steps(run)

    second = podman.play("long-b", manifests, tmp_path)
    second.until(lambda: logged_steps(run) > saved, "a further step")
    request = json.dumps({"reason": "hatrain stop by ada", "requeue": False})
    output = second.exec("bash", "/etc/hatrain/launch/stop.sh", "/training/runs/long", request)
    assert output == "attempt 2 saves a checkpoint after its current step and exits\n"
    # A later request of Kubernetes does not override it.
    assert second.exec("bash", "/etc/hatrain/launch/stop.sh", "/training/runs/long", STOP)
    assert second.wait() == Exit.STOPPED, second.logs()
    assert exit_codes(run) == [Exit.REQUEUE, Exit.STOPPED]
    numbers = [json.loads(line)["step"] for line in run.metrics.read_text().splitlines()]
    assert numbers == list(range(1, len(numbers) + 1))


def test_a_pod_whose_rank_dies_exits_with_a_fault(podman, volumes, tmp_path):
    pod = podman.play("dies", single_file(volumes.plan("dies")), tmp_path)
    pod.until(lambda: "killed" in pod.exec("bash", "-c", KILL_A_RANK), "a rank")
    assert pod.wait() == Exit.FAULT, pod.logs()
    assert "ended without an exit report" in pod.logs()


KILL_A_RANK = """
for process in /proc/[0-9]*; do
  words=$(tr '\\0' ' ' 2> /dev/null < "$process/cmdline") || continue
  if [[ $words == *'-m hatrain.train '* && $words != *hatrain.train.torchrun* ]]; then
    kill -9 "${process#/proc/}" && echo killed
  fi
done
"""


def test_a_pod_that_can_never_succeed_exits_with_78(podman, volumes, tmp_path):
    pod = podman.play("missing", single_file(volumes.plan("missing", data__train="data/no.jsonl")), tmp_path)
    assert pod.wait() == Exit.FATAL
    assert "data.train: data/no.jsonl: no such file" in pod.logs()


def test_a_pod_without_its_interpreter_exits_with_127(podman, volumes, tmp_path):
    plan = volumes.plan("nowhere").model_copy(update={"python": "/no/such/python"})
    assert podman.play("nowhere", single_file(plan), tmp_path).wait() == 127


def test_the_user_stops_a_pod_that_waits_for_another_run(podman, volumes, tmp_path):
    plan = volumes.plan("waits", after="nobody")
    volumes.run("nobody").folder.mkdir()
    pod = podman.play("waits", single_file(plan), tmp_path)
    pod.until(lambda: "waiting for nobody to finish" in pod.logs(), "it waits")
    request = json.dumps({"reason": "hatrain stop by ada", "requeue": False})
    pod.exec("bash", "/etc/hatrain/launch/stop.sh", "/training/runs/waits", request)
    assert pod.wait() == Exit.STOPPED, pod.logs()


@pytest.mark.long
def test_two_pods_of_a_job_train_one_model_and_exit_together(podman, volumes, tmp_path):
    plan = volumes.plan("pair", hardware__nodes=2, method__micro_batch_size=2, method__epochs=1)
    manifests = single_file(plan)
    # On the network of this machine, where node 0 has the name that the Service would give it.
    pods = [
        podman.play(
            f"pair-{node}",
            manifests,
            tmp_path,
            index=node,
            network="host",
            hosts="127.0.0.1 localhost pair-0.pair\n",
        )
        for node in (1, 0)
    ]
    assert [pod.wait() for pod in pods] == [0, 0], "".join(pod.logs() for pod in pods)
    run = volumes.run("pair")
    assert run.done.exists()
    assert logged_steps(run) == 4
    assert "node 1 in attempt 1" in pods[0].logs()
