"""A laptop from which runs are submitted to the small API server, with the real hatrain and kubectl."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from tests.kubernetes.api_server import ApiServer

CLUSTER = {
    "kind": "kubernetes",
    "context": "my-cluster",
    "namespace": "team",
    "image": f"hatrain@sha256:{'0' * 64}",
    "runs": {"claim": "runs", "access": "ReadWriteMany"},
}
JOB = {
    "name": "kitchen",
    "model": {"base": "some/base"},
    "data": {"train": "train.jsonl"},
    "hardware": {"gpu": "cpu", "nodes": 2},
    "evaluation": {"requests": 0},
    "limits": {"time": "01:00:00"},
}


class Laptop:
    """A folder from which runs are submitted, and the server that they go to."""

    def __init__(self, folder: Path, api: ApiServer, **cluster: Any):
        self.folder, self.api = folder, api
        (folder / "cluster.yaml").write_text(yaml.safe_dump({**CLUSTER, **cluster}))
        (folder / "kitchen.yaml").write_text(yaml.safe_dump(JOB))
        (folder / "train.jsonl").write_text('{"text": "hello"}\n')
        config = api.kubeconfig(folder / "kubeconfig")
        self.environment = {**os.environ, "KUBECONFIG": str(config), "HOME": str(folder), "OMP_NUM_THREADS": "1"}

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "hatrain", *arguments],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def hatrain(self, *arguments: str, code: int | None = 0) -> str:
        process = self.start(*arguments)
        output, _ = process.communicate(timeout=600)
        assert code is None or process.returncode == code, f"{arguments}: {process.returncode}:\n{output}"
        return output

    def submit(self, *arguments: str, code: int | None = 0) -> str:
        return self.hatrain("submit", "kitchen.yaml", "--cluster", "cluster.yaml", *arguments, code=code)
