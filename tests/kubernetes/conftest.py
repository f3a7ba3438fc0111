"""What the tests with a real kubectl share."""

from collections.abc import Callable, Iterator

import pytest

from tests.kubernetes.api_server import ApiServer
from tests.kubernetes.kubelet import Kubelet
from tests.kubernetes.laptop import Laptop
from tests.require import need


@pytest.fixture
def api() -> Iterator[ApiServer]:
    need("kubectl")
    api = ApiServer()
    yield api
    api.close()


@pytest.fixture
def laptop(tmp_path, api) -> Laptop:
    return Laptop(tmp_path, api)


@pytest.fixture
def cluster(tmp_path, api) -> Iterator[Callable[..., tuple[Laptop, Kubelet]]]:
    """Makes a laptop, and the machine on which what it submits runs."""
    made = []

    def make(**cluster) -> tuple[Laptop, Kubelet]:
        kubelet = Kubelet(tmp_path / "node", api)
        made.append(kubelet)
        (tmp_path / "laptop").mkdir()
        return Laptop(tmp_path / "laptop", api, **kubelet.cluster, **cluster), kubelet

    yield make
    for kubelet in made:
        kubelet.close()
