"""A thinned curve is small, and has the ends, the lowest and the highest point of the whole one."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatrain.report.thin import thinned


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=300), st.integers(4, 100))
def test_no_peak_is_lost(values, most):
    steps = list(range(1, len(values) + 1))
    kept_steps, kept = thinned(steps, values, most)
    assert len(kept) <= max(most, 1) and kept_steps == sorted(set(kept_steps))
    assert (kept_steps[0], kept_steps[-1]) == (steps[0], steps[-1])
    assert (min(kept), max(kept)) == (min(values), max(values))
    assert all(values[step - 1] == value for step, value in zip(kept_steps, kept, strict=True))


def test_a_short_curve_is_left_as_it_is():
    assert thinned([1, 2, 3, 4], [4.0, 3.0, 2.0, 1.0], 4) == ([1, 2, 3, 4], [4.0, 3.0, 2.0, 1.0])


@pytest.mark.parametrize("spike", [1, 77_777, 299_998])
def test_one_spike_among_hundreds_of_thousands_of_steps_is_kept(spike):
    draw = random.Random(7)
    values = [draw.random() for _ in range(300_000)]
    values[spike] = 99.0
    steps, kept = thinned(range(300_000), values, 2000)
    assert len(kept) <= 2000 and kept[steps.index(spike)] == 99.0
