"""Passes of a model over tokens of several rows, which stand in one row without padding."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from hatrain.evaluate.drafts import Common, Drafts
from hatrain.model import stored
from hatrain.model.replaceable import BRANCH, PREFIX, differs, named
from hatrain.model.stored import Part, Parts, Store

TOKENS = {"cpu": 1024, "cuda": 8192}
"""Of a pass. More are not faster."""
LOGITS = 2**26
"""Of a pass."""

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
    has_ended: bool = False
    drafts: Drafts = field(init=False)

    def begin(self, place: int, common: Common) -> None:
        self.new, self.place, self.has_ended = [], place, False
        self.drafts = Drafts(self.prompt, self.reply, common)

    @property
    def share(self) -> float:
        """How much of the row is done, about."""
        read = len(self.prompt) + len(self.new) if self.new else 0
        return min(read / (len(self.prompt) + len(self.reply) + 1), 0.99)


@dataclass(slots=True)
class Job:
    """Tokens of a row that a pass reads."""

    store: Store
    place: int
    """The row of the store."""
    start: int
    """Position of the first token."""
    tokens: Sequence[int]
    """With the draft."""
    row: Row | None = None
    """Whose answer goes on, after its last token and after each of the draft; None for the middle of a prompt."""
    draft: Sequence[int] = ()

    @property
    def kept(self) -> int:
        """Positions whose logits are computed."""
        return 0 if self.row is None else 1 + len(self.draft)

    @property
    def part(self) -> Part:
        return Part(self.place, self.start, len(self.tokens))


class Passes:
    """Runs a model whose attention is `stored`'s."""

    def __init__(self, model: Any):
        self.model, self.device = model, model.device
        self.vocabulary: int = model.get_input_embeddings().weight.shape[0]
        self.tokens = TOKENS["cuda" if self.device.type == "cuda" else "cpu"]
        self.kept = max(1, LOGITS // self.vocabulary)
        """Positions of a pass whose logits are computed."""

    def divided(self, jobs: Iterable[Job], along: Callable[[], Sequence[Job]] = tuple) -> Iterator[list[Job]]:
        """Divide jobs among passes. A job is asked for when its pass is next; and so are those that go along with it,
        which take up to half of a pass: the others are asked for again."""
        now: list[Job] = []
        tokens = kept = 0
        for job in jobs:
            if now and (tokens + len(job.tokens) > self.tokens or kept + job.kept > self.kept):
                yield now
                now = []
            if not now:
                now = self._first(along())
                tokens, kept = sum(len(each.tokens) for each in now), sum(each.kept for each in now)
            now.append(job)
            tokens, kept = tokens + len(job.tokens), kept + job.kept
        if now:
            yield now

    def _first(self, jobs: Sequence[Job]) -> list[Job]:
        """Return those that fit into half of a pass."""
        chosen: list[Job] = []
        tokens = kept = 0
        for job in jobs:
            if 2 * (tokens + len(job.tokens)) <= self.tokens and 2 * (kept + job.kept) <= self.kept:
                chosen.append(job)
                tokens, kept = tokens + len(job.tokens), kept + job.kept
        return chosen

    def most_likely(self, jobs: Sequence[Job]) -> Iterator[int]:
        """Yield the most likely tokens after the last token of each row, and after each of its draft: `[1 + draft]` of
        each job that has a row."""
        ids: list[int] = []
        positions: list[int] = []
        kept: list[int] = []
        of_stores: dict[int, tuple[Store, int, list[Part]]] = {}
        for job in jobs:
            of_stores.setdefault(id(job.store), (job.store, len(ids), []))[2].append(job.part)
            ids += job.tokens
            positions += range(job.start, job.start + len(job.tokens))
            if job.row is not None:
                kept += range(len(ids) - 1 - len(job.draft), len(ids))
        logits = self._logits(ids, positions, list(of_stores.values()), kept or [0])
        return iter(logits.argmax(-1).tolist())

    def _logits(
        self, ids: list[int], positions: list[int], of_stores: list[tuple[Store, int, list[Part]]], kept: list[int]
    ) -> torch.Tensor:
        """Return `[kept, vocabulary]`."""
        tokens, at, last = (torch.tensor(values, device=self.device) for values in (ids, positions, kept))
        with stored.stored([Parts(store, first, parts, self.device) for store, first, parts in of_stores]):
            output = self.model(
                input_ids=tokens[None],
                position_ids=at[None],
                # Of ones, so that transformers does not look for sequences in the positions.
                attention_mask=torch.ones_like(tokens)[None],
                use_cache=False,
                logits_to_keep=last,
            )
        logits: torch.Tensor = output.logits[0]
        return logits

    def check(self, store: Store) -> str | None:
        """Return why a model must not be run like this: compared with short rows of random tokens by themselves. Fills
        a store of 2 rows. Whatever the model raises is a reason."""
        prefix, one, other = np.random.default_rng(0).integers(0, self.vocabulary, (3, PREFIX)).tolist()
        rows = [prefix + one[:BRANCH], prefix + other[:BRANCH]]
        last = PREFIX + BRANCH - 1
        try:
            expected = torch.cat([self._alone(row) for row in rows])
            self._logits(rows[0][:last], list(range(last)), [(store, 0, [Part(0, 0, last)])], [0])
            store.take(1, store, 0, PREFIX)
            ids, positions = [*rows[1][PREFIX:last], rows[0][last]], [*range(PREFIX, last), last]
            parts = [Part(1, PREFIX, BRANCH - 1), Part(0, last, 1)]
            first = self._logits(ids, positions, [(store, 0, parts)], [BRANCH - 1])
            second = self._logits([rows[1][last]], [last], [(store, 0, [Part(1, last, 1)])], [0])
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            return named(error)
        found = torch.cat([first, second]).float().log_softmax(-1)
        tolerated = (expected - expected.mean()) * (0.0 if first.dtype == torch.float32 else LARGEST_ERROR)
        return "its rows would see each other" if differs(found, expected, tolerated) else None

    def _alone(self, row: list[int]) -> torch.Tensor:
        ids = torch.tensor([row], device=self.device)
        logits = self.model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits
        return logits[0, -1:].float().log_softmax(-1)


def checked_store() -> Store:
    return Store(2, PREFIX + BRANCH)
