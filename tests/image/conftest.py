"""A container storage for the tests of one process, deleted afterwards."""

import pytest

from tests.image.engine import Engine, base_archive
from tests.storage import storage


@pytest.fixture(scope="session")
def engine():
    base_archive()
    with storage() as folder:
        engine = Engine(folder)
        try:
            engine.make_base()
            yield engine
        finally:
            engine.clear()
