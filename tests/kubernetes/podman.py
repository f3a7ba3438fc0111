"""podman in the place of a node: it runs the pod of a rendered Job for real. What the kubelet and the Job's controller
would have done before, and podman does not, is done here, and nothing else is changed."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml

from tests.kubernetes import checks

ROOT = Path(__file__).parents[2]
IMAGE = "localhost/hatrain-bare:1"


Json = dict[str, Any]


def machine() -> list[str]:
    """Return what the image borrows of this machine, read only: programs, the interpreter, its environment, hatrain."""
    folders = dict.fromkeys(("/usr", sys.base_prefix, sys.prefix, str(ROOT)))
    return [
        one
        for one in folders
        if not any(Path(one).is_relative_to(other) for other in folders if other != one)
    ]


class Podman:
    """podman with settings and a storage of its own, so that it meets no other one."""

    def __init__(self, folder: Path):
        self.folder = folder
        (folder / "containers.conf").write_text(
            '[engine]\nruntime = "runc"\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n'
            '[containers]\ndefault_ulimits = ["nofile=20000:20000", "nproc=20000:20000"]\n'
        )
        (folder / "storage.conf").write_text(
            f'[storage]\ndriver = "vfs"\ngraphroot = "{folder}/graph"\nrunroot = "{folder}/run"\n'
        )
        self._around = {
            **os.environ,
            "CONTAINERS_CONF": str(folder / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
        }

    def run(self, *words: str, given: bytes | None = None, check: bool = True) -> str:
        """Run podman to its end, and return what it prints: what went wrong after what did not."""
        told = subprocess.run(
            ["podman", *words], input=given, env=self._around, capture_output=True, timeout=240, check=False
        )
        said = told.stdout.decode()
        assert not check or told.returncode == 0, f"podman {' '.join(words)}: {said}{told.stderr.decode()}"
        return said if check else said + told.stderr.decode()

    def build(self) -> None:
        """Make the image: a root with nothing in it but the names of folders, which this machine's are mounted over."""
        root = self.folder / "root"
        for name in ("usr", "proc", "sys", "dev", "tmp", "etc"):
            (root / name).mkdir(parents=True)
        for name in ("bin", "sbin", "lib", "lib64"):
            if (Path("/") / name).is_symlink():
                (root / name).symlink_to(f"usr/{name}")
        packed = subprocess.run(["tar", "-C", root, "-c", "."], capture_output=True, check=True).stdout
        self.run("import", "--change", "ENV PATH=/usr/local/bin:/usr/bin:/bin", "-", IMAGE, given=packed)

    def play(
        self, name: str, stream: str, room: Path, *, index: int = 0, network: str = "none", hosts: str = ""
    ) -> "Pod":
        """Start the pod of a stream's Job. `room` takes the folders that the kubelet would make; `hosts` are the names
        that it would find by DNS."""
        manifest = as_a_node_has_it(name, stream, room, index)
        if hosts:
            (room / name / "hosts").write_text(hosts, encoding="utf-8")
            mount(manifest["spec"], "hosts", room / name / "hosts", "/etc/hosts")
        self.run("kube", "play", "--network", network, "-", given=yaml.safe_dump(manifest).encode())
        return Pod(self, name)

    def close(self) -> None:
        """End everything that was started."""
        self.run("pod", "rm", "--force", "--all", "--time", "0", check=False)


class Pod:
    """A pod with its one container."""

    def __init__(self, podman: Podman, name: str):
        self.podman, self.name = podman, name
        self.container = f"{name}-hatrain"

    def wait(self) -> int:
        """Return the exit code, once it has left."""
        return int(self.podman.run("wait", self.container))

    def stop(self, grace: int = 180) -> int:
        """Send SIGTERM, as the kubelet does; return the exit code."""
        self.podman.run("stop", "--time", str(grace), self.container)
        return self.wait()

    def exec(self, *command: str) -> str:
        """Run a command inside."""
        return self.podman.run("exec", self.container, *command)

    def logs(self) -> str:
        """Return what it printed."""
        return self.podman.run("logs", self.container, check=False)

    def until(self, seen: Any, what: str, seconds: float = 180.0) -> None:
        """Wait until something is to be seen."""
        deadline = time.monotonic() + seconds
        while not seen():
            state = self.podman.run("inspect", "--format", "{{.State.Status}}", self.container).strip()
            assert state == "running", f"{self.name} left before {what}: {self.logs()}"
            assert time.monotonic() < deadline, f"{self.name}: {what} did not come: {self.logs()}"
            time.sleep(0.2)


def as_a_node_has_it(name: str, stream: str, room: Path, index: int) -> Json:
    """Return the Pod that a Job's controller makes, its volumes as the kubelet makes them.

    podman 4.3 puts no file of a ConfigMap into a folder, makes no emptyDir that everybody may write to, and none in
    memory: all three are folders here. The image borrows this machine's programs, which are mounted beside.
    """
    job = checks.inner_job(stream)
    spec: Json = job["spec"]["template"]["spec"]
    held = checks.of_kind(stream, "ConfigMap")["data"]
    volumes = [_made(volume, room / name / volume["name"], held) for volume in spec["volumes"]]
    container: Json = dict(checks.container_of(stream))
    container["env"] = [*container["env"], {"name": "JOB_COMPLETION_INDEX", "value": str(index)}]
    meta = job["spec"]["template"]["metadata"]
    labels = {**meta["labels"], "batch.kubernetes.io/controller-uid": f"uid-{job['metadata']['name']}"}
    made: Json = {**spec, "containers": [container], "volumes": volumes}
    for number, path in enumerate(machine()):
        mount(made, f"machine-{number}", Path(path), path)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels, "annotations": meta["annotations"]},
        "spec": made,
    }


def mount(spec: Json, name: str, source: Path, target: str) -> None:
    """Mount something of this machine into a pod, read only."""
    kind = "Directory" if source.is_dir() else "File"
    spec["volumes"].append({"name": name, "hostPath": {"path": str(source), "type": kind}})
    (container,) = spec["containers"]
    read_only = {"name": name, "mountPath": target, "readOnly": True}
    container["volumeMounts"] = [*container["volumeMounts"], read_only]


def _made(volume: Json, folder: Path, held: dict[str, str]) -> Json:
    if "configMap" in volume:
        for item in volume["configMap"]["items"]:
            path = folder / item["path"]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(held[item["key"]], encoding="utf-8")
    elif "emptyDir" in volume:
        folder.mkdir(parents=True)
        folder.chmod(0o777)
    else:
        return volume
    return {"name": volume["name"], "hostPath": {"path": str(folder), "type": "Directory"}}
