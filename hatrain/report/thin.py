"""Curves of hundreds of thousands of points, thinned so that a page stays small and no peak is lost."""

from collections.abc import Sequence


def thinned(steps: Sequence[int], values: Sequence[float], most: int) -> tuple[list[int], list[float]]:
    """Return at most `most` points of a curve: of each of equal parts the lowest and the highest, and both ends.

    A curve with no more points than that is returned as it is. `most` is at least 4.
    """
    if len(steps) <= most:
        return list(steps), list(values)
    parts = (most - 2) // 2
    inner = len(steps) - 2
    kept = {0, len(steps) - 1}
    for part in range(parts):
        low, high = 1 + part * inner // parts, 1 + (part + 1) * inner // parts
        kept.add(min(range(low, high), key=values.__getitem__))
        kept.add(max(range(low, high), key=values.__getitem__))
    order = sorted(kept)
    return [steps[index] for index in order], [values[index] for index in order]
