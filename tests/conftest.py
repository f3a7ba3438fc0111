"""Property tests draw the same examples in every `make test`; `make test-long` explores others ($HATRAIN_EXPLORE)."""

import os

import pytest
from hypothesis import HealthCheck, is_hypothesis_test, settings

from hatrain.runtime import waiting

# No deadline and no health check on speed: a busy machine is no failure.
common = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("deterministic", common, derandomize=True, database=None)
settings.register_profile("exploring", common, max_examples=1000)
settings.load_profile("exploring" if os.environ.get("HATRAIN_EXPLORE") else "deterministic")


# No test depends on whether something takes more than two seconds; tests/runtime/test_waiting.py sets its own.
waiting.FIRST_SECONDS = 600.0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if isinstance(item, pytest.Function) and is_hypothesis_test(item.obj):
            item.add_marker("property")
