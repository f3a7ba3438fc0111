"""A Slurm for the tests of a file, and a house on it: a folder to work in as a person does."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.require import cannot, need
from tests.slurm.cluster import ACCOUNTING, PROGRAMS, Cluster
from tests.slurm.house import House


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A Slurm without accounting, as many small ones are."""
    _need()
    with Cluster(tmp_path_factory.mktemp("slurm") / "cluster") as cluster:
        yield cluster


@pytest.fixture(scope="session")
def accounting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A Slurm with accounts, QOS and sacct, which soon forgets what has left the queue."""
    _need()
    need("slurm", *ACCOUNTING)
    with Cluster(tmp_path_factory.mktemp("slurm") / "cluster", accounting=True) as cluster:
        yield cluster


def _need() -> None:
    need("slurm", *PROGRAMS)
    if sys.platform != "linux" or os.geteuid():
        cannot("slurm", "its nodes are namespaces of Linux, which root makes")


@pytest.fixture
def house(slurm: Cluster, tmp_path: Path) -> House:
    """A folder to work in, with jobs whose trainer is pretended unless told."""
    return House(tmp_path, slurm)
