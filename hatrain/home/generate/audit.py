"""Measures what two datasets share, verbatim: requests, device names and answers.

Any dataset format is accepted, and a clone of home-assistant/intents, whose sentences must never be trained on.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from hatrain.data.rows import Row, read_rows
from hatrain.home.intents.clone import is_clone, languages, read_sentences

_DEVICE = re.compile(r"^\s*([a-z_]+\.\w+)\s+'(.*)'\s*=", re.MULTILINE)
_LISTED = re.compile(r"^- names: '?(.+?)'?$", re.MULTILINE)  # in the overview of Home Assistant's own interface
_CALLS = re.compile(r"```homeassistant.*?```|<tool_call>.*?</tool_call>", re.DOTALL)
_TURN = re.compile(r"<\|im_start\|>(\w+)\n(.*?)<\|im_end\|>", re.DOTALL)
_KINDS = ("requests", "device names", "answers")


@dataclass
class Contents:
    """How often each text occurs in a dataset, by kind, without regard to case, spaces and punctuation."""

    rows: int = 0
    counts: dict[str, Counter[str]] = field(default_factory=lambda: {kind: Counter() for kind in _KINDS})

    def add(self, kind: str, text: str) -> None:
        words = " ".join(re.sub(r"[^\w%°.]+", " ", text.casefold()).strip(" .").split())
        if words:
            self.counts[kind][words] += 1


@dataclass(frozen=True)
class Overlap:
    """Of one kind of text: how many distinct ones B has, which of them A has too, and their share of all in B."""

    kind: str
    distinct: int
    shared: tuple[str, ...]
    share: float

    def line(self) -> str:
        return f"{self.kind}: {len(self.shared):,} of {self.distinct:,} also in A ({self.share:.1%} of all in B)"


@dataclass(frozen=True)
class Audit:
    a: Path
    b: Path
    rows: tuple[int, int]
    overlaps: tuple[Overlap, ...]

    def lines(self) -> Iterator[str]:
        """Yield the report: for each kind of text a line and up to five shared examples."""
        yield f"A: {self.a}, {self.rows[0]:,} rows"
        yield f"B: {self.b}, {self.rows[1]:,} rows"
        for overlap in self.overlaps:
            yield overlap.line()
            yield from (f"  {text}" for text in overlap.shared[:5])


def audit(a: Path, b: Path) -> Audit:
    """Compare two datasets. Raises BadInput for rows that cannot be read."""
    in_a, in_b = (contents_of_clone(path) if is_clone(path) else contents(read_rows(path)) for path in (a, b))
    overlaps = []
    for kind in _KINDS:
        counts = in_b.counts[kind]
        shared = sorted(in_a.counts[kind].keys() & counts.keys(), key=lambda text: (-counts[text], text))
        share = sum(counts[text] for text in shared) / (counts.total() or 1)
        overlaps.append(Overlap(kind, len(counts), tuple(shared), share))
    return Audit(a, b, (in_a.rows, in_b.rows), tuple(overlaps))


def contents_of_clone(folder: Path) -> Contents:
    """Count the texts of a clone of home-assistant/intents, in every language that it has tests of."""
    found = Contents()
    for language in languages(folder):
        tests = read_sentences(folder, language)
        for entity in tests.home:
            found.add("device names", entity.name)
        for block in tests.blocks:
            found.rows += len(block.sentences)
            found.add("answers", block.response)
            for sentence in block.sentences:
                found.add("requests", sentence)
    return found


def contents(rows: Iterable[Row]) -> Contents:
    """Count the texts of a dataset. Of a user message that holds the system prompt, the last line is the request."""
    found = Contents()
    for row in rows:
        found.rows += 1
        for role, text in _messages(row):
            for name in _names(text):
                found.add("device names", name)
            if role == "user":
                found.add("requests", text.rpartition("\n")[2] if _DEVICE.search(text) else text)
            elif role == "assistant":
                found.add("answers", _CALLS.sub("", text))
    return found


def _names(text: str) -> Iterator[str]:
    yield from (name for _, name in _DEVICE.findall(text))
    for names in _LISTED.findall(text):
        yield from names.split(", ")


def _messages(row: Row) -> Iterable[tuple[str, str]]:
    if row.text is not None:
        return _TURN.findall(row.text)
    return [(message.role, message.content) for message in row.messages]
