"""Skipping where a program is missing; where it was promised, in $HATRAIN_REQUIRE, that is a failure."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


def need(feature: str, *programs: str) -> None:
    """Skip the test when a program that it runs is not installed, or fail it when the feature was promised."""
    absent = [program for program in programs or (feature,) if shutil.which(program) is None]
    if absent:
        cannot(feature, f"not installed: {', '.join(absent)}")


def cannot(feature: str, reason: str) -> None:
    """Skip the test for a reason, or fail it when the feature was promised."""
    promised = [name.strip() for name in os.environ.get("HATRAIN_REQUIRE", "").split(",")]
    if feature in promised:
        pytest.fail(f"HATRAIN_REQUIRE has {feature}, and: {reason}")
    pytest.skip(f"{feature}: {reason}")


@contextlib.contextmanager
def small_disk(folder: Path, mebibytes: int) -> Iterator[Path]:
    """Mount a disk of so many MiB on a folder that it creates. Skips the test where this user may not mount."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "hatrain-test", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        cannot("small-disk", "mounting a tmpfs needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
