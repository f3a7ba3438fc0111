"""Paths as people write them."""

from pathlib import Path


def expanded(path: str) -> Path:
    """Return a path with `~` and `~user` expanded. One of an unknown user stays as it is, and is not there."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)
