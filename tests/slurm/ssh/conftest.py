"""A laptop, a login node behind sshd, and its Slurm."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.require import cannot, need
from tests.slurm.cluster import Cluster
from tests.slurm.ssh.laptop import Laptop, path_of_sshd
from tests.slurm.ssh.server import PROGRAMS, Sshd


@pytest.fixture(scope="session")
def sshd(slurm: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    need("sshd", *PROGRAMS)
    if path_of_sshd() is None:
        cannot("sshd", "not installed: sshd")
    server = Sshd(tmp_path_factory.mktemp("login-node") / "sshd", slurm.environ)
    yield server
    server.stop()


@pytest.fixture
def laptop(slurm: Cluster, sshd: Sshd, tmp_path: Path) -> Iterator[Laptop]:
    made = Laptop(tmp_path, slurm, sshd)
    yield made
    made.close()
