"""Reading lock files: the image's, and this tree's own."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCKER = ROOT / "docker"


def normal(name: str) -> str:
    """Return a package's name as the index writes it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def versions(file: Path) -> dict[str, str]:
    """Return {package: version} of a lock file, of this tree's own or the image's form."""
    found = re.findall(r"^([\w.-]+)==([\w.+!-]+)", file.read_text(encoding="utf-8"), re.MULTILINE)
    return {normal(name): version for name, version in found}


def pinned(name: str) -> dict[str, str]:
    """Return {package: version} of one of the image's lock files."""
    return versions(DOCKER / name)


def public(version: str) -> str:
    """Return a version without what says how it was built: 2.13.0+cpu is 2.13.0."""
    return version.partition("+")[0]
