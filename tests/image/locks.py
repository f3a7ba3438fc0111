"""Reads lock files: those of the image and of this repository."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCKER = ROOT / "docker"


def normalized(name: str) -> str:
    """Return a package's name as the package index writes it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def versions(file: Path) -> dict[str, str]:
    """Return {package: version} of a lock file."""
    pins = re.findall(r"^([\w.-]+)==([\w.+!-]+)", file.read_text(encoding="utf-8"), re.MULTILINE)
    return {normalized(name): version for name, version in pins}


def pinned(name: str) -> dict[str, str]:
    """Return {package: version} of a lock file of the image."""
    return versions(DOCKER / name)


def public(version: str) -> str:
    """Drop a version's local part: 2.13.0+cpu is 2.13.0."""
    return version.partition("+")[0]
