"""Runs the pod of a rendered Job with podman, in place of a node. What the kubelet and the Job controller would do
before, and podman does not, is done here; nothing else is changed."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from tests.kubernetes import checks

ROOT = Path(__file__).parents[2]
IMAGE = "localhost/hatrain-bare:1"
DEADLINE = 600
"""Seconds. It only ends a test that hangs."""

Json = dict[str, Any]


def machine() -> list[str]:
    """Folders of this machine that are mounted read-only: programs, the interpreter, its packages, hatrain."""
    folders = dict.fromkeys(("/usr", sys.base_prefix, sys.prefix, str(ROOT)))
    return [one for one in folders if not any(Path(one).is_relative_to(other) for other in folders if other != one)]


class Podman:
    """podman with its own settings and storage."""

    def __init__(self, folder: Path):
        self.folder = folder
        (folder / "containers.conf").write_text(
            '[engine]\nruntime = "runc"\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n'
            '[containers]\ndefault_ulimits = ["nofile=20000:20000", "nproc=20000:20000"]\n'
        )
        (folder / "storage.conf").write_text(
            f'[storage]\ndriver = "vfs"\ngraphroot = "{folder}/graph"\nrunroot = "{folder}/run"\n'
        )
        self._environment = {
            **os.environ,
            "CONTAINERS_CONF": str(folder / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
        }

    def run(self, *arguments: str, stdin: bytes | None = None, check: bool = True) -> str:
        """Run podman. Returns its stdout; without `check`, which requires exit code 0, stderr as well."""
        result = subprocess.run(
            ["podman", *arguments],
            input=stdin,
            env=self._environment,
            capture_output=True,
            timeout=DEADLINE,
            check=False,
        )
        out, err = result.stdout.decode(), result.stderr.decode()
        assert not check or result.returncode == 0, f"podman {' '.join(arguments)}: {out}{err}"
        return out if check else out + err

    def build(self) -> None:
        """Make the image: empty folders, over which those of this machine are mounted."""
        root = self.folder / "root"
        for name in ("usr", "proc", "sys", "dev", "tmp", "etc"):
            (root / name).mkdir(parents=True)
        for name in ("bin", "sbin", "lib", "lib64"):
            if (Path("/") / name).is_symlink():
                (root / name).symlink_to(f"usr/{name}")
        packed = subprocess.run(["tar", "-C", root, "-c", "."], capture_output=True, check=True).stdout
        self.run("import", "--change", "ENV PATH=/usr/local/bin:/usr/bin:/bin", "-", IMAGE, stdin=packed)

    def play(
        self,
        name: str,
        manifests: str,
        folder: Path,
        *,
        index: int = 0,
        network: str = "none",
        hosts: str = "",
    ) -> "Pod":
        """Start the pod of a Job. `folder` takes the folders that the kubelet would make; `hosts` replaces DNS."""
        pod = pod_of_a_node(name, manifests, folder, index)
        if hosts:
            (folder / name / "hosts").write_text(hosts, encoding="utf-8")
            mount(pod["spec"], "hosts", folder / name / "hosts", "/etc/hosts")
        self.run("kube", "play", "--network", network, "-", stdin=yaml.safe_dump(pod).encode())
        return Pod(self, name)

    def close(self) -> None:
        self.run("pod", "rm", "--force", "--all", "--time", "0", check=False)


class Pod:
    """A pod with one container."""

    def __init__(self, podman: Podman, name: str):
        self.podman, self.name = podman, name
        self.container = f"{name}-hatrain"

    def wait(self) -> int:
        """Wait for the end. Returns the exit code."""
        return int(self.podman.run("wait", self.container))

    def stop(self, grace: int = 180) -> int:
        """Send SIGTERM, as the kubelet does. Returns the exit code."""
        self.podman.run("stop", "--time", str(grace), self.container)
        return self.wait()

    def exec(self, *command: str) -> str:
        return self.podman.run("exec", self.container, *command)

    def logs(self) -> str:
        return self.podman.run("logs", self.container, check=False)

    def until(self, condition: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + DEADLINE
        while not condition():
            state = self.podman.run("inspect", "--format", "{{.State.Status}}", self.container).strip()
            assert state == "running", f"{self.name} ended before: {what}: {self.logs()}"
            assert time.monotonic() < deadline, f"{self.name}: did not happen: {what}: {self.logs()}"
            time.sleep(0.2)


def pod_of_a_node(name: str, manifests: str, folder: Path, index: int) -> Json:
    """The pod that the Job controller makes, with its volumes as the kubelet makes them.

    podman 4.3 does not put the files of a ConfigMap into a folder, and makes no emptyDir that is world-writable or in
    memory: all three are folders here. The programs of this machine are mounted as well.
    """
    job = checks.inner_job(manifests)
    spec: Json = job["spec"]["template"]["spec"]
    contents = checks.of_kind(manifests, "ConfigMap")["data"]
    volumes = [_volume(volume, folder / name / volume["name"], contents) for volume in spec["volumes"]]
    container: Json = dict(checks.container_of(manifests))
    container["env"] = [*container["env"], {"name": "JOB_COMPLETION_INDEX", "value": str(index)}]
    meta = job["spec"]["template"]["metadata"]
    labels = {**meta["labels"], "batch.kubernetes.io/controller-uid": f"uid-{job['metadata']['name']}"}
    pod_spec: Json = {**spec, "containers": [container], "volumes": volumes}
    for number, path in enumerate(machine()):
        mount(pod_spec, f"machine-{number}", Path(path), path)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels, "annotations": meta["annotations"]},
        "spec": pod_spec,
    }


def mount(spec: Json, name: str, source: Path, target: str) -> None:
    """Mount a path of this machine into a pod, read-only."""
    kind = "Directory" if source.is_dir() else "File"
    spec["volumes"].append({"name": name, "hostPath": {"path": str(source), "type": kind}})
    (container,) = spec["containers"]
    read_only = {"name": name, "mountPath": target, "readOnly": True}
    container["volumeMounts"] = [*container["volumeMounts"], read_only]


def _volume(volume: Json, folder: Path, contents: dict[str, str]) -> Json:
    if "configMap" in volume:
        for item in volume["configMap"]["items"]:
            path = folder / item["path"]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(contents[item["key"]], encoding="utf-8")
    elif "emptyDir" in volume:
        folder.mkdir(parents=True)
        folder.chmod(0o777)
    else:
        return volume
    return {"name": volume["name"], "hostPath": {"path": str(folder), "type": "Directory"}}
