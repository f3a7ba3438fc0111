"""Which rows of a step go through the model together: padded to the same length, or as packs of at most so many
tokens."""

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any

from hatrain.contract.steps import Layout, MicroBatch
from hatrain.data.packs import Tree, Unit, in_order, sort_key


def packed(units: Callable[[int], Unit], capacity: int, ranks: int, *, share: bool) -> Layout:
    """Packs of at most `capacity` tokens, about equally large, and as many for each rank. `units` returns the sequences
    of a row, by its number.

    Rows are sorted by their tokens, so that those with a common beginning meet in one pack. Without sharing the long
    ones come first, as for padding.
    """

    def layout(rows: Iterable[int]) -> list[MicroBatch]:
        def key(row: int) -> Any:
            unit = units(row)
            return (sort_key(unit[in_order(unit)[0]]), row) if share else (-sum(map(len, unit)), row)

        numbers = sorted(map(int, rows), key=key)
        if not numbers:
            return []
        sorted_units = [units(number) for number in numbers]
        fewest = len(_divide(sorted_units, capacity, share))
        wanted = min(-(-fewest // ranks) * ranks, len(numbers))
        ends = _divide(sorted_units, _smallest_capacity(sorted_units, wanted, capacity, share), share)
        return [MicroBatch(tuple(numbers[start:end])) for start, end in pairwise([0, *ends])]

    return layout


def _divide(units: Sequence[Unit], capacity: int, share: bool) -> list[int]:
    """Return where each pack ends, filled one after the other. A unit that is larger is a pack of its own."""
    ends: list[int] = []
    tree = Tree(share)
    for number, unit in enumerate(units):
        is_empty = not tree.tokens
        tree.add(unit)
        if tree.tokens > capacity and not is_empty:
            ends.append(number)
            tree = Tree(share)
            tree.add(unit)
    return [*ends, len(units)]


def _smallest_capacity(units: Sequence[Unit], packs: int, enough: int, share: bool) -> int:
    """Return about the smallest capacity that needs no more than so many packs; `enough` is one."""
    low, high = 0, enough
    while high - low > max(1, enough // 256):
        middle = (low + high) // 2
        if len(_divide(units, middle, share)) <= packs:
            high = middle
        else:
            low = middle
    return high
