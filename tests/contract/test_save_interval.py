"""How often `save_steps: auto` saves."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatrain.contract.save_interval import SaveSchedule, best_seconds

HOUR = 3600.0


def lost(interval: float, save: float, mtbf: float) -> float:
    """The share of time lost: to saving, and half an interval at each failure."""
    return save / interval + interval / 2 / mtbf


@given(save=st.floats(0.01, 600), mtbf=st.floats(HOUR, 1000 * HOUR), factor=st.floats(0.1, 10))
def test_no_other_interval_loses_less_time(save, mtbf, factor):
    best = best_seconds(save, mtbf)
    assert lost(best, save, mtbf) <= lost(factor * best, save, mtbf) * (1 + 1e-9)


def test_an_hour_between_saves_of_75_seconds_is_best_for_a_failure_a_day():
    assert best_seconds(75, 24 * HOUR) == pytest.approx(HOUR)


def test_a_schedule_saves_early_then_follows_what_it_measures():
    schedule = SaveSchedule(1, 24 * HOUR)
    assert [schedule.is_due(step) for step in (0, 1)] == [False, True]
    schedule.saved(1, 75.0, [])
    assert schedule.is_due(2)
    schedule.saved(2, 75.0, [2.0, 90.0, 2.0])
    assert schedule.interval == 1800
    assert not schedule.is_due(1801)
    assert schedule.is_due(1802)
    schedule.saved(1802, 300.0, [2.0])
    assert schedule.interval == 3600


@given(save=st.floats(0, 1e5), steps=st.lists(st.floats(0, 1e5), max_size=5), mtbf=st.floats(1, 1e8))
def test_the_next_save_is_always_a_later_step(save, steps, mtbf):
    schedule = SaveSchedule(1, mtbf)
    schedule.saved(7, save, steps)
    assert schedule.next > 7
    assert math.isfinite(schedule.next)
