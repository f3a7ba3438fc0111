"""A dataset's file as examples for the trainer: labelled, counted, never cut. It holds token ids, no text."""

import multiprocessing
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from hatrain.data.labels import IGNORED, Example, Ids, Labeller
from hatrain.data.rows import BadRow, Row, scan_rows, shortened
from hatrain.errors import BadInput

__all__ = [
    "IGNORED",
    "Overlong",
    "TokenizedDataset",
    "label_file",
    "problem_lines",
    "raw_note",
    "tokenize_dataset",
]

_SHOWN = 3
"""How many bad rows are shown as text and tokens; the rest is usually more of the same."""

_SMALL = 8 * 2**20
"""Bytes of a file, about 4,000 rows, below which worker processes gain nothing worth having."""

_CHUNK = 64
"""Rows per task of a worker process: enough that handing them over costs little."""


@dataclass(frozen=True, slots=True)
class Overlong:
    """A row that does not fit into the context. Its answer stands at its end, so it is never cut."""

    path: Path
    row: int
    """0-based index of the row in its file."""
    line: int
    length: int
    """Tokens."""


class _Labels(Sequence[Ids]):
    """Labels made when asked for: they hold nothing that the examples do not."""

    def __init__(self, examples: Sequence[Example]):
        self._examples = examples

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: int) -> Ids:  # type: ignore[override]
        return self._examples[index].labels


@dataclass(frozen=True)
class TokenizedDataset:
    """The kept rows in the order of their files, and those that were too long."""

    examples: tuple[Example, ...]
    dropped: tuple[Overlong, ...] = ()
    raw_rows: int = 0
    """How many of the rows were raw text, where a header that somebody quotes passes for a true one."""

    @classmethod
    def joined(cls, parts: Iterable["TokenizedDataset"]) -> "TokenizedDataset":
        """Return several datasets as one, in their order."""
        parts = list(parts)
        return cls(
            tuple(example for part in parts for example in part.examples),
            tuple(row for part in parts for row in part.dropped),
            sum(part.raw_rows for part in parts),
        )

    def __len__(self) -> int:
        return len(self.examples)

    @cached_property
    def input_ids(self) -> Sequence[Ids]:
        """[rows][tokens]"""
        return [example.input_ids for example in self.examples]

    @cached_property
    def labels(self) -> Sequence[Ids]:
        """[rows][tokens], unshifted; IGNORED where a token is not trained on."""
        return _Labels(self.examples)

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """[rows], tokens of each row."""
        return np.array([example.length for example in self.examples], dtype=np.int64)

    @cached_property
    def supervised(self) -> NDArray[np.int64]:
        """[rows], tokens of each row that are trained on."""
        return np.array([example.supervised for example in self.examples], dtype=np.int64)


def tokenize_dataset(
    path: str | Path,
    tokenizer: PreTrainedTokenizerBase,
    *,
    ctx_size: int,
    prefix_ids: Sequence[int] | None = None,
    suffix_ids: Sequence[int] | None = None,
    on_overlong: Literal["drop", "error"] = "drop",
    workers: int | None = None,
) -> TokenizedDataset:
    """Return the examples of a file. `workers` processes share the work; None takes as many as pay.

    Raises BadInput for bad rows (all of the file at once), for rows of more than `ctx_size` tokens when
    `on_overlong` is "error", and when no row is left.
    """
    labeller = Labeller(tokenizer, prefix_ids, suffix_ids)
    examples: list[Example] = []
    dropped: list[Overlong] = []
    bad: list[BadRow] = []
    raw_rows = 0
    for row, labelled in label_file(path, labeller, workers=workers):
        raw_rows += isinstance(row, Row) and row.text is not None
        if isinstance(labelled, BadRow):
            bad.append(labelled)
        elif labelled.length > ctx_size:
            dropped.append(Overlong(row.path, row.index, row.line, labelled.length))
        else:
            examples.append(labelled)
    problems = problem_lines(bad)
    if on_overlong == "error":
        problems += [
            f"{row.path}:{row.line}: row {row.row}: {row.length} tokens do not fit into ctx_size {ctx_size}; "
            "shorten it, raise ctx_size, or set on_overlong: drop"
            for row in dropped
        ]
    if problems:
        raise BadInput(shortened(problems))
    if not examples:
        shortest = min(row.length for row in dropped)
        raise BadInput(
            f"{path}: no row fits into ctx_size {ctx_size}; the shortest of {len(dropped)} has {shortest} tokens"
        )
    return TokenizedDataset(tuple(examples), tuple(dropped), raw_rows)


def raw_note(rows: int) -> str:
    """Return what is to be said of raw text."""
    return (
        f"{rows} rows are raw text: where somebody in it imitates the header of a reply, that cannot be told "
        "from a reply, and is trained on"
    )


def problem_lines(bad: Iterable[BadRow]) -> list[str]:
    """Return what is wrong with each bad row; the first few with a detail show the row itself, text and tokens."""
    lines: list[str] = []
    shown = 0
    for row in bad:
        detail = row.detail if shown < _SHOWN else ""
        shown += bool(detail)
        lines.extend(row.problems[:-1])
        lines.append("\n".join(filter(None, (row.problems[-1], detail))))
    return lines


def label_file(
    path: str | Path, labeller: Labeller, *, workers: int | None = None
) -> Iterator[tuple[Row | BadRow, Example | BadRow]]:
    """Yield every row of a file with its example, or with what is wrong with it, in the order of the file."""
    chunks = _chunks(scan_rows(path))
    workers = _workers_that_pay(Path(path)) if workers is None else workers
    if workers <= 1:
        for chunk in chunks:
            yield from zip(chunk, _label_chunk(labeller, chunk), strict=True)
        return
    with _pool(labeller, workers) as pool:
        # A window at a time, so that a big file is never held as text as a whole.
        while window := list(islice(chunks, 4 * workers)):
            for chunk, labelled in zip(window, pool.map(_label_in_worker, window), strict=True):
                yield from zip(chunk, labelled, strict=True)


def _chunks(rows: Iterator[Row | BadRow]) -> Iterator[list[Row | BadRow]]:
    while chunk := list(islice(rows, _CHUNK)):
        yield chunk


def _label_chunk(labeller: Labeller, chunk: Sequence[Row | BadRow]) -> list[Example | BadRow]:
    labelled = iter(labeller.label([row for row in chunk if isinstance(row, Row)]))
    return [row if isinstance(row, BadRow) else next(labelled) for row in chunk]


# --- worker processes ---------------------------------------------------------------------------------------

_labeller_of_worker: Labeller | None = None


def _pool(labeller: Labeller, workers: int) -> ProcessPoolExecutor:
    """Fork: the tokenizer is there at once, where a fresh process would spend seconds on imports."""
    context = multiprocessing.get_context("fork")
    return ProcessPoolExecutor(workers, context, initializer=_become_worker, initargs=(labeller,))


def _become_worker(labeller: Labeller) -> None:
    global _labeller_of_worker
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the tokenizer's own threads do not survive a fork
    _labeller_of_worker = labeller


def _label_in_worker(chunk: Sequence[Row | BadRow]) -> list[Example | BadRow]:
    assert _labeller_of_worker is not None
    return _label_chunk(_labeller_of_worker, chunk)


def _workers_that_pay(path: Path) -> int:
    """Return how many processes to use: this one alone for a file that takes seconds anyway, and on two cores,
    which the tokenizer's own threads keep busy (6,000 rows of 600 tokens: 2,500 rows/s alone, 2,200 with two
    workers). Ranks that share a machine share its cores."""
    cores = len(os.sched_getaffinity(0)) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    pays = cores > 2 and path.is_file() and path.stat().st_size > _SMALL
    return min(cores, 16) if pays else 1
