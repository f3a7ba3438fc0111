"""Prepares a file: reads, tokenizes and labels its rows on all cores, once, and keeps the result for whoever needs it
next, such as the other ranks of a node, a run that goes on, or `hatrain check`."""

import ctypes
import gc
import hashlib
import multiprocessing
import os
import signal
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Generic, TypeVar

from hatrain.contract.row_count import count_rows_of
from hatrain.contract.row_lengths import default_folder
from hatrain.data.cache import Cache, Say, key_of
from hatrain.data.encoder import Inexact
from hatrain.data.labels import Example, Labeller
from hatrain.data.prepared import Prepared
from hatrain.data.rows import BadRow, Form, Row, made, numbered
from hatrain.data.template import ChatTemplate
from hatrain.errors import BadInput
from hatrain.runtime import machine, seal
from hatrain.runtime.counting import Counting

R = TypeVar("R")

SMALL = 2**20
"""Bytes of a file that is prepared in less time than it takes to find it in the cache, or to start processes."""
CHUNK = 64
"""Rows that are tokenized together, and handed to a process together."""
_MOST_WORKERS = 16
_AHEAD = 3
"""Chunks that are read ahead for each process: all of a big file would not fit into memory."""


@dataclass(frozen=True)
class Kind(Generic[R]):
    """What the rows of a file are."""

    name: str
    sides: int
    """Examples of a row."""
    form: Form[R]
    accepted: str
    label: Callable[[Labeller, Sequence[R]], Iterable[tuple[Example, ...] | BadRow]]
    seen: Callable[[R], Row]
    """The row whose keys and turns are counted."""


def prepare(
    path: str | Path,
    labeller: Labeller,
    kind: Kind[Any],
    *,
    say: Say = lambda line: None,
    cache: Path | None = None,
    workers: int | None = None,
    lengths: str | None = None,
) -> Prepared:
    """Return the rows of a file, from the cache if it was prepared before. `say` gets lines on how far it is. `cache`
    is the folder of the cache; None means the user's. `workers` processes share the work; None picks their number.
    `lengths` is the name under which a plan looks for the lengths of the rows (`hatrain.contract.row_lengths`).

    Raises BadInput when the file cannot be read. Bad rows are in the result, and such a file is never cached.
    """
    path = Path(path)
    if not path.is_file() or path.stat().st_size < SMALL:
        return _made(path, labeller, kind, say, 1 if workers is None else workers)
    kept = Cache(cache or default_folder(), say)
    prepared = _from_cache(path, labeller, kind, say, kept, workers)
    if lengths and not prepared.bad:
        kept.keep_lengths(lengths, prepared)
    return prepared


def _from_cache(
    path: Path, labeller: Labeller, kind: Kind[Any], say: Say, kept: Cache, workers: int | None
) -> Prepared:
    digest = _digest(path)
    key = key_of(labeller, kind.name, digest)
    if (found := kept.find(key)) is not None:
        return found
    # One line is enough for the ranks of a machine, of which one prepares.
    is_first = os.environ.get("LOCAL_RANK", "0") == "0"
    with kept.alone(key, f"{path}: waiting for another process that prepares it" if is_first else "") as is_alone:
        if is_alone and (found := kept.find(key)) is not None:
            return found
        prepared = _made(path, labeller, kind, say, _workers(is_alone) if workers is None else workers)
        if not prepared.bad and prepared.digest == digest:
            kept.keep(key, prepared)
        return prepared


def _digest(path: Path) -> str:
    try:
        return seal.digest(path)
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error}") from None


def _workers(is_alone: bool) -> int:
    """All cores, where other ranks of this machine wait for the result; else a share of them."""
    if sys.platform == "darwin":
        return 1  # its frameworks do not survive a fork
    ranks = 1 if is_alone else int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return max(1, min(machine.cores() // ranks, _MOST_WORKERS))


def _made(path: Path, labeller: Labeller, kind: Kind[Any], say: Say, workers: int) -> Prepared:
    try:
        return _in_parts(path, labeller, kind, say, workers)
    except Inexact:
        labeller.encoder.encode_whole()
        return _in_parts(path, labeller, kind, say, workers)


def _in_parts(path: Path, labeller: Labeller, kind: Kind[Any], say: Say, workers: int) -> Prepared:
    digest = hashlib.sha256()
    chunks = _in_chunks(numbered(path, kind.accepted, digest))
    work = _Work(path, labeller, kind)
    counting, total, done = Counting(f"preparing {path}", "rows", say), 0, 0
    parts = []
    for part in _by_workers(work, chunks, workers) if workers > 1 else map(work, chunks):
        parts.append(part)
        done += len(part) + len(part.bad)
        total = total or count_rows_of(path) or done
        counting.at(done, total)
    return Prepared.joined(parts, digest.hexdigest())


Chunk = Sequence[tuple[int, int, Any]]
"""Rows: the index, the line and the value of each, which may not be parsed yet."""


def _in_chunks(rows: Iterator[tuple[int, int, Any]]) -> Iterator[Chunk]:
    while chunk := list(islice(rows, CHUNK)):
        yield chunk


@dataclass(frozen=True)
class _Work:
    """What is done with each chunk of a file."""

    path: Path
    labeller: Labeller
    kind: Kind[Any]

    def __call__(self, chunk: Chunk) -> Prepared:
        """Return the rows of a chunk. Raises Inexact."""
        kind, template = self.kind, self.labeller.finder.template
        rows = [made(value, kind.form, self.path, index, line) for index, line, value in chunk]
        read = [row for row in rows if not isinstance(row, BadRow)]
        labelled = iter(kind.label(self.labeller, read))
        good: list[tuple[int, int, tuple[Example, ...]]] = []
        bad: list[BadRow] = []
        ignored: Counter[str] = Counter()
        raw_rows = null_rows = 0
        for row in rows:
            examples = row if isinstance(row, BadRow) else next(labelled)
            if isinstance(examples, BadRow):
                bad.append(examples)
                continue
            seen = kind.seen(row)
            good.append((seen.index, seen.line, examples))
            raw_rows += seen.text is not None
            null_rows += bool(seen.nulls)
            ignored.update(ignored_keys(seen, template))
        facts = {"raw_rows": raw_rows, "null_rows": null_rows, "ignored": tuple(ignored.items()), "bad": tuple(bad)}
        return Prepared.of(good, kind.sides, **facts)


def ignored_keys(row: Row, template: ChatTemplate) -> Iterator[str]:
    """Yield the keys of a row that the model does not see."""
    yield from row.meta
    if row.tools and not template.writes_tools:
        yield "tools"
    extra = {key for message in row.messages for key in message.extra}
    keys = {key for key in extra if not template.mentions(key)}
    keys |= {key for message in row.messages for key in message.ignored}
    yield from (f"turns: {key}" for key in keys)


# --- worker processes ---------------------------------------------------------------------------------------


def _by_workers(work: _Work, chunks: Iterator[Chunk], workers: int) -> Iterator[Prepared]:
    """Yield what the processes make of the chunks, in the order of the chunks."""
    for chunk in islice(chunks, 1):
        yield work(chunk)  # the processes begin with what this one learns of the tokenizer and the template
    # Forked processes have the tokenizer at once. New ones would spend seconds on imports.
    context = multiprocessing.get_context("fork")
    gc.freeze()  # else each process copies the pages of all objects when it collects garbage
    pool = ProcessPoolExecutor(workers, context, initializer=_become_worker, initargs=(work, os.getpid()))
    waiting: deque[Future[Prepared]] = deque()
    try:
        for chunk in chunks:
            waiting.append(pool.submit(_work_on, chunk))
            if len(waiting) > _AHEAD * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
        gc.unfreeze()


_work_of_worker: _Work | None = None


def _become_worker(work: _Work, parent: int) -> None:
    global _work_of_worker
    _die_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent gets it too, and ends this process
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # not what the parent does when it is stopped
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the tokenizer's own threads do not survive a fork
    _work_of_worker = work


def _die_with(parent: int) -> None:
    """End this process when its parent ends, also when that is killed. Linux only; elsewhere it would wait for work."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


_PR_SET_PDEATHSIG = 1


def _work_on(chunk: Chunk) -> Prepared:
    assert _work_of_worker is not None
    return _work_of_worker(chunk)
