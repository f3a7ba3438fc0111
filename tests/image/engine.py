"""buildah and podman for tests, with their own storage and settings, and a Debian from debootstrap instead of CUDA's
base images. This machine's own container settings are neither read nor changed."""

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

from tests.image.locks import normalized
from tests.require import cannot, need

ROOT = Path(__file__).resolve().parents[2]
BASE = "localhost/base"
HOST = "/mnt/host"
"""Where this machine's certificates and wheels are mounted during a build."""

CONTAINERS = """\
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=20000:20000"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"""


def cache() -> Path:
    """Return the folder that is kept between test runs: $HATRAIN_CACHE, else ~/.cache/hatrain."""
    return Path(os.environ.get("HATRAIN_CACHE") or Path.home() / ".cache" / "hatrain")


def base_archive() -> Path:
    """Return a minimal Debian as a tar file, made once (about half a minute). Skips the test if it cannot be made."""
    need("buildah", "buildah", "podman", "runc", "debootstrap")
    if os.getuid() != 0:
        cannot("buildah", "needs root, for debootstrap and for containers without user namespaces")
    archive = cache() / "image" / "debian-bookworm.tar"
    archive.parent.mkdir(parents=True, exist_ok=True)
    with archive.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not archive.exists():
            with tempfile.TemporaryDirectory(dir=archive.parent) as folder:
                bootstrap = subprocess.run(
                    ["debootstrap", "--variant=minbase", "bookworm", f"{folder}/root"],
                    capture_output=True,
                    text=True,
                )
                assert bootstrap.returncode == 0, bootstrap.stdout[-2000:]
                for package in Path(folder, "root/var/cache/apt/archives").glob("*.deb"):
                    package.unlink()
                partial = archive.with_suffix(".partial")
                subprocess.run(["tar", "-C", f"{folder}/root", "-cf", partial, "."], check=True)
                partial.replace(archive)
    return archive


@dataclass
class Result:
    """The outcome of a command in a container."""

    code: int
    out: str
    err: str


@dataclass
class Engine:
    """A container storage in `folder`, and the commands on it."""

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
            # The engines write temporary files there, including layers.
            "TMPDIR": str(self.folder),
        }

    # --- building ---

    def make_base(self) -> None:
        """Import the Debian that replaces CUDA's images."""
        archive = base_archive()
        container = self.call("buildah", "from", "scratch").out.strip()
        self.call("buildah", "add", "--quiet", container, str(archive), "/")
        self.call("buildah", "commit", "--quiet", "--rm", container, BASE)

    def build(self, tag: str, *options: str, **arguments: str) -> str:
        """Build the Dockerfile on the base as `make image` does, with more options for the engine.

        Returns what it prints about the image's size.
        """
        mounts, settings = self._pip_settings()
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
            *options,
        ]
        variables = {"BUILD_IMAGE": BASE, "BASE_IMAGE": BASE, **arguments}
        return self.script("build", tag, BUILD_FLAGS=" ".join(flags), **variables)

    def script(self, verb: str, tag: str, **variables: str) -> str:
        """Run docker/image.sh on an image of this storage, with buildah. Returns its stdout."""
        process = subprocess.run(
            ["bash", str(ROOT / "docker" / "image.sh"), verb],
            env=self.environment | {"ENGINE": "buildah", "IMAGE": tag, **variables},
            capture_output=True,
            text=True,
        )
        assert process.returncode == 0, process.stderr[-6000:]
        return process.stdout

    def _pip_settings(self) -> tuple[list[str], str]:
        """Return volumes and a pip.conf that give pip in a build the settings of this machine's pip."""
        listing = subprocess.run(
            [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
        ).stdout
        settings: dict[str, str] = {}
        for line in listing.splitlines():
            name, _, value = line.partition("=")
            settings[name.rpartition(".")[2]] = value.strip("'")
        mounts, lines = [], ["[global]"]
        if certificates := settings.get("cert"):
            mounts += ["--volume", f"{certificates}:{HOST}/certificates.pem:ro"]
            lines.append(f"cert = {HOST}/certificates.pem")
        for folder in settings.get("find-links", "").split():
            mounts += ["--volume", f"{folder}:{HOST}/wheels:ro"]
            lines.append(f"find-links = {HOST}/wheels")
        lines += [f"{key} = {settings[key]}" for key in ("index-url", "trusted-host", "timeout") if key in settings]
        return mounts, "\n".join(lines) + "\n"

    # --- running ---

    def start(self, image: str, *arguments: str, name: str, options: Sequence[str] = ()) -> subprocess.Popen[str]:
        """Start a container with a name, so that it can be sent signals."""
        command = ["podman", "run", "--rm", "--name", name, "--network", "none", *options, image, *arguments]
        return subprocess.Popen(
            command, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def run(self, image: str, *arguments: str, options: Sequence[str] = (), timeout: float = 600) -> Result:
        """Run a container without a network, and wait for it."""
        command = ["podman", "run", "--rm", "--network", "none", *options, image, *arguments]
        return self.call(*command, check=False, timeout=timeout)

    def packages(self, image: str) -> dict[str, str]:
        """Return {package: version} of hatrain's interpreter in an image."""
        code = "import importlib.metadata as m, json; print(json.dumps({d.name: d.version for d in m.distributions()}))"
        result = self.run(image, "-c", code, options=["--entrypoint", "python3"])
        assert result.code == 0, result.err
        return {normalized(name): version for name, version in json.loads(result.out).items()}

    def inspect(self, image: str) -> dict:
        return json.loads(self.call("podman", "image", "inspect", image).out)[0]

    def call(self, *command: str, check: bool = True, timeout: float = 3000) -> Result:
        """Run a command on this storage."""
        process = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=timeout)
        output = f"{process.stdout[-3000:]}\n{process.stderr[-3000:]}"
        assert not check or process.returncode == 0, f"{command}: {output}"
        return Result(process.returncode, process.stdout, process.stderr)

    def clear(self) -> None:
        for command in ("podman rm --all --force", "buildah rm --all", "buildah rmi --all --force"):
            self.call(*command.split(), check=False)
        shutil.rmtree(self.folder, ignore_errors=True)
