"""Greedy answers to many prompts at a time: what prompts begin with in common is computed once, several tokens of an
answer are read in one pass where they can be guessed, and a row that has ended leaves at once."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from hatrain.evaluate.drafts import LONGEST, Common
from hatrain.evaluate.passes import Job, Passes, Row, checked_store
from hatrain.evaluate.prompts import Stretch, in_order, stretches
from hatrain.model.stored import Store
from hatrain.runtime import memory

ROWS = 256
"""Rows that are answered at a time, where they fit into the memory."""
SHARE = {"cpu": 4, "cuda": 2}
"""Keys and values may take one part in so many of the memory that is free."""
FIRST = 4
"""Tokens of an expected answer that are tried with its prompt, beside those that are likely."""


@dataclass(slots=True, eq=False)
class _Group:
    store: Store
    rows: list[Row]


class Decoder:
    """Answers prompts with a model whose attention is `stored`'s. Adapters may be in it, not around it."""

    def __init__(
        self,
        model: Any,
        has_ended: Callable[[list[int]], bool],
        *,
        rows: int | None = None,
        should_stop: Callable[[], bool] | None = None,
        worked: Callable[[float], None] | None = None,
    ):
        """`has_ended` is given the tokens of an answer after each. At most `rows` are answered at a time. `should_stop`
        is called before each pass, and `worked` after each with how much is done, counted in rows."""
        self.passes = Passes(model)
        self.has_ended = has_ended
        self.most_rows = rows or ROWS
        self.should_stop, self.worked = should_stop, worked
        self.groups: list[_Group] = []
        self._before: tuple[Sequence[int], Store] | None = None
        """A prompt of the last group, and its keys."""
        self._tried, self._right = 0, 0
        self._common = Common()

    def check(self) -> str | None:
        """Return why the model must not be run like this."""
        store = checked_store()
        reason = self.passes.check(store)
        self._place_bytes = store.bytes / (store.rows * store.places)
        device = self.passes.device
        self._room = _free(device) // SHARE["cuda" if device.type == "cuda" else "cpu"]
        return reason

    def answers(self, rows: Sequence[Row]) -> Iterator[Row]:
        """Yield rows as they end, those with the longest prompts first, about. No two prompts are the same. Raises
        torch.OutOfMemoryError where a row alone has no room."""
        waiting, done = deque(in_order(rows)), 0
        for row in rows:
            self._common.read(row.prompt[-LONGEST:], row.reply)
        while (waiting or self.groups) and not self._is_stopped():
            try:
                for ended in self._begin(waiting) if self._has_room(waiting) else self._go_on(bool(waiting)):
                    done += len(ended)
                    yield from ended
                    if self.worked is not None:
                        self.worked(done + sum(row.share for row in self._active()))
                    if self._is_stopped():
                        return
            except torch.OutOfMemoryError:
                self._give_up(waiting)

    def _is_stopped(self) -> bool:
        return self.should_stop is not None and self.should_stop()

    def _active(self) -> list[Row]:
        return [row for group in self.groups for row in group.rows if not row.has_ended]

    # --- memory ---------------------------------------------------------------------------------------------

    def _has_room(self, waiting: Sequence[Row]) -> bool:
        """Whether new rows begin now, and not once more have ended: few at a time are slow."""
        if not waiting or not self.groups:
            return bool(waiting)
        return len(self._active()) <= self.most_rows // 2 and self._fits([waiting[0]])

    def _fits(self, rows: Sequence[Row]) -> bool:
        held = sum(group.store.bytes for group in self.groups)
        return held + len(rows) * _places(rows) * self._place_bytes <= self._room

    def _taken(self, waiting: deque[Row]) -> list[Row]:
        """Take the next rows, as many as there is room for, and one at least."""
        most = max(1, self.most_rows - len(self._active()))
        rows = [waiting.popleft()]
        while waiting and len(rows) < most and self._fits([*rows, waiting[0]]):
            rows.append(waiting.popleft())
        return rows

    def _give_up(self, waiting: deque[Row]) -> None:
        """Put all rows back, and answer half as many at a time."""
        rows = self._active()
        if len(rows) == 1 or self.most_rows == 1:
            raise torch.OutOfMemoryError("there is no room for one request")
        waiting.extendleft(reversed(rows))
        self.groups, self._before = [], None
        self.most_rows = min(self.most_rows, len(rows)) // 2
        self.passes.tokens, self.passes.kept = (max(64, most // 2) for most in (self.passes.tokens, self.passes.kept))
        if self.passes.device.type == "cuda":
            torch.cuda.empty_cache()

    def _drop_ended(self, others_wait: bool) -> None:
        """Drop rows that have ended, so that those of a group that go on are the first of its store; and, where others
        wait for their memory, the keys of the dropped ones once they are half of the store."""
        for group in self.groups:
            group.rows = [row for row in group.rows if not row.has_ended]
            _move_to_front(group)
            if others_wait and group.rows and 2 * len(group.rows) <= group.store.rows:
                group.store.keep(len(group.rows))
        self.groups = [group for group in self.groups if group.rows]

    # --- passes ---------------------------------------------------------------------------------------------

    def _begin(self, waiting: deque[Row]) -> Iterator[list[Row]]:
        """Compute the prompts of the next rows. Yields the rows that have ended, after each pass."""
        rows = self._taken(waiting)
        group = _Group(Store(len(rows), _places(rows)), rows)
        self.groups.append(group)
        for place, row in enumerate(rows):
            row.begin(place, self._common)
        for wave in stretches(group.store, rows, self._before):
            prompts = (self._job(group.store, stretch) for stretch in wave)
            # Weights are read from memory once for a pass: answers that have begun go on along with the prompts.
            for jobs in self.passes.divided(prompts, along=self._next_jobs):
                yield self._run(jobs)
        last, self._before = rows[-1], None
        if waiting:
            self._before = last.prompt, Store(1, len(last.prompt))
            self._before[1].take(0, group.store, last.place, len(last.prompt))
        self._drop_ended(bool(waiting))

    def _job(self, store: Store, stretch: Stretch) -> Job:
        row, draft = stretch.row, []
        if stretch.source is not None:
            store.take(stretch.place, *stretch.source, stretch.start)
        if row is not None:
            likely = FIRST + 2 * self._right // max(self._tried, 1)
            draft = row.drafts.first(min(likely, row.limit - 1, self.passes.kept - 1))
        return Job(store, stretch.place, stretch.start, [*stretch.tokens, *draft], row, draft)

    def _go_on(self, others_wait: bool) -> Iterator[list[Row]]:
        """Let all answers go on. Yields the rows that have ended, after each pass."""
        for some in self.passes.divided(self._next_jobs()):
            yield self._run(some)
        self._drop_ended(others_wait)

    def _next_jobs(self) -> list[Job]:
        """What a pass reads of each answer that goes on."""
        jobs = []
        for group in self.groups:
            for row in group.rows:
                if row.new and not row.has_ended:
                    draft = row.drafts.next(min(row.limit - len(row.new), self.passes.kept) - 1)
                    position = len(row.prompt) + len(row.new) - 1
                    jobs.append(Job(group.store, row.place, position, [row.new[-1], *draft], row, draft))
        return jobs

    def _run(self, jobs: Sequence[Job]) -> list[Row]:
        """Run the model. Returns the rows that have ended."""
        ended, found = [], self.passes.most_likely(jobs)
        for job in jobs:
            if job.row is None:
                continue
            row, is_first, before = job.row, not job.row.new, len(job.row.new)
            tokens = [next(found) for _ in range(1 + len(job.draft))]
            for guess, token in zip([*job.draft, None], tokens, strict=True):
                row.new.append(token)
                row.has_ended = len(row.new) == row.limit or self.has_ended(row.new)
                if row.has_ended or token != guess:
                    break
            written = row.new[before:]
            row.drafts.written(written, 0 if is_first else len(job.draft))
            if is_first:
                self._tried, self._right = self._tried + 1, self._right + len(written) - 1
            if row.has_ended:
                ended.append(row)
        return ended


def _move_to_front(group: _Group) -> None:
    """Move the keys of rows to the places that others left, so that no place before the last one is empty."""
    taken = {row.place for row in group.rows}
    left = iter(place for place in range(len(group.rows)) if place not in taken)
    for row in group.rows:
        if row.place >= len(group.rows):
            place = next(left)
            group.store.take(place, group.store, row.place, len(row.prompt) + len(row.new))
            row.place = place


def _places(rows: Sequence[Row]) -> int:
    return max(len(row.prompt) + row.limit for row in rows)


def _free(device: torch.device) -> int:
    """Bytes of memory that are free."""
    if device.type == "cuda":
        free: int = torch.cuda.mem_get_info(device)[0]
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return memory.available() or 2**32
