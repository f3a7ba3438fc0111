"""Intervals are the published ones, and count a request that comes again as the one that it is."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatrain.evaluate.interval import Tally, wilson_interval

# Newcombe, "Two-sided confidence intervals for the single proportion", Statistics in Medicine 17 (1998), table I,
# method 3 (the score method without continuity correction).
PUBLISHED = [
    (81, 263, 0.2553, 0.3662),
    (15, 148, 0.0624, 0.1605),
    (0, 20, 0.0000, 0.1611),
    (1, 29, 0.0061, 0.1718),
]


@pytest.mark.parametrize(("hits", "total", "low", "high"), PUBLISHED)
def test_intervals_are_the_published_ones(hits, total, low, high):
    assert wilson_interval(hits, total) == pytest.approx((low, high), abs=5e-5)


def test_the_interval_of_a_total_of_zero_is_everything():
    assert wilson_interval(0, 0) == (0.0, 1.0)


@given(st.integers(1, 10_000), st.data())
def test_an_interval_contains_its_share_and_is_symmetric(total, data):
    hits = data.draw(st.integers(0, total))
    low, high = wilson_interval(hits, total)
    assert 0 <= low <= hits / total <= high <= 1
    assert low < high
    mirrored = wilson_interval(total - hits, total)
    assert math.isclose(low, 1 - mirrored[1], abs_tol=1e-12)


def test_cases_that_are_all_different_count_for_themselves():
    tally = Tally.of([("a", True), ("b", False), ("c", True)])
    assert tally == Tally(right=2, total=3, different=3, effective=3.0)
    assert tally.interval == pytest.approx(wilson_interval(2, 3))


def test_cases_that_come_unequally_often_count_for_less_than_the_different_ones():
    tally = Tally.of([("a", True)] * 8 + [("b", False), ("c", False)])
    assert (tally.total, tally.different) == (10, 3)
    assert tally.effective == pytest.approx(100 / 66)


def test_no_cases_have_no_share():
    tally = Tally.of([])
    assert (tally.share, tally.effective, tally.interval) == (None, 0.0, (0.0, 1.0))


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=40))
def test_an_interval_of_repeated_cases_holds_the_share_and_is_never_narrower(cases):
    tally = Tally.of(cases)
    low, high = tally.interval
    assert 0 <= low <= tally.share + 1e-12 and tally.share - 1e-12 <= high <= 1
    assert 1 <= tally.effective <= tally.different + 1e-9
    plain = wilson_interval(tally.right, tally.total)
    assert high - low >= plain[1] - plain[0] - 1e-12
