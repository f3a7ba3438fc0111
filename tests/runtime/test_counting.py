"""Lines that tell how far a long task is."""

from hatrain.runtime.counting import Counting


def lines_of(total: int, seconds_each: float) -> list[str]:
    said: list[str] = []
    now = 0.0
    counting = Counting("test loss", "rows", said.append, clock=lambda: now)
    for done in range(1, total + 1):
        now = done * seconds_each
        counting.at(done, total)
    return said


def test_a_short_task_says_nothing():
    assert lines_of(100, 0.01) == []


def test_a_long_task_says_how_far_it_is_how_fast_and_how_long_it_takes_ever_more_rarely():
    said = lines_of(1_000, 0.5)
    assert said[0] == "test loss: 2 of 1,000 rows, 2.0 rows/s, 8 min left"
    assert [int(line.split()[2].replace(",", "")) for line in said[:6]] == [2, 6, 14, 30, 62, 122]
    assert said[-1].endswith(" s left")


def test_nothing_is_said_when_all_is_done():
    assert all("1,000 of 1,000" not in line for line in lines_of(1_000, 0.5))
    assert lines_of(1, 60.0) == []


def test_times_are_said_in_units_that_fit():
    assert lines_of(50_000, 1.0)[0].endswith("13.9 h left")
    assert lines_of(100, 0.5)[0].endswith("49 s left")
    assert "400 rows/s" in lines_of(100_000, 0.0025)[0]


def test_what_is_begun_counts_for_the_rate():
    said: list[str] = []
    now = 0.0
    counting = Counting("evaluation", "requests", said.append, clock=lambda: now)
    now = 10.0
    counting.at(0, 100, 5.0)
    assert said == ["evaluation: 0 of 100 requests, 0.5 requests/s, 3 min left"]
