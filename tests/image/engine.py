"""buildah and podman for tests, with storage and settings of their own; and a Debian made by debootstrap in place of
CUDA's base images. Nothing of this machine's own container settings is read or changed."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.require import cannot, need

ROOT = Path(__file__).resolve().parents[2]
BASE = "localhost/base"
HOST = "/mnt/host"
"""Where a build finds what it needs of this machine: certificates, and wheels that lie on its disk."""

CONTAINERS = """\
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=20000:20000"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"""


def cache() -> Path:
    """Return the folder that outlives a test run: $HATRAIN_CACHE, else ~/.cache/hatrain."""
    return Path(os.environ.get("HATRAIN_CACHE") or Path.home() / ".cache" / "hatrain")


def base_archive() -> Path:
    """Return a small Debian as a tar file, made once (about half a minute) and kept. Skips where it cannot be made."""
    need("buildah", "buildah", "podman", "runc", "debootstrap")
    if os.getuid() != 0:
        cannot("buildah", "needs root, for debootstrap and for containers without user namespaces")
    archive = cache() / "image" / "debian-bookworm.tar"
    archive.parent.mkdir(parents=True, exist_ok=True)
    with archive.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not archive.exists():
            with tempfile.TemporaryDirectory(dir=archive.parent) as folder:
                made = subprocess.run(
                    ["debootstrap", "--variant=minbase", "bookworm", f"{folder}/root"],
                    capture_output=True,
                    text=True,
                )
                assert made.returncode == 0, made.stdout[-2000:]
                for package in Path(folder, "root/var/cache/apt/archives").glob("*.deb"):
                    package.unlink()
                aside = archive.with_suffix(".partial")
                subprocess.run(["tar", "-C", f"{folder}/root", "-cf", aside, "."], check=True)
                aside.replace(archive)
    return archive


@dataclass
class Finished:
    """How a command in a container ended."""

    code: int
    out: str
    err: str


@dataclass
class Engine:
    """One storage of images, below `folder`, and what is done with it."""

    folder: Path
    environment: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        settings, storage = self.folder / "containers.conf", self.folder / "storage.conf"
        self.folder.mkdir(parents=True, exist_ok=True)
        settings.write_text(CONTAINERS)
        storage.write_text(
            f'[storage]\ndriver = "overlay"\ngraphroot = "{self.folder}/root"\nrunroot = "{self.folder}/run"\n'
        )
        self.environment = {
            **os.environ,
            "CONTAINERS_CONF": str(settings),
            "CONTAINERS_STORAGE_CONF": str(storage),
            # The engines leave their own temporary files there, layers among them.
            "TMPDIR": str(self.folder),
        }

    # --- building ---

    def make_base(self) -> None:
        """Bring in the Debian that stands for CUDA's images."""
        archive = base_archive()
        container = self.call("buildah", "from", "scratch").out.strip()
        self.call("buildah", "add", "--quiet", container, str(archive), "/")
        self.call("buildah", "commit", "--quiet", "--rm", container, BASE)

    def build(self, tag: str, *words: str, **arguments: str) -> str:
        """Build the project's Dockerfile on the base, as `make image` does, with further words for the engine.

        Returns what that prints of the image's size.
        """
        mounts, settings = self._of_this_machine()
        secret = self.folder / "pip.conf"
        secret.write_text(settings)
        flags = [
            "--isolation",
            "chroot",
            "--network",
            "host",
            "--secret",
            f"id=pip,src={secret}",
            *mounts,
            *words,
        ]
        given = {"BUILD_IMAGE": BASE, "BASE_IMAGE": BASE, **arguments}
        return self.script("build", tag, BUILD_FLAGS=" ".join(flags), **given)

    def script(self, verb: str, tag: str, **around: str) -> str:
        """Run docker/image.sh on an image of this storage, with buildah. Returns its stdout."""
        told = subprocess.run(
            ["bash", str(ROOT / "docker" / "image.sh"), verb],
            env=self.environment | {"ENGINE": "buildah", "IMAGE": tag, **around},
            capture_output=True,
            text=True,
        )
        assert told.returncode == 0, told.stderr[-6000:]
        return told.stdout

    def _of_this_machine(self) -> tuple[list[str], str]:
        """Return volumes and a pip.conf that let pip in a build find what pip finds here."""
        told = subprocess.run(
            [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
        ).stdout
        here: dict[str, str] = {}
        for line in told.splitlines():
            name, _, value = line.partition("=")
            here[name.rpartition(".")[2]] = value.strip("'")
        mounts, lines = [], ["[global]"]
        if certificates := here.get("cert"):
            mounts += ["--volume", f"{certificates}:{HOST}/certificates.pem:ro"]
            lines.append(f"cert = {HOST}/certificates.pem")
        for folder in here.get("find-links", "").split():
            mounts += ["--volume", f"{folder}:{HOST}/wheels:ro"]
            lines.append(f"find-links = {HOST}/wheels")
        lines += [f"{key} = {here[key]}" for key in ("index-url", "trusted-host", "timeout") if key in here]
        return mounts, "\n".join(lines) + "\n"

    # --- running ---

    def start(self, image: str, *words: str, name: str, options: Sequence[str] = ()) -> subprocess.Popen[str]:
        """Start a container that a signal can be sent to by its name."""
        command = ["podman", "run", "--rm", "--name", name, "--network", "none", *options, image, *words]
        return subprocess.Popen(
            command, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def run(self, image: str, *words: str, options: Sequence[str] = (), timeout: float = 600) -> Finished:
        """Run a container to its end, without a network."""
        command = ["podman", "run", "--rm", "--network", "none", *options, image, *words]
        return self.call(*command, check=False, timeout=timeout)

    def inspect(self, image: str) -> dict:
        """Return an image's configuration."""
        return json.loads(self.call("podman", "image", "inspect", image).out)[0]

    def call(self, *command: str, check: bool = True, timeout: float = 3000) -> Finished:
        """Run a command in this storage."""
        told = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=timeout)
        assert not check or told.returncode == 0, f"{command}: {told.stdout[-3000:]}\n{told.stderr[-3000:]}"
        return Finished(told.returncode, told.stdout, told.stderr)

    def clear(self) -> None:
        """Give back the disk."""
        for words in ("podman rm --all --force", "buildah rm --all", "buildah rmi --all --force"):
            self.call(*words.split(), check=False)
        shutil.rmtree(self.folder, ignore_errors=True)
