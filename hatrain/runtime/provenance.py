"""What the record says about an attempt: versions, commit, host, user. It imports none of the packages."""

import contextlib
import getpass
import hashlib
import json
import os
import platform
import socket
import subprocess
from importlib import metadata
from pathlib import Path

import hatrain

_PACKAGES = ("torch", "transformers", "trl", "peft")


def versions() -> dict[str, str]:
    """Return the versions of Python and of the installed packages that a result depends on."""
    found = {"python": platform.python_version(), "hatrain": hatrain.__version__}
    for package in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


SNAPSHOT = "snapshot.json"
"""In the folder of a copied package: the commit that it was copied from."""
_PACKAGE = Path(__file__).parents[1]


def package_digest() -> str:
    """Return the SHA-256 of every file of this package and its path: whether two starts ran the same code."""
    sums = hashlib.sha256()
    for path in sorted(_PACKAGE.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            sums.update(f"{path.relative_to(_PACKAGE).as_posix()}\0{path.stat().st_size}\0".encode())
            sums.update(path.read_bytes())
    return sums.hexdigest()


def commit() -> str | None:
    """Return the commit of hatrain's checkout, with `-dirty` after local changes, or the commit its image was built
    from, or its copy was made from; None for an installed package."""
    with contextlib.suppress(OSError, ValueError, KeyError):
        copied_from = json.loads((_PACKAGE.parent / SNAPSHOT).read_text(encoding="utf-8"))["commit"]
        return str(copied_from) if copied_from else None
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40"]
    command += ["--exclude=*"]
    try:
        described = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        built_from = os.environ.get("HATRAIN_REVISION")
        return built_from if built_from != "unknown" else None
    return described.stdout.strip() or None


def host() -> str:
    return socket.gethostname()


def scheduler_id() -> str | None:
    """The Slurm job that this process runs in, if any."""
    return os.environ.get("SLURM_JOB_ID")


def user() -> str:
    """The user's name, or the user id where it has no name, as in a container."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return str(os.getuid())
