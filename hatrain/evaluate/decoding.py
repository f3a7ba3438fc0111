"""Greedy answers to many prompts at a time. The tokens of all rows of a pass stand in one row, without padding; what prompts
begin with in common is computed once; and a row that has ended leaves at once."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from hatrain.data.packs import Segment, make_pack
from hatrain.data.prefixes import prefix_groups
from hatrain.evaluate.drafts import Drafts
from hatrain.model import stored
from hatrain.model.replaceable import differs, named
from hatrain.model.stored import Part, Parts, Store
from hatrain.runtime import memory

ROWS = {"cpu": 64, "cuda": 256}
"""Rows that are answered at a time, where they fit into the memory."""
TOKENS = {"cpu": 1024, "cuda": 8192}
"""Of a pass. More are not faster."""
LOGITS = 2**26
"""Of a pass."""
SHARE = {"cpu": 4, "cuda": 2}
"""Keys and values may take one part in so many of the memory that is free."""
GROUP = 32
"""Rows whose prompts are computed together, and whose keys are stored together."""

PREFIX, BRANCH = 24, 8
"""Tokens of the rows that a model is checked with."""
LARGEST_ERROR = 0.05
"""Of half precision, as a share of how far log-probabilities are apart."""


@dataclass(slots=True, eq=False)
class Row:
    """A prompt and its answer, while it is written."""

    number: int
    prompt: Sequence[int]
    reply: Sequence[int]
    """The expected answer, for drafts."""
    limit: int
    """Maximum tokens of the answer."""
    new: list[int] = field(default_factory=list)
    place: int = -1
    """Its row in the store of its group."""
    read: int = 0
    """Tokens that the model has read."""

    has_ended: bool = False
    drafts: Drafts = field(init=False)

    def begin(self, place: int) -> None:
        self.new, self.place, self.read, self.has_ended = [], place, 0, False
        self.drafts = Drafts(self.prompt, self.reply)

    @property
    def share(self) -> float:
        """How much of the row is done, about."""
        return min(self.read / (len(self.prompt) + len(self.reply) + 1), 0.99)


@dataclass(slots=True, eq=False)
class _Group:
    store: Store
    rows: list[Row]


@dataclass(slots=True)
class _Job:
    """Tokens of a row that a pass reads."""

    store: Store
    part: Part
    tokens: Sequence[int]
    row: Row | None = None
    """Whose answer goes on, after its last token and after each of the draft; None for the middle of a prompt."""
    draft: Sequence[int] = ()


class Decoder:
    """Answers prompts with a model whose attention is `stored`'s. `model` is without adapters around it; they may be in
    it."""

    def __init__(
        self,
        model: Any,
        has_ended: Callable[[list[int]], bool],
        *,
        rows: int | None = None,
        should_stop: Callable[[], bool] | None = None,
        worked: Callable[[float], None] | None = None,
    ):
        """`has_ended` is told the tokens of an answer after each. At most `rows` are answered at a time. `should_stop` is
        called before each pass, and `worked` after each with how much is done, counted in requests."""
        self.model, self.has_ended = model, has_ended
        self.device: torch.device = model.device
        kind = "cuda" if self.device.type == "cuda" else "cpu"
        self.most_rows = rows or ROWS[kind]
        self.most_tokens = TOKENS[kind]
        self.most_kept = max(1, LOGITS // model.get_input_embeddings().weight.shape[0])
        self.room = _free(self.device) // SHARE[kind]
        self.should_stop, self.worked = should_stop, worked
        self.groups: list[_Group] = []
        self.place_bytes = 0.0
        """Of the keys and values of a token."""
        self._before: tuple[Sequence[int], Store] | None = None
        """A prompt of the last group, and its keys."""
        self._accepted, self._drafted = 0, 0

    def answers(self, rows: Sequence[Row]) -> Iterator[Row]:
        """Yield rows as they end, those with the longest prompts first, about. Raises torch.OutOfMemoryError where a row
        alone has no room."""
        waiting, done = deque(in_order(rows)), 0
        while waiting or self.groups:
            if self._is_stopped():
                return
            try:
                for ended in self._admit(waiting) if self._has_room(waiting) else self._step():
                    done += len(ended)
                    yield from ended
                    if self.worked is not None:
                        self.worked(done + sum(row.share for group in self.groups for row in group.rows))
                    if self._is_stopped():
                        return
            except torch.OutOfMemoryError:
                self._give_up(waiting)

    def _is_stopped(self) -> bool:
        return self.should_stop is not None and self.should_stop()

    def _has_room(self, waiting: Sequence[Row]) -> bool:
        active = sum(len(group.rows) for group in self.groups)
        if not waiting or active >= self.most_rows:
            return False
        held = sum(group.store.bytes for group in self.groups)
        return not self.groups or held + self._bytes(waiting[0]) <= self.room

    def _bytes(self, row: Row) -> float:
        return (len(row.prompt) + row.limit) * self.place_bytes

    def _give_up(self, waiting: deque[Row]) -> None:
        """Put all rows back, and answer half as many at a time."""
        if self.most_rows == 1:
            raise torch.OutOfMemoryError("there is no room for one request")
        rows = [row for group in self.groups for row in group.rows if not row.has_ended]
        waiting.extendleft(reversed(rows))
        self.groups, self._before = [], None
        self.most_rows = max(1, min(self.most_rows, len(rows)) // 2)
        self.most_tokens, self.most_kept = max(64, self.most_tokens // 2), max(64, self.most_kept // 2)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def check(self) -> str | None:
        """Return why the model must not be used like this: compared with short rows of random tokens by themselves.
        Whatever the model raises is a reason."""
        vocabulary = self.model.get_input_embeddings().weight.shape[0]
        prefix, one, other = np.random.default_rng(0).integers(0, vocabulary, (3, PREFIX)).tolist()
        rows = [prefix + one[:BRANCH], prefix + other[:BRANCH]]
        last, store = PREFIX + BRANCH - 1, Store(2, PREFIX + BRANCH)
        try:
            expected = torch.cat([self._alone(row) for row in rows])
            self._logits(rows[0][:last], list(range(last)), [(store, 0, [Part(0, 0, last)])], [0])
            store.take(1, store, 0, PREFIX)
            ids, positions = [*rows[1][PREFIX:last], rows[0][last]], [*range(PREFIX, last), last]
            parts = [Part(1, PREFIX, BRANCH - 1), Part(0, last, 1)]
            first = self._logits(ids, positions, [(store, 0, parts)], [BRANCH - 1])
            second = self._logits([rows[1][last]], [last], [(store, 0, [Part(1, last, 1)])], [0])
        except Exception as error:
            return named(error)
        self.place_bytes = store.bytes / (store.rows * store.places)
        found = torch.cat([first, second]).float().log_softmax(-1)
        tolerated = (expected - expected.mean()) * (0.0 if first.dtype == torch.float32 else LARGEST_ERROR)
        return "its rows would see each other" if differs(found, expected, tolerated) else None

    def _alone(self, row: list[int]) -> torch.Tensor:
        ids = torch.tensor([row], device=self.device)
        logits = self.model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits
        return logits[0, -1:].float().log_softmax(-1)

    # --- prompts --------------------------------------------------------------------------------------------

    def _admit(self, waiting: deque[Row]) -> Iterator[list[Row]]:
        """Compute the prompts of some rows, with drafts of their answers. Yields the rows that have ended, after each
        pass."""
        rows: list[Row] = []
        room = self.room - sum(group.store.bytes for group in self.groups)
        most = min(GROUP, self.most_rows - sum(len(group.rows) for group in self.groups))
        places = 0
        while waiting and len(rows) < most:
            places = max(places, len(waiting[0].prompt) + waiting[0].limit)
            if rows and (len(rows) + 1) * places * self.place_bytes > room:
                break
            rows.append(waiting.popleft())
        group = _Group(Store(len(rows), max(len(row.prompt) + row.limit for row in rows)), rows)
        self.groups.append(group)
        for place, row in enumerate(rows):
            row.begin(place)
        for wave in self._waves(group):
            for jobs in self._passes(wave):
                yield self._pass(jobs)
        if waiting:
            last = rows[-1]
            kept = Store(1, len(last.prompt))
            kept.take(0, group.store, last.place, len(last.prompt))
            self._before = last.prompt, kept
        self._drop_ended()

    def _waves(self, group: _Group) -> Iterator[list[_Job]]:
        """Yield what is computed of a group's prompts: first what has nothing before it, then what follows on that."""
        known = 1 if self._before is not None else 0
        before = [self._before[0]] if self._before is not None else []
        pack = make_pack([[np.array(ids, dtype=np.int32) for ids in (*before, *(row.prompt for row in group.rows))]])
        held = [(self._before[1], 0)] if self._before is not None else []
        held += [(group.store, row.place) for row in group.rows]
        holder = _holders(pack.segments, pack.paths, known)
        rows = {pack.paths[known + number]: row for number, row in enumerate(group.rows)}
        waves: dict[int, list[int]] = {}
        for number, depth in enumerate(_depths(pack.segments)):
            # What the row before holds is known, but the answer comes after a row's own last token.
            if number in rows or held[holder[number]][0] is group.store:
                waves.setdefault(depth, []).append(number)
        for depth in sorted(waves):
            jobs = []
            for number in waves[depth]:
                segment = pack.segments[number]
                start, end = segment.position, segment.position + segment.end - segment.start
                row = rows.get(number)
                store, place = (group.store, row.place) if row is not None else held[holder[number]]
                source, shared = (holder[segment.parent], start) if segment.parent >= 0 else (-1, 0)
                if holder[number] < known:
                    source, shared = 0, end - 1
                if source >= 0 and held[source] != (store, place):
                    store.take(place, *held[source], shared)
                ids = (row or group.rows[holder[number] - known]).prompt
                jobs.append(self._job(store, place, shared, ids[shared:end], row))
            yield jobs

    def _job(self, store: Store, place: int, start: int, tokens: Sequence[int], row: Row | None) -> _Job:
        draft = row.drafts.first(min(self._first_reach, row.limit - 1, self.most_kept - 1)) if row is not None else []
        return _Job(store, Part(place, start, len(tokens) + len(draft)), [*tokens, *draft], row, draft)

    @property
    def _first_reach(self) -> int:
        """Tokens of an expected answer that are tried: all at first, then twice as many as were right."""
        return 10**6 if self._drafted < 4 else 4 + 2 * self._accepted // self._drafted

    # --- answers --------------------------------------------------------------------------------------------

    def _step(self) -> Iterator[list[Row]]:
        """Go on with all rows. Yields those that have ended, after each pass."""
        jobs = []
        for group in self.groups:
            for row in group.rows:
                draft = row.drafts.next(min(row.limit - len(row.new), self.most_kept) - 1)
                tokens = [row.new[-1], *draft]
                part = Part(row.place, len(row.prompt) + len(row.new) - 1, len(tokens))
                jobs.append(_Job(group.store, part, tokens, row, draft))
        for some in self._passes(jobs):
            yield self._pass(some)
        self._drop_ended()

    def _passes(self, jobs: Sequence[_Job]) -> Iterator[list[_Job]]:
        """Divide jobs among passes."""
        now: list[_Job] = []
        tokens = kept = 0
        for job in jobs:
            own = 0 if job.row is None else 1 + len(job.draft)
            if now and (tokens + job.part.tokens > self.most_tokens or kept + own > self.most_kept):
                yield now
                now, tokens, kept = [], 0, 0
            now.append(job)
            tokens, kept = tokens + job.part.tokens, kept + own
        if now:
            yield now

    def _pass(self, jobs: Sequence[_Job]) -> list[Row]:
        """Run the model. Returns the rows that have ended."""
        tokens, ended = iter(self._most_likely(jobs)), []
        for job in jobs:
            row = job.row
            if row is None:
                continue
            is_first, written = not row.new, []
            for guess, token in zip([*job.draft, None], [next(tokens) for _ in range(1 + len(job.draft))], strict=True):
                written.append(token)
                row.new.append(token)
                row.has_ended = len(row.new) == row.limit or self.has_ended(row.new)
                if row.has_ended or token != guess:
                    break
            if row.has_ended:
                ended.append(row)
            if is_first:
                self._drafted, self._accepted = self._drafted + 1, self._accepted + len(written) - 1
            row.read = len(row.prompt) + len(row.new)
            row.drafts.written(written, 0 if is_first else len(job.draft))
        return ended

    def _most_likely(self, jobs: Sequence[_Job]) -> list[int]:
        """Return the most likely token after the last one of each row, and after each of its draft."""
        kept, ids, positions, of_stores = [], [], [], {}
        for job in jobs:
            ids += job.tokens
            positions += range(job.part.start, job.part.end)
            of_stores.setdefault(id(job.store), (job.store, len(ids) - len(job.tokens), []))[2].append(job.part)
            if job.row is not None:
                kept += range(len(ids) - 1 - len(job.draft), len(ids))
        logits = self._logits(ids, positions, list(of_stores.values()), kept or [0])
        return logits.argmax(-1).tolist() if kept else []

    def _logits(
        self, ids: list[int], positions: list[int], of_stores: list[tuple[Store, int, list[Part]]], kept: list[int]
    ) -> torch.Tensor:
        inputs = {
            name: torch.tensor([values], device=self.device)
            for name, values in (("input_ids", ids), ("position_ids", positions))
        }
        with stored.stored([Parts(store, first, parts, self.device) for store, first, parts in of_stores]):
            output = self.model(
                **inputs,
                # Of ones, so that transformers does not look for sequences in the positions.
                attention_mask=torch.ones_like(inputs["input_ids"]),
                use_cache=False,
                logits_to_keep=torch.tensor(kept, device=self.device),
            )
        return output.logits[0]

    def _drop_ended(self) -> None:
        """Drop rows that have ended, and their keys once they are half of a group's."""
        for group in self.groups:
            group.rows = [row for row in group.rows if not row.has_ended]
            if group.rows and 2 * len(group.rows) <= group.store.rows:
                group.store.keep([row.place for row in group.rows])
                for place, row in enumerate(group.rows):
                    row.place = place
        self.groups = [group for group in self.groups if group.rows]


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


def _depths(segments: Sequence[Segment]) -> list[int]:
    depths: list[int] = []
    for segment in segments:
        depths.append(depths[segment.parent] + 1 if segment.parent >= 0 else 0)
    return depths


def _holders(segments: Sequence[Segment], paths: Sequence[int], known: int) -> list[int]:
    """Return for each segment the sequence in whose place its keys are: one of the first `known` sequences, else the one
    that ends with it, else any that has it."""
    holders = [-1] * len(segments)

    def claim(sequence: int) -> None:
        number = paths[sequence]
        while number >= 0 and (holders[number] < 0 or number == paths[sequence]):
            holders[number] = sequence
            number = segments[number].parent

    for sequence in range(known):
        claim(sequence)
    for sequence in range(known, len(paths)):
        if holders[paths[sequence]] < 0:
            holders[paths[sequence]] = sequence
    for sequence in range(known, len(paths)):
        if holders[paths[sequence]] == sequence:
            claim(sequence)
    return holders


def _free(device: torch.device) -> int:
    """Bytes of memory that are free."""
    if device.type == "cuda":
        free: int = torch.cuda.mem_get_info(device)[0]
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return memory.available() or 2**32
