"""Wording that messages share."""

import pytest

from hatrain.text import count


@pytest.mark.parametrize(
    ("number", "expected"),
    [(0, "0 steps"), (1, "1 step"), (1.0, "1 step"), (0.5, "0.5 steps"), (2000, "2,000 steps")],
)
def test_a_count_agrees_with_its_noun(number, expected):
    assert count(number, "step") == expected


def test_an_irregular_plural_is_given():
    assert [count(number, "process", "processes") for number in (1, 2)] == ["1 process", "2 processes"]
