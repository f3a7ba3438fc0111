"""Paths as people write them."""

import os
from pathlib import Path


def expanded(path: str) -> Path:
    """Return a path with `~` and `~user` expanded. One of an unknown user stays as it is, and is not there."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def hub_home() -> Path:
    """Return the folder of the model hub's client, as its own library finds it."""
    caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return expanded(os.environ.get("HF_HOME") or f"{caches}/huggingface")
