"""Sequences as one pack of tokens in which what several begin with stands once: a tree of segments. Pure arithmetic."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hatrain.data.labels import Example, Ids

GRAIN = 16
"""Tokens. Where fewer than these would be saved a branch begins earlier: a segment of its own costs more."""

Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Segment:
    """Consecutive tokens of a pack that belong to the same sequences. What descends from it follows it directly."""

    start: int
    end: int
    reach: int
    """End of the last segment that descends from it: the tokens from `end` to here attend to all of it."""
    position: int
    """Position of its first token in its sequences."""
    parent: int
    """Number of the segment that comes before it in its sequences; -1 for none."""


def tokens_up_to(segments: Sequence[Segment], number: int) -> Integers:
    """Return where the tokens of a segment and of those that come before it in its sequences are in the pack."""
    parts = []
    while number >= 0:
        parts.append(np.arange(segments[number].start, segments[number].end))
        number = segments[number].parent
    return np.concatenate(parts[::-1])


@dataclass(frozen=True, eq=False)
class Pack:
    """Sequences that go through the model together, each as a path through a tree of segments."""

    input_ids: Integers
    """[tokens]"""
    position_ids: Integers
    """[tokens], the position of each token in its sequences"""
    segments: tuple[Segment, ...]
    """In the order of their tokens; a parent comes before its children."""
    paths: tuple[int, ...]
    """The last segment of each sequence, in the order that the sequences were given."""

    def tokens_of(self, sequence: int) -> Integers:
        """Return where the tokens of a sequence are in the pack."""
        return tokens_up_to(self.segments, self.paths[sequence])

    @property
    def is_shared(self) -> bool:
        """Whether some token belongs to several sequences."""
        return len(set(self.paths)) < len(self.paths) or any(segment.parent >= 0 for segment in self.segments)


@dataclass(frozen=True)
class Labels:
    """What is trained: at each position of a batch's flattened tokens, the token that comes next.

    A position where sequences part has a label for each way on. One that belongs to several sequences is there once.
    """

    positions: Integers
    """[labels]"""
    targets: Integers
    """[labels]"""
    of_sequences: tuple[Integers, ...]
    """The labels of each sequence, in the order of its tokens."""

    @property
    def weights(self) -> Integers:
        """[labels], the sequences that each belongs to."""
        return np.bincount(np.concatenate(self.of_sequences), minlength=len(self.positions))


def labels_of(examples: Sequence[Example], tokens_of: Sequence[Integers]) -> Labels:
    """Return the labels of sequences whose tokens are at `tokens_of` in a batch. A sequence's first token is never one:
    nothing comes before it."""
    positions, targets = [], []
    for example, tokens in zip(examples, tokens_of, strict=True):
        spans = [np.arange(max(start, 1), end) for start, end in example.replies]
        supervised = np.concatenate(spans) if spans else np.zeros(0, dtype=np.int64)
        positions.append(tokens[supervised - 1])
        targets.append(example.input_ids[supervised].astype(np.int64))
    labels = np.concatenate(positions) << 32 | np.concatenate(targets)
    unique, number = np.unique(labels, return_inverse=True)
    ends = np.cumsum([len(part) for part in positions])[:-1]
    return Labels(unique >> 32, unique & 0xFFFFFFFF, tuple(np.split(number, ends)))


Unit = Sequence[Ids]
"""Sequences that stay in one pack: one, or the two sides of a pair."""


def make_pack(units: Sequence[Unit], *, share: bool = True) -> Pack:
    """Return the pack of the sequences of some units, numbered through all of them. With `share`, tokens that several
    begin with stand once, where units that begin alike follow each other."""
    tree = Tree(share)
    leaves = [leaf for unit in units for leaf in tree.add(unit)]
    nodes = tree.numbered()
    lengths = [node.end - node.start for node in nodes]
    ends = np.cumsum(lengths).tolist()
    segments = tuple(
        Segment(end - length, end, ends[node.last], node.start, node.parent.number if node.parent else -1)
        for node, length, end in zip(nodes, lengths, ends, strict=True)
    )
    return Pack(
        np.concatenate([node.ids[node.start : node.end] for node in nodes]).astype(np.int64),
        np.concatenate([np.arange(node.start, node.end) for node in nodes]),
        segments,
        tuple(leaf.number for leaf in leaves),
    )


def sort_key(ids: Ids) -> bytes:
    """Sorts sequences so that those with a common beginning are neighbours."""
    return ids.astype(">u4").tobytes()


def shared_length(one: Ids, other: Ids) -> int:
    """Count the tokens that two sequences begin with."""
    length = min(len(one), len(other))
    differs = one[:length] != other[:length]
    first = int(differs.argmax()) if length else 0
    return first if length and differs[first] else length


@dataclass(slots=True, eq=False)
class _Node:
    """A segment while its tree grows: tokens `start` to `end` of a sequence."""

    ids: Ids
    start: int
    end: int
    parent: "_Node | None"
    children: "list[_Node]" = field(default_factory=list)
    number: int = -1
    last: int = -1
    """Number of the last node that descends from it, or its own."""


class Tree:
    """Grows by one unit at a time. Each sequence may share tokens with the one before it."""

    def __init__(self, share: bool):
        self.share = share
        self.tokens = 0
        self.roots: list[_Node] = []
        self._before: Ids | None = None
        self._leaf: _Node | None = None
        """The last node of the sequence before."""

    def add(self, unit: Unit) -> "list[_Node]":
        """Add the sequences of a unit, and return the last node of each."""
        leaves = {number: self._add(unit[number]) for number in in_order(unit)}
        return [leaves[number] for number in range(len(unit))]

    def _add(self, ids: Ids) -> _Node:
        depth = self._attaches_at(ids)
        self._before = ids
        if self._leaf and depth == len(ids):
            return self._leaf
        node = self._leaf
        while node and node.start >= depth:
            node = node.parent
        if node and node.end > depth:
            node = self._split(node, depth)
        self._leaf = _Node(ids, depth, len(ids), node)
        (node.children if node else self.roots).append(self._leaf)
        self.tokens += len(ids) - depth
        return self._leaf

    def _attaches_at(self, ids: Ids) -> int:
        """Return how many of a sequence's first tokens are taken from the one before it."""
        if not self.share or self._before is None:
            return 0
        shared = shared_length(self._before, ids)
        if shared == len(ids) == len(self._before):
            return shared
        shared = min(shared, len(ids) - 1)  # a sequence that the one before it goes on from keeps a token of its own
        node = self._leaf
        while node and node.end > shared:
            node = node.parent
        boundary = node.end if node else 0
        return boundary if shared - boundary < GRAIN else shared

    def _split(self, node: _Node, depth: int) -> _Node:
        """Divide a node, and return its first part."""
        siblings = node.parent.children if node.parent else self.roots
        first = _Node(node.ids, node.start, depth, node.parent, [node])
        siblings[siblings.index(node)] = first
        node.start, node.parent = depth, first
        return first

    def numbered(self) -> list[_Node]:
        """Return the nodes depth first, with their numbers. A tree may be deeper than Python's recursion allows."""
        nodes: list[_Node] = []
        stack = list(reversed(self.roots))
        while stack:
            node = stack.pop()
            node.number = node.last = len(nodes)
            nodes.append(node)
            stack.extend(reversed(node.children))
        for node in reversed(nodes):
            if node.parent:
                node.parent.last = max(node.parent.last, node.last)
        return nodes


def in_order(unit: Unit) -> list[int]:
    """The numbers of a unit's sequences, in the order in which they share the most."""
    return sorted(range(len(unit)), key=lambda number: sort_key(unit[number])) if len(unit) > 1 else [0]
