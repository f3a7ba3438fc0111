"""A Slurm for the tests, and a working folder on it."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.require import cannot, need
from tests.slurm.cluster import ACCOUNTING, PROGRAMS, Cluster
from tests.slurm.workspace import Workspace


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A Slurm without accounting, as many small ones are."""
    _need()
    with Cluster(tmp_path_factory.mktemp("slurm") / "cluster") as cluster:
        yield cluster


@pytest.fixture(scope="session")
def accounting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A Slurm with accounts, QOS and sacct."""
    _need()
    need("slurm", *ACCOUNTING)
    with Cluster(tmp_path_factory.mktemp("slurm") / "cluster", accounting=True) as cluster:
        yield cluster


def _need() -> None:
    need("slurm", *PROGRAMS)
    if sys.platform != "linux" or os.geteuid():
        cannot("slurm", "its nodes are Linux namespaces, which need root")


@pytest.fixture
def workspace(slurm: Cluster, tmp_path: Path) -> Workspace:
    return Workspace(tmp_path, slurm)
