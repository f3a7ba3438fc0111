"""Who ended an attempt, from the record alone: what counts against the retries, and what the last reason was."""

import pytest

from hatrain.contract.record import Fruitless, fruitless

BEGUN = {"event": "attempt begun", "attempt": 1}


def ended(code, **facts):
    return {"event": "outcome", "code": code, "reasons": {"rank 0": f"why {code}"}, **facts}


@pytest.mark.parametrize(
    ("events", "counted"),
    [
        ([BEGUN, ended(1, attempt=1)], Fruitless(own=1, reason="rank 0: why 1")),
        ([BEGUN, ended(75, attempt=1)], Fruitless(outside=1, reason="rank 0: why 75")),
        ([BEGUN, ended(130, attempt=1)], Fruitless()),
        ([BEGUN, ended(1, attempt=1), BEGUN, ended(75, attempt=2)], Fruitless(1, 1, "rank 0: why 75")),
        ([BEGUN, {"event": "killed", "reason": "memory"}], Fruitless(own=1, reason="killed: memory")),
        # Preempted while it waited for its parent, for other nodes or in a pause: it had not begun.
        ([ended(75, attempt=1)], Fruitless()),
        # A machine that was not fit before there was an attempt.
        ([ended(75)], Fruitless(outside=1, reason="rank 0: why 75")),
        ([ended(78)], Fruitless()),
        ([BEGUN, ended(1, attempt=1), {"event": "checkpoint sealed"}], Fruitless()),
    ],
)
def test_what_ended_an_attempt_is_counted_by_who_ended_it(events, counted):
    assert fruitless(events, lambda number: False) == counted
