"""What the record says about an attempt: versions, commit, host, user. It imports none of the packages."""

import contextlib
import getpass
import os
import platform
import socket
import subprocess
from importlib import metadata
from pathlib import Path

_PACKAGES = ("hatrain", "torch", "transformers", "trl", "peft")


def versions() -> dict[str, str]:
    """Return the versions of Python and of the installed packages that a result depends on."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def commit() -> str | None:
    """Return the commit of hatrain's checkout, with `-dirty` after local changes, or the commit its image was built
    from; None for an installed package."""
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
