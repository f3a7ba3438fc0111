"""A dataset file as labelled examples for the trainer. Rows are never cut; those that are too long are dropped."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from hatrain.data.encoder import Ids
from hatrain.data.labels import Example, Labeller
from hatrain.data.prepare import Kind, prepare
from hatrain.data.prepared import Prepared
from hatrain.data.rows import ROW_FORMATS, BadRow, Row, read_row, shortened
from hatrain.errors import BadInput
from hatrain.text import count

OnOverlong = Literal["drop", "error"]

_SHOWN = 3
"""Bad rows that are printed as text and tokens; the others usually have the same problem."""


@dataclass(frozen=True, slots=True)
class Overlong:
    """A row that does not fit into the context. Its answer is at its end, so it is never cut."""

    kind: ClassVar[str] = "row"

    path: Path
    row: int
    """0-based index of the row in its file."""
    line: int
    length: int
    """Tokens."""

    def problem(self, ctx_size: int) -> str:
        return f"{self.length} tokens do not fit into ctx_size {ctx_size}"


class _Labels(Sequence[Ids]):
    """Labels computed on access, to save memory."""

    def __init__(self, examples: Sequence[Example]):
        self._examples = examples

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: int) -> Ids:  # type: ignore[override]
        return self._examples[index].labels


@dataclass(frozen=True)
class TokenizedDataset:
    """The kept rows in the order of their files, and the overlong ones."""

    examples: tuple[Example, ...]
    dropped: tuple[Overlong, ...] = ()
    raw_rows: int = 0
    """Rows of raw text, where a header that is only quoted looks like a real one."""
    null_rows: int = 0
    """Rows whose call arguments or tools had keys without a value, which were left out."""
    digest: str = ""
    """SHA-256 of the bytes of the file that were read; empty for several files."""

    @classmethod
    def joined(cls, parts: Iterable["TokenizedDataset"]) -> "TokenizedDataset":
        parts = list(parts)
        return cls(
            tuple(example for part in parts for example in part.examples),
            tuple(row for part in parts for row in part.dropped),
            sum(part.raw_rows for part in parts),
            sum(part.null_rows for part in parts),
        )

    def __len__(self) -> int:
        return len(self.examples)

    @cached_property
    def sequences(self) -> Sequence[Example]:
        """The sequences of all rows: those of one row are together."""
        return [sequence for example in self.examples for sequence in example.sequences]

    @cached_property
    def sequences_of(self) -> Sequence[range]:
        """[rows], the numbers of each row's sequences."""
        ends = np.cumsum([0, *(len(example.sequences) for example in self.examples)]).tolist()
        return [range(start, end) for start, end in pairwise(ends)]

    @cached_property
    def input_ids(self) -> Sequence[Ids]:
        """[sequences][tokens]"""
        return [sequence.input_ids for sequence in self.sequences]

    @cached_property
    def labels(self) -> Sequence[Ids]:
        """[sequences][tokens], unshifted; IGNORED where a token is not trained on."""
        return _Labels(self.sequences)

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """[rows], tokens of each row, in all its sequences."""
        return np.array([example.tokens for example in self.examples], dtype=np.int64)

    @cached_property
    def supervised(self) -> NDArray[np.int64]:
        """[rows], supervised tokens of each row."""
        return np.array([example.supervised for example in self.examples], dtype=np.int64)


def _label(labeller: Labeller, rows: Sequence[Row]) -> Iterator[tuple[Example, ...] | BadRow]:
    for labelled in labeller.label(rows):
        yield labelled if isinstance(labelled, BadRow) else (labelled,)


def _same(row: Row) -> Row:
    return row


ROWS = Kind("rows", 1, read_row, ROW_FORMATS, _label, _same)


def tokenize_dataset(
    path: str | Path,
    tokenizer: PreTrainedTokenizerBase,
    *,
    ctx_size: int,
    prefix_ids: Sequence[int] | None = None,
    suffix_ids: Sequence[int] | None = None,
    on_overlong: OnOverlong = "drop",
    today: date | None = None,
    **options: Any,
) -> TokenizedDataset:
    """Return the examples of a file. `today` is the date for chat templates that ask for it; `options` are those of
    `prepare`.

    Raises BadInput as `kept_rows` does.
    """
    prepared = prepare(path, Labeller(tokenizer, prefix_ids, suffix_ids, today), ROWS, **options)
    dropped = [
        Overlong(Path(path), *prepared.place(row), int(prepared.longest[row]))
        for row in np.flatnonzero(prepared.longest > ctx_size).tolist()
    ]
    kept = kept_rows(prepared, path, dropped, ctx_size, on_overlong)
    examples = tuple(example for (example,) in prepared.examples(kept))
    return TokenizedDataset(examples, tuple(dropped), prepared.raw_rows, prepared.null_rows, prepared.digest)


def kept_rows(
    prepared: Prepared, path: str | Path, dropped: Sequence[Overlong], ctx_size: int, on_overlong: OnOverlong
) -> list[int]:
    """Return the rows of a file that fit into the context, all but those `dropped`.

    Raises BadInput for bad rows (all of the file at once), for overlong rows when `on_overlong` is "error", and when
    no row is left.
    """
    problems = problem_lines(prepared.bad)
    if on_overlong == "error":
        problems += [
            f"{row.path}:{row.line}: row {row.row}: {row.problem(ctx_size)}; "
            "shorten it, raise ctx_size, or set on_overlong: drop"
            for row in dropped
        ]
    if problems:
        raise BadInput(shortened(problems))
    kept: list[int] = np.flatnonzero(prepared.longest <= ctx_size).tolist()
    if not kept:
        shortest = min(row.length for row in dropped)
        raise BadInput(
            f"{path}: no {dropped[0].kind} fits into ctx_size {ctx_size}; the shortest of {len(dropped)} has "
            f"{count(shortest, 'token')}"
        )
    return kept


def raw_note(rows: int) -> str:
    return (
        f"{count(rows, 'row')} of raw text: a reply's header that is only quoted in it looks like a real one, and the "
        "text after it is trained on"
    )


def problem_lines(bad: Iterable[BadRow]) -> list[str]:
    """Return each bad row's problems; the first few also show the row as text and tokens."""
    lines: list[str] = []
    shown = 0
    for row in bad:
        detail = row.detail if shown < _SHOWN else ""
        shown += bool(detail)
        lines.extend(row.problems[:-1])
        lines.append("\n".join(filter(None, (row.problems[-1], detail))))
    return lines
