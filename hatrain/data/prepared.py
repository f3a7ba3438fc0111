"""The rows of a file as a few arrays: token ids, and the ranges that are supervised. They are stored as they are, and
mapped into memory when they are used again."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hatrain.data.encoder import Ids
from hatrain.data.labels import Example
from hatrain.data.rows import BadRow
from hatrain.runtime import seal

Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Counts:
    """Counts over rows."""

    tokens: int
    supervised: int
    replies: int
    divided: int
    """Examples that are laid out as several sequences."""


@dataclass(frozen=True)
class Prepared:
    """Every row of a file, of any length; the bad ones with their problems."""

    ids: Ids
    """[tokens] of all sequences"""
    lengths: Integers
    """[sequences], tokens"""
    spans: NDArray[np.int32]
    """[replies, 2], the supervised tokens of all sequences, half open"""
    replies: Integers
    """[sequences], how many replies each has"""
    sequences: Integers
    """[examples], how many sequences each has. A row has one example, a pair its chosen and its rejected one."""
    rows: Integers
    """[rows], 0-based index of each good row in its file"""
    lines: Integers
    """[rows], line on which each good row begins"""
    sides: int = 1
    """Examples of a row."""
    raw_rows: int = 0
    """Rows of raw text."""
    null_rows: int = 0
    """Rows whose call arguments or tools had keys without a value, which were left out."""
    ignored: tuple[tuple[str, int], ...] = ()
    """Keys that the model does not see, and how many rows have them."""
    digest: str = ""
    """SHA-256 of the bytes of the file that were read."""
    bad: tuple[BadRow, ...] = ()

    @classmethod
    def of(cls, rows: Sequence[tuple[int, int, Sequence[Example]]], sides: int, **facts: Any) -> "Prepared":
        """Join rows: the index and the line of each, and its examples."""
        examples = [example for _, _, own in rows for example in own]
        sequences = [sequence for example in examples for sequence in example.sequences]
        return cls(
            np.concatenate([np.zeros(0, dtype=np.int32), *(sequence.input_ids for sequence in sequences)]),
            np.array([len(sequence.input_ids) for sequence in sequences], dtype=np.int64),
            np.array([span for sequence in sequences for span in sequence.replies], dtype=np.int32).reshape(-1, 2),
            np.array([len(sequence.replies) for sequence in sequences], dtype=np.int64),
            np.array([len(example.sequences) for example in examples], dtype=np.int64),
            np.array([index for index, _, _ in rows], dtype=np.int64),
            np.array([line for _, line, _ in rows], dtype=np.int64),
            sides,
            **facts,
        )

    @classmethod
    def joined(cls, parts: Sequence["Prepared"], digest: str) -> "Prepared":
        arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in ARRAYS}
        ignored: Counter[str] = Counter()
        for part in parts:
            ignored.update(dict(part.ignored))
        return cls(
            **arrays,
            sides=parts[0].sides,
            raw_rows=sum(part.raw_rows for part in parts),
            null_rows=sum(part.null_rows for part in parts),
            ignored=tuple(ignored.most_common()),
            digest=digest,
            bad=tuple(row for part in parts for row in part.bad),
        )

    def __len__(self) -> int:
        return len(self.rows)

    def place(self, row: int) -> tuple[int, int]:
        """Return the 0-based index of a good row in its file, and its line."""
        return int(self.rows[row]), int(self.lines[row])

    @cached_property
    def longest(self) -> Integers:
        """[rows], tokens of the longest sequence of each row"""
        return np.maximum.reduceat(self.lengths, self._first_sequences[:: self.sides]) if len(self) else self.lengths

    @cached_property
    def _first_sequences(self) -> Integers:
        """[examples], the number of the first sequence of each"""
        return np.cumsum(self.sequences) - self.sequences

    def counts(self, rows: Sequence[int]) -> "Counts":
        """Count over some rows, numbered through the good ones."""
        wanted = np.zeros(len(self), dtype=bool)
        wanted[list(rows)] = True
        of_sequences = np.repeat(np.repeat(wanted, self.sides), self.sequences)
        of_replies = np.repeat(of_sequences, self.replies)
        spans = self.spans[of_replies].astype(np.int64)
        divided = (self.sequences > 1)[np.repeat(wanted, self.sides)]
        return Counts(
            int(self.lengths[of_sequences].sum()),
            int((spans[:, 1] - spans[:, 0]).sum()),
            int(of_replies.sum()),
            int(divided.sum()),
        )

    def examples(self, rows: Iterable[int]) -> list[tuple[Example, ...]]:
        """Return the examples of some rows, numbered through the good ones. Their ids are views of the stored ones."""
        ends, reply_ends = np.cumsum(self.lengths).tolist(), np.cumsum(self.replies).tolist()
        lengths, replies, spans = self.lengths.tolist(), self.replies.tolist(), list(map(tuple, self.spans.tolist()))
        firsts, counts, indices = self._first_sequences.tolist(), self.sequences.tolist(), self.rows.tolist()

        def sequence(row: int, number: int) -> Example:
            end, last = ends[number], reply_ends[number]
            ids = self.ids[end - lengths[number] : end]
            return Example(indices[row], ids, tuple(spans[last - replies[number] : last]))

        def example(row: int, number: int) -> Example:
            *earlier, last = (sequence(row, firsts[number] + each) for each in range(counts[number]))
            return replace(last, earlier=tuple(earlier)) if earlier else last

        return [tuple(example(row, self.sides * row + side) for side in range(self.sides)) for row in rows]


ARRAYS = ("ids", "lengths", "spans", "replies", "sequences", "rows", "lines")
_FACTS = ("sides", "raw_rows", "null_rows", "ignored", "digest")


def save(prepared: Prepared, partial: Path, final: Path) -> None:
    """Write the rows of a file without bad ones to the folder `partial`, and rename it to `final`. Raises OSError."""
    partial.mkdir(parents=True)
    for name in ARRAYS:
        np.save(partial / f"{name}.npy", getattr(prepared, name), allow_pickle=False)
    seal.seal(partial, final, **{name: getattr(prepared, name) for name in _FACTS})


def load(folder: Path) -> Prepared | None:
    """Return what `save` wrote, mapped into memory; None if it is not whole."""
    if seal.verify(folder) is not None:
        return None
    try:
        facts: dict[str, Any] = {name: seal.facts(folder)[name] for name in _FACTS}
        # Copy on write: a caller may change what it gets, the file stays as it is.
        arrays: dict[str, Any] = {name: _plain(np.load(folder / f"{name}.npy", mmap_mode="c")) for name in ARRAYS}
    except (OSError, ValueError, KeyError, seal.Damaged):
        return None
    facts["ignored"] = tuple((str(key), int(rows)) for key, rows in facts["ignored"])
    return Prepared(**arrays, **facts)


def _plain(mapped: NDArray[Any]) -> NDArray[Any]:
    """Return a mapped array as one of numpy's own class, whose slices are made faster."""
    return mapped.view(np.ndarray)
