"""Where the tests' own podman keeps its images and containers."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def storage() -> Iterator[Path]:
    """Give a folder whose path is short, and gone afterwards. Below pytest's own, where a worker's name makes paths
    longer, nobody tells podman 4.3 of a container's end, and it waits for 20 seconds each time."""
    folder = Path(tempfile.mkdtemp(prefix="ha-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
