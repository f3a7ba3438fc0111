"""Where the tests' own podman keeps its images and containers."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def storage() -> Iterator[Path]:
    """Yield a folder with a short path, and remove it afterwards. With the longer paths of pytest's own folders, podman
    4.3 does not notice that a container ended, and waits 20 seconds each time."""
    folder = Path(tempfile.mkdtemp(prefix="ha-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
