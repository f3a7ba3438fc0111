"""Each prompt is computed, or taken from where it was computed, exactly once."""

from types import SimpleNamespace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from hatrain.evaluate.passes import Row
from hatrain.evaluate.prompts import in_order, stretches


def prompts() -> Any:
    """Prompts that go on from beginnings of each other."""
    piece = st.tuples(st.integers(0, 80), st.integers(1, 60))

    def grown(pieces: list[tuple[int, int]]) -> list[list[int]]:
        made: list[list[int]] = [[0]]
        for number, (kept, own) in enumerate(pieces, start=1):
            made.append([*made[kept % len(made)][:kept], *[number] * own])
        return [list(ids) for ids in dict.fromkeys(map(tuple, made))]

    return st.lists(piece, min_size=1, max_size=9).map(grown)


def filled(given: list[list[int]], carried: list[int] | None) -> tuple[list[list[int]], int, set[int]]:
    """Compute prompts in a store of lists. Returns what it holds, the tokens computed, and the rows answered."""
    rows = [Row(number, ids, [], 8, place=number) for number, ids in enumerate(given)]
    store = SimpleNamespace(held=[[None] * len(ids) for ids in given])
    before = SimpleNamespace(held=[carried])
    computed, answered = 0, set()
    for wave in stretches(store, rows, (carried, before) if carried else None):  # type: ignore[arg-type]
        for stretch in wave:
            own = store.held[stretch.place]
            if stretch.source is not None:
                source, place = stretch.source
                own[: stretch.start] = source.held[place][: stretch.start]  # type: ignore[attr-defined]
            assert None not in own[: stretch.start]
            own[stretch.start : stretch.start + len(stretch.tokens)] = stretch.tokens
            computed += len(stretch.tokens)
            if stretch.row is not None:
                assert stretch.row.place == stretch.place
                assert stretch.start + len(stretch.tokens) == len(stretch.row.prompt)
                answered.add(stretch.row.number)
    return store.held, computed, answered


@settings(max_examples=150, deadline=None)
@given(prompts(), st.booleans())
def test_every_prompt_is_whole_and_answered_once(made, carries):
    carried, rest = (made[0], made[1:]) if carries and len(made) > 1 else (None, made)
    held, computed, answered = filled(rest, carried)
    assert held == rest
    assert answered == set(range(len(rest)))
    assert computed <= sum(map(len, rest))


def test_a_beginning_is_computed_once_and_a_stored_one_not_at_all():
    home = list(range(100))
    made = [[*home, *[number] * 20] for number in (200, 201, 202)]
    assert filled(made, None)[1] == 100 + 3 * 20
    assert filled(made, [*home, 300])[1] == 3 * 20


def test_a_prompt_that_is_stored_is_read_from_its_last_token():
    home = list(range(100))
    assert filled([home[:60]], home)[1] == 1


def test_rows_that_begin_alike_are_neighbours_and_the_longest_come_first():
    one, other = [1] * 50, [2] * 90
    rows = [Row(number, ids, [], 8) for number, ids in enumerate([[*one, 3], [*other, 3], [*one, 4], [*other, 4, 4]])]
    assert [row.number for row in in_order(rows)] == [3, 1, 0, 2]
    assert in_order([]) == []
