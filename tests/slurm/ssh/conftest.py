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
    # Of the cluster's home: not the one of whoever runs the tests.
    folder = tmp_path_factory.mktemp("login-node")
    home = folder / "home"
    home.mkdir()
    names = {"SLURM_CONF": slurm.environ["SLURM_CONF"], "HOME": str(home), "PATH": slurm.environ["PATH"]}
    server = Sshd(folder / "sshd", names)
    yield server
    server.stop()


@pytest.fixture
def laptop(slurm: Cluster, sshd: Sshd, tmp_path: Path) -> Iterator[Laptop]:
    made = Laptop(tmp_path, slurm, sshd)
    yield made
    made.close()
