"""`python docker/lock.py`: writes the image's lock files, every package with its version and hashes, from what uv
resolves, and the digests of the base images. Versions follow the environments that the tests ran in."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCKER = ROOT / "docker"
SOURCES = ("deepspeed", "flash-attn", "gptqmodel", "device-smi", "logbar", "pypcre", "tokenicer", "defuser")
"""Of these the index has no wheel for us: they are built from source, after torch, and locked apart."""


@dataclass(frozen=True)
class Lock:
    """One lock file: what goes in, and what for."""

    says: str
    extras: tuple[str, ...] = ()
    """Of pyproject.toml; its own dependencies as well, unless there are `packages`."""
    packages: tuple[str, ...] = ()
    """Exactly these, and none that they need."""
    follows: tuple[str, ...] = ("requirements.lock", "requirements-deepspeed.lock")
    """The versions that were tested."""
    python: str = "3.12"
    """Of the base image: Ubuntu 24.04's, or Debian 12's 3.11."""
    find_links: bool = False
    """Whether wheels from pip's find-links count, which is where a CPU build of torch comes from."""


LOCKS = {
    "": Lock("The CUDA image: every wheel", extras=("train", "quant", "deepspeed")),
    "gptq": Lock(
        "The CUDA image for GPTQ bases: every wheel; gptqmodel wants an older numpy",
        extras=("train", "quant", "gptq"),
        follows=("requirements-gptq.lock",),
    ),
    "cpu": Lock(
        "The image for processors, on Debian 12: every wheel; torch is the CPU build for Python 3.11",
        extras=("train", "quant", "deepspeed"),
        python="3.11",
        find_links=True,
    ),
    "launch": Lock("The image that plans, renders and submits, and cannot train: every wheel"),
    "build": Lock("What wheels are built with", packages=("setuptools",)),
    "deepspeed": Lock("DeepSpeed, as source", packages=("deepspeed",)),
    "flash-attention": Lock("flash-attn, as source", packages=("flash-attn",)),
    "gptqmodel": Lock(
        "gptqmodel and what it needs that is only source",
        packages=SOURCES[2:],
        follows=("requirements-gptq.lock",),
    ),
}


def main() -> int:
    """Write all that is locked. Returns 1 when something could not be resolved."""
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if uv is None:
        print("docker/lock.py: no uv here; `make lock` brings one", file=sys.stderr)
        return 1
    for name, lock in LOCKS.items():
        file = DOCKER / f"requirements{'-' if name else ''}{name}.lock"
        told = subprocess.run(command(uv, lock), cwd=ROOT, input=wanted(lock), capture_output=True, text=True)
        if told.returncode:
            print(f"{file.name}: {told.stderr}", file=sys.stderr)
            return 1
        file.write_text(f"# {lock.says}. 'make lock' writes it.\n{told.stdout}", encoding="utf-8")
        print(f"{file.relative_to(ROOT)}: {told.stdout.count('==')} packages", file=sys.stderr)
    dockerfile = DOCKER / "Dockerfile"
    dockerfile.write_text(with_digests(dockerfile.read_text(encoding="utf-8"), digest), encoding="utf-8")
    return 0


# --- packages -----------------------------------------------------------------------------------------------


def wanted(lock: Lock) -> str:
    """Return what uv reads from its stdin: packages, or hatrain itself with extras."""
    return (
        "\n".join(lock.packages) if lock.packages else f"hatrain[{','.join(lock.extras)}] @ {ROOT.as_uri()}"
    )


def command(uv: str, lock: Lock) -> list[str]:
    """Return the command that resolves a lock. Of this machine's settings it takes the find-links, where asked."""
    words = [uv, "pip", "compile", "-", "--quiet", "--no-config", "--no-header", "--no-annotate"]
    words += ["--generate-hashes", "--no-python-downloads", "--python-version", lock.python]
    words += ["--python-platform", "x86_64-manylinux_2_28"]
    for file in lock.follows:
        words += ["--constraints", file]
    if lock.packages:
        words += ["--no-deps"]
    else:
        for package in ("hatrain", *SOURCES):
            words += ["--no-emit-package", package]
    if lock.find_links:
        for folder in find_links():
            words += ["--find-links", folder]
    return words


def find_links() -> list[str]:
    """Return where this machine's pip looks for wheels beside the index."""
    told = subprocess.run(
        [sys.executable, "-m", "pip", "config", "get", "global.find-links"], capture_output=True, text=True
    )
    return told.stdout.split()


# --- base images --------------------------------------------------------------------------------------------


def with_digests(dockerfile: str, ask: Callable[[str], str | None]) -> str:
    """Return a Dockerfile whose base images are pinned to what `ask` says of NAME:TAG; of None, one stays as it is."""

    def pin(found: re.Match[str]) -> str:
        told = ask(found["image"])
        return f"{found['argument']}{found['image']}@{told}" if told else found[0]

    image = r"^(?P<argument>ARG (?:BUILD|BASE)_IMAGE=)(?P<image>[^@\s]+)(?:@sha256:[0-9a-f]{64})?$"
    return re.sub(image, pin, dockerfile, flags=re.MULTILINE)


def digest(image: str) -> str | None:
    """Return what a registry says is the digest of an image now; None, and why on stderr, when none answers."""
    command = ["skopeo", "inspect", "--no-tags", "--format", "{{.Digest}}", f"docker://{image}"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    except FileNotFoundError:
        why = "no skopeo here to ask its registry with"
    except subprocess.TimeoutExpired:
        why = "its registry gave no answer in 60 s"
    except subprocess.CalledProcessError as error:
        why = error.stderr.strip().rpartition("\n")[2]
    else:
        return told.stdout.strip()
    print(f"docker/Dockerfile: {image} stays as it is: {why}", file=sys.stderr)
    return None


if __name__ == "__main__":
    sys.exit(main())
