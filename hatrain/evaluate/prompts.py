"""Prompts in an order in which what several begin with is computed once."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hatrain.data.packs import Segment, make_pack
from hatrain.data.prefixes import prefix_groups
from hatrain.evaluate.passes import Row
from hatrain.model.stored import Store


def in_order(rows: Sequence[Row]) -> list[Row]:
    """Order rows so that those that begin alike follow each other, the longest first."""
    if not rows:
        return []
    groups = prefix_groups([np.array(row.prompt, dtype=np.int32) for row in rows]).tolist()
    longest: dict[int, int] = {}
    for row, group in zip(rows, groups, strict=True):
        longest[group] = max(longest.get(group, 0), len(row.prompt))
    order = sorted(range(len(rows)), key=lambda at: (-longest[groups[at]], groups[at], -len(rows[at].prompt)))
    return [rows[at] for at in order]


@dataclass(frozen=True, slots=True)
class Stretch:
    """Tokens of prompts that are computed in the place of one."""

    place: int
    """The row of the store."""
    start: int
    """Position of the first token. What comes before it is taken from `source`, or is there."""
    tokens: Sequence[int]
    row: Row | None
    """The row whose prompt ends here."""
    source: tuple[Store, int] | None
    """Where the keys of the tokens before are."""


def stretches(store: Store, rows: Sequence[Row], before: tuple[Sequence[int], Store] | None) -> list[list[Stretch]]:
    """Return what is computed of the prompts of a store's rows, in waves: each needs what those before it have left.

    `before` is a prompt whose keys are stored, alone. No two prompts are the same.
    """
    held = [*([(before[1], 0)] if before else []), *((store, row.place) for row in rows)]
    prompts = [*([before[0]] if before else []), *(row.prompt for row in rows)]
    known = len(prompts) - len(rows)
    pack = make_pack([[np.array(ids, dtype=np.int32) for ids in prompts]])
    holders = _holders(pack.segments, pack.paths, known)
    ends = {pack.paths[known + number]: row for number, row in enumerate(rows)}
    waves: list[list[Stretch]] = []
    depths: list[int] = []
    for number, segment in enumerate(pack.segments):
        depths.append(depths[segment.parent] + 1 if segment.parent >= 0 else 0)
        start, end = segment.position, segment.position + segment.end - segment.start
        holder, row = holders[number], ends.get(number)
        source = held[holders[segment.parent]] if segment.parent >= 0 else None
        if holder < known:
            if row is None:
                continue
            # All of it is stored, but the answer comes after a row's own last token.
            holder, start, source = known + rows.index(row), end - 1, held[0]
        if source == held[holder]:
            source = None
        stretch = Stretch(held[holder][1], start, prompts[holder][start:end], row, source)
        waves += [[] for _ in range(depths[number] + 1 - len(waves))]
        waves[depths[number]].append(stretch)
    return waves


def _holders(segments: Sequence[Segment], paths: Sequence[int], known: int) -> list[int]:
    """Return for each segment the sequence in whose place its keys are: one of the first `known`, else the one that
    ends with it, else one that has it."""
    holders = [-1] * len(segments)
    for sequence in range(known):
        _claim(holders, segments, paths[sequence], sequence)
    for sequence in range(known, len(paths)):
        if holders[paths[sequence]] < 0:
            holders[paths[sequence]] = sequence
    for sequence in range(known, len(paths)):
        _claim(holders, segments, segments[paths[sequence]].parent, sequence)
    return holders


def _claim(holders: list[int], segments: Sequence[Segment], number: int, sequence: int) -> None:
    """Give a segment and those before it to a sequence, as far as they have no holder."""
    while number >= 0 and holders[number] < 0:
        holders[number] = sequence
        number = segments[number].parent
