"""Hostile inputs for everything that is read from outside: refused in whole lines, or read. `make fuzz` explores on."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.fuzz.mutations import near
from bench.fuzz.targets import check, targets

TARGETS = targets()


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=max(60, settings.default.max_examples if settings.default.max_examples > 100 else 60))
@given(st.data())
def test_no_input_is_a_traceback(tmp_path_factory, name, data):
    check(TARGETS[name], data.draw(near(TARGETS[name].seeds)), tmp_path_factory.mktemp("input"))


def test_a_fault_in_a_reader_is_a_finding():
    from bench.fuzz.__main__ import explore
    from bench.fuzz.targets import Target

    def broken(data, folder):
        if data != b"abc":
            raise KeyError("a reader's mistake")

    found = explore(Target([b"abc"], broken), 1)
    assert found.startswith("b'`bc'\n"), "not one change, of the last bit of the first byte"
    assert "a reader's mistake" in found
