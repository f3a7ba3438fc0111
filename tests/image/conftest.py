"""One storage of images for the tests of a process; it is gone afterwards."""

import pytest

from tests.image.engine import Engine, base_archive


@pytest.fixture(scope="session")
def engine(tmp_path_factory):
    base_archive()
    engine = Engine(tmp_path_factory.mktemp("storage"))
    try:
        engine.make_base()
        yield engine
    finally:
        engine.clear()
