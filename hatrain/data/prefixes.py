"""Rows that begin alike, and an order of an epoch that lets them meet in a step."""

from collections import deque
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from hatrain.data.labels import Ids
from hatrain.data.packs import shared_length, sort_key

SAMPLE = 256
"""Pairs of rows, drawn to see how much any two rows share."""
COMMON = 0.1
"""Of those pairs: they are rows of different groups, unless nearly all rows are one."""
SHARE = 0.5
"""Of what a row has beyond that, which rows of a group share at least."""

Numbers = NDArray[np.int64]


def prefix_groups(sequences: Sequence[Ids]) -> Numbers:
    """Return the number of each row's group: the rows that share most of their tokens, such as the prompt of a home.

    What any two rows begin with, such as an instruction, makes no group.
    """
    draw = np.random.default_rng(len(sequences))
    pairs = draw.integers(0, len(sequences), (SAMPLE, 2))
    shared = [shared_length(sequences[a], sequences[b]) for a, b in pairs if a != b]
    common = float(np.quantile(shared or [0], COMMON))
    order = sorted(range(len(sequences)), key=lambda row: sort_key(sequences[row]))
    groups = np.zeros(len(sequences), dtype=np.int64)
    for before, row in pairwise(order):
        one, other = sequences[before], sequences[row]
        own = min(len(one), len(other)) - common
        is_same = shared_length(one, other) - common >= max(1.0, SHARE * own)
        groups[row] = groups[before] + (not is_same)
    return groups


def order_by_prefix(rows: Numbers, groups: Numbers, rows_per_step: int, seed: int, epoch: int) -> Numbers:
    """Reorder an epoch so that the rows of a group share a step, while the order of the groups is random.

    A group that is larger than a step is divided. Where no group fits into what is left of a step, the next one is. A
    row that an epoch has several times is in another group each time.
    """
    members: dict[tuple[int, int], list[int]] = {}
    times: dict[int, int] = {}
    for row in rows.tolist():
        times[row] = times.get(row, 0) + 1
        members.setdefault((times[row], int(groups[row])), []).append(row)
    parts = [
        group[start : start + rows_per_step]
        for group in members.values()
        for start in range(0, len(group), rows_per_step)
    ]
    random = np.random.default_rng([seed, epoch, 2]).permutation(len(parts))
    by_size: dict[int, deque[tuple[int, list[int]]]] = {}
    for place, part in zip(random.tolist(), parts, strict=True):
        by_size.setdefault(len(part), deque()).append((place, part))
    for size, queue in by_size.items():
        by_size[size] = deque(sorted(queue))
    ordered: list[int] = []
    while by_size:
        left = rows_per_step - len(ordered) % rows_per_step
        fitting = [size for size in by_size if size <= left]
        size = min(fitting or by_size, key=lambda size: by_size[size][0][0])
        place, part = by_size[size].popleft()
        if not by_size[size]:
            del by_size[size]
        ordered += part[:left]
        if rest := part[left:]:
            by_size.setdefault(len(rest), deque()).appendleft((place, rest))
    return np.array(ordered, dtype=np.int64)
