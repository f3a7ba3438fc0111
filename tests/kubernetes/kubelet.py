"""Runs the pods of the Job or JobSet that the small API server holds, as processes of this machine: the files of the
ConfigMap, the environment and the command are those that were submitted; only the trainer is a fake."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from launch.backends.kubernetes.controllers import CONTROLLER_UID, JOBSET_UID
from launch.backends.kubernetes.pod import FILES
from tests import fake_entry
from tests.kubernetes import objects
from tests.kubernetes.api_server import ApiServer

Json = dict[str, Any]


class Pod:
    """One pod: its object at the API server, and its process."""

    def __init__(self, name: str, folder: Path, process: "subprocess.Popen[str]"):
        self.name, self.folder, self.process = name, folder, process

    def end(self) -> tuple[int, str]:
        """Wait for its end. Returns the exit code and what it printed."""
        output, _ = self.process.communicate(timeout=600)
        return self.process.returncode, output


class Kubelet:
    """`cluster` is what a cluster file says, for the paths in the pods to be those of this machine."""

    def __init__(self, folder: Path, api: ApiServer):
        self.folder, self.api = folder, api
        self.workdir = folder / "workspace"
        self.workdir.mkdir(parents=True)
        (self.workdir / "train.jsonl").write_text('{"text": "hello"}\n')
        python = folder / "python"
        # node.sh calls it with `-m hatrain.entry PLAN`.
        python.write_text(f'#!/bin/bash\nexec {sys.executable} {fake_entry.__file__} "$3"\n')
        python.chmod(0o755)
        self.cluster = {"workdir": str(self.workdir), "python": str(python)}
        self.pods: list[Pod] = []
        api.execute = self._execute

    def close(self) -> None:
        for pod in self.pods:
            if pod.process.poll() is None:
                pod.process.kill()
                pod.process.communicate()

    def start(self, *indices: int, act: str = "finish") -> list[Pod]:
        """Start the pods of these nodes. `act` says what the fake trainer does in each attempt."""
        started = [self._start(index, act) for index in indices]
        self.pods += started
        return started

    def ask_to_end(self, pod: Pod) -> None:
        """End a pod as Kubernetes does: what it wants before it stops, then SIGTERM."""
        (container,) = self.api.objects["pods", pod.name]["spec"]["containers"]
        output, code = self._execute(pod.name, container["lifecycle"]["preStop"]["exec"]["command"])
        assert code == 0, output
        pod.process.terminate()

    def complete(self) -> None:
        """Say that the Job has ended, as a controller would."""
        kind = {"Job": "Complete", "JobSet": "Completed"}[self._controller()["kind"]]
        self._controller()["status"] = {"conditions": [objects.condition(kind)]}

    def _controller(self) -> Json:
        (found,) = [each for (plural, _), each in self.api.objects.items() if plural in ("jobs", "jobsets")]
        return found

    def _start(self, index: int, act: str) -> Pod:
        controller = self._controller()
        job, template = controller["metadata"]["name"], controller["spec"].get("template")
        if template is None:
            (replicated,) = controller["spec"]["replicatedJobs"]
            job, template = f"{job}-{replicated['name']}-0", replicated["template"]["spec"]["template"]
        spec = template["spec"]
        (container,) = spec["containers"]
        uid = controller["metadata"]["uid"]
        each = objects.pod(job, "Running", index=index, minute=len(self.pods) + index + 1)
        labels = {**template["metadata"]["labels"], CONTROLLER_UID: uid, JOBSET_UID: uid}
        each["metadata"] |= {
            "labels": labels,
            "annotations": {**each["metadata"]["annotations"], **template["metadata"]["annotations"]},
        }
        each["spec"] = spec
        name = each["metadata"]["name"]
        folder = self.folder / name
        (volume,) = [one["configMap"] for one in spec["volumes"] if "configMap" in one]
        for item in volume["items"]:
            path = folder / item["path"]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self.api.objects["configmaps", volume["name"]]["data"][item["key"]])
        process = subprocess.Popen(
            [part.replace(FILES, str(folder)) for part in container["command"]],
            cwd=self.workdir,
            env={
                **{key: value for key, value in os.environ.items() if not key.startswith(("SLURM_", "HATRAIN_"))},
                **{one["name"]: _value(one, labels) for one in container["env"]},
                "JOB_COMPLETION_INDEX": str(index),
                # There is no name service that knows the pods.
                "MASTER_ADDR": "127.0.0.1",
                "ACT": act,
                "POLL": "0.05",
                "LOST_PEER": "0.3",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.api.put(each)
        return Pod(name, folder, process)

    def _execute(self, name: str, command: list[str]) -> tuple[str, int]:
        """Run a command in a pod. Its first process has another number here."""
        (pod,) = [each for each in self.pods if each.name == name]
        script = pod.folder / "launch/stop.sh"
        text = script.read_text()
        assert text.count("entry=1 ") <= 1
        script.write_text(text.replace("entry=1 ", f"entry={pod.process.pid} "))
        done = subprocess.run(
            [part.replace(FILES, str(pod.folder)) for part in command], capture_output=True, text=True, timeout=600
        )
        return done.stdout + done.stderr, done.returncode


def _value(variable: Json, labels: dict[str, str]) -> str:
    if "value" in variable:
        return str(variable["value"])
    path = variable["valueFrom"]["fieldRef"]["fieldPath"]
    return labels[path.removeprefix("metadata.labels['").removesuffix("']")]
