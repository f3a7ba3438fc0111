"""Measures what two datasets share: requests, device names and answers, word for word. Other people's sets too."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hatrain.data.rows import Row, read_rows

_DEVICE = re.compile(r"^\s*([a-z_]+\.\w+)\s+'(.*)'\s*=", re.MULTILINE)
_CALLS = re.compile(r"```homeassistant.*?```|<tool_call>.*?</tool_call>", re.DOTALL)
_TURN = re.compile(r"<\|im_start\|>(\w+)\n(.*?)<\|im_end\|>", re.DOTALL)
_KINDS = ("requests", "device names", "answers")


@dataclass
class Contents:
    """How often each request, device name and answer stands in a set, as compared: case, spaces and marks aside."""

    rows: int = 0
    found: Mapping[str, dict[str, int]] = field(default_factory=lambda: {kind: {} for kind in _KINDS})

    def add(self, kind: str, text: str) -> None:
        words = " ".join(re.sub(r"[^\w%°.]+", " ", text.casefold()).strip(" .").split())
        if words:
            self.found[kind][words] = self.found[kind].get(words, 0) + 1


@dataclass(frozen=True)
class Overlap:
    """Of one kind of text: the distinct ones of B, how many A has too, and the share of all of B's that these are."""

    kind: str
    distinct: int
    shared: tuple[str, ...]
    share: float

    def line(self) -> str:
        return (
            f"{self.kind}: {len(self.shared):,} of {self.distinct:,} also in A ({self.share:.1%} of all in B)"
        )


@dataclass(frozen=True)
class Audit:
    """What two sets share."""

    one: Path
    other: Path
    rows: tuple[int, int]
    overlaps: tuple[Overlap, ...]

    def lines(self) -> Iterator[str]:
        """Yield what is printed: a line for each kind, and a few examples of what is shared."""
        yield f"A: {self.one}, {self.rows[0]:,} rows"
        yield f"B: {self.other}, {self.rows[1]:,} rows"
        for overlap in self.overlaps:
            yield overlap.line()
            yield from (f"  {text}" for text in overlap.shared[:5])


def audit(one: Path, other: Path) -> Audit:
    """Compare two datasets of any format that can be trained on. Raises BadInput for rows that cannot be read."""
    left, right = contents(read_rows(one)), contents(read_rows(other))
    overlaps = []
    for kind in _KINDS:
        mine, theirs = left.found[kind], right.found[kind]
        shared = sorted(mine.keys() & theirs.keys(), key=lambda text: (-theirs[text], text))
        total = sum(theirs.values())
        share = sum(theirs[text] for text in shared) / total if total else 0.0
        overlaps.append(Overlap(kind, len(theirs), tuple(shared), share))
    return Audit(one, other, (left.rows, right.rows), tuple(overlaps))


def contents(rows: Iterable[Row]) -> Contents:
    """Count the texts of a set. A first user text that holds the system prompt is taken apart at its last line."""
    found = Contents()
    for row in rows:
        found.rows += 1
        for role, text in _said(row):
            for _, name in _DEVICE.findall(text):
                found.add("device names", name)
            if role == "user":
                found.add("requests", text.rpartition("\n")[2] if _DEVICE.search(text) else text)
            elif role == "assistant":
                found.add("answers", _CALLS.sub("", text))
    return found


def _said(row: Row) -> Iterable[tuple[str, str]]:
    if row.text is not None:
        return _TURN.findall(row.text)
    return [(message.role, message.content) for message in row.messages]
