"""What a record says about where something ran, and with what: versions, host, commit. It imports none of them."""

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
    """Return the versions of Python and of the packages that a result depends on, of those installed."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def commit() -> str | None:
    """Return the commit of hatrain's own checkout, with `-dirty` when it was changed, or the one that its image was
    built from; None outside of either."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40"]
    command += ["--exclude=*"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        built_from = os.environ.get("HATRAIN_REVISION")
        return built_from if built_from != "unknown" else None
    return told.stdout.strip() or None


def host() -> str:
    """Return this machine's name."""
    return socket.gethostname()


def scheduler_id() -> str | None:
    """Return the scheduler's id of the job that this process runs in, if there is one."""
    return os.environ.get("SLURM_JOB_ID")


def user() -> str:
    """Return who runs this: a name, or a number where the machine knows no name for it."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return str(os.getuid())
