"""A dataset file as labelled examples for the trainer. Rows are never cut; those that are too long are dropped."""

import hashlib
import multiprocessing
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from itertools import islice, pairwise
from pathlib import Path
from typing import ClassVar, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from hatrain.data.labels import Example, Ids, Labeller
from hatrain.data.rows import BadRow, Row, scan_rows, shortened
from hatrain.errors import BadInput
from hatrain.text import count

E = TypeVar("E")
OnOverlong = Literal["drop", "error"]

_SHOWN = 3
"""Bad rows that are printed as text and tokens; the others usually have the same problem."""

_SMALL = 8 * 2**20
"""Bytes of a file, about 4,000 rows, below which worker processes save no time."""

CHUNK = 64
"""Rows tokenized together: they keep the tokenizer's threads busy, and are few calls to a worker process."""


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


def tokenize_dataset(
    path: str | Path,
    tokenizer: PreTrainedTokenizerBase,
    *,
    ctx_size: int,
    prefix_ids: Sequence[int] | None = None,
    suffix_ids: Sequence[int] | None = None,
    on_overlong: OnOverlong = "drop",
    workers: int | None = None,
    today: date | None = None,
) -> TokenizedDataset:
    """Return the examples of a file. `workers` processes share the work; None picks the fastest number. `today` is the
    date for chat templates that ask for it.

    Raises BadInput as `keep_fitting` does.
    """
    labeller = Labeller(tokenizer, prefix_ids, suffix_ids, today)
    digest = hashlib.sha256()
    raw_rows = null_rows = 0

    def rows() -> Iterator[Example | Overlong | BadRow]:
        nonlocal raw_rows, null_rows
        for row, labelled in label_file(path, labeller, workers=workers, digest=digest):
            raw_rows += isinstance(row, Row) and row.text is not None
            null_rows += isinstance(row, Row) and bool(row.nulls)
            if isinstance(labelled, Example) and labelled.length > ctx_size:
                yield Overlong(row.path, row.index, row.line, labelled.length)
            else:
                yield labelled

    kept, dropped = keep_fitting(rows(), path, ctx_size, on_overlong)
    return TokenizedDataset(tuple(kept), tuple(dropped), raw_rows, null_rows, digest.hexdigest())


def keep_fitting(
    rows: Iterable[E | Overlong | BadRow], path: str | Path, ctx_size: int, on_overlong: OnOverlong
) -> tuple[list[E], list[Overlong]]:
    """Separate the rows of a file that fit into the context from those that do not.

    Raises BadInput for bad rows (all of the file at once), for overlong rows when `on_overlong` is "error", and when
    no row is left.
    """
    kept: list[E] = []
    dropped: list[Overlong] = []
    bad: list[BadRow] = []
    for row in rows:
        if isinstance(row, BadRow):
            bad.append(row)
        elif isinstance(row, Overlong):
            dropped.append(row)
        else:
            kept.append(row)
    problems = problem_lines(bad)
    if on_overlong == "error":
        problems += [
            f"{row.path}:{row.line}: row {row.row}: {row.problem(ctx_size)}; "
            "shorten it, raise ctx_size, or set on_overlong: drop"
            for row in dropped
        ]
    if problems:
        raise BadInput(shortened(problems))
    if not kept:
        shortest = min(row.length for row in dropped)
        raise BadInput(
            f"{path}: no {dropped[0].kind} fits into ctx_size {ctx_size}; the shortest of {len(dropped)} has "
            f"{count(shortest, 'token')}"
        )
    return kept, dropped


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


def label_file(
    path: str | Path, labeller: Labeller, *, workers: int | None = None, digest: "hashlib._Hash | None" = None
) -> Iterator[tuple[Row | BadRow, Example | BadRow]]:
    """Yield every row of a file with its example, or with its problems, in the order of the file. `digest` is updated
    with the file's bytes."""
    chunks = in_chunks(scan_rows(path, digest))
    workers = _fastest_workers(Path(path)) if workers is None else workers
    if workers <= 1:
        for chunk in chunks:
            yield from zip(chunk, _label_chunk(labeller, chunk), strict=True)
        return
    with _pool(labeller, workers) as pool:
        # A window at a time: a big file's text would not fit into memory.
        while window := list(islice(chunks, 4 * workers)):
            for chunk, labelled in zip(window, pool.map(_label_in_worker, window), strict=True):
                yield from zip(chunk, labelled, strict=True)


def in_chunks(rows: Iterator[E]) -> Iterator[list[E]]:
    while chunk := list(islice(rows, CHUNK)):
        yield chunk


def _label_chunk(labeller: Labeller, chunk: Sequence[Row | BadRow]) -> list[Example | BadRow]:
    labelled = iter(labeller.label([row for row in chunk if isinstance(row, Row)]))
    return [row if isinstance(row, BadRow) else next(labelled) for row in chunk]


# --- worker processes ---------------------------------------------------------------------------------------

_labeller_of_worker: Labeller | None = None


def _pool(labeller: Labeller, workers: int) -> ProcessPoolExecutor:
    # Forked processes have the tokenizer at once. New ones would spend seconds on imports.
    context = multiprocessing.get_context("fork")
    return ProcessPoolExecutor(workers, context, initializer=_become_worker, initargs=(labeller,))


def _become_worker(labeller: Labeller) -> None:
    global _labeller_of_worker
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the tokenizer's own threads do not survive a fork
    _labeller_of_worker = labeller


def _label_in_worker(chunk: Sequence[Row | BadRow]) -> list[Example | BadRow]:
    assert _labeller_of_worker is not None
    return _label_chunk(_labeller_of_worker, chunk)


def _fastest_workers(path: Path) -> int:
    """One process for a file that takes seconds anyway, and on two cores, which the tokenizer's threads keep busy
    (6,000 rows of 600 tokens: 2,500 rows/s alone, 2,200 with two workers). Ranks on one machine share its cores."""
    cores = len(os.sched_getaffinity(0)) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    is_worth_it = cores > 2 and path.is_file() and path.stat().st_size > _SMALL
    return min(cores, 16) if is_worth_it else 1
