"""Which rows make up each optimizer step, and how each rank works through its part. Pure arithmetic on lengths: the
same seed gives the same steps on any number of ranks, so that resuming is skipping steps."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from torch.utils.data import Dataset

MEGABATCH = 50
"""Steps' worth of shuffled rows that are sorted by length together (transformers' group_by_length uses 50 too)."""


@dataclass(frozen=True)
class Pass:
    """Rows that go through the model together. One that does not count only keeps the ranks in step."""

    rows: tuple[int, ...]
    counts: bool = True


@dataclass(frozen=True)
class Step:
    """All that one rank owes one optimizer step. The totals are over all ranks."""

    passes: tuple[Pass, ...]
    rows: int
    tokens: int
    supervised: int


def steps_per_epoch(rows: int, rows_per_step: int) -> int:
    """Return the optimizer steps of one epoch; the last may hold fewer rows."""
    return -(-rows // rows_per_step)


def epoch_rows(sizes: Sequence[int], weights: Sequence[float], seed: int, epoch: int) -> np.ndarray:
    """Return the row numbers of one epoch, shuffled: each file's rows as often as its weight says.

    Rows are numbered through all files. The whole part of a weight repeats every row; the rest is a share of the
    rows, another one each epoch. The number of rows is the same in every epoch.
    """
    random = np.random.default_rng([seed, epoch])
    chosen, start = [], 0
    for size, weight in zip(sizes, weights, strict=True):
        rows = np.arange(start, start + size)
        wanted = max(1, round(size * weight))
        chosen.append(
            np.concatenate([np.tile(rows, wanted // size), random.permutation(rows)[: wanted % size]])
        )
        start += size
    return random.permutation(np.concatenate(chosen))


def order_by_length(
    rows: np.ndarray, lengths: np.ndarray, rows_per_step: int, seed: int, epoch: int
) -> np.ndarray:
    """Reorder an epoch so that rows of like length share a step, while the steps come at random.

    The step with the longest row comes first, so that a lack of memory shows at once; a last step that is not full
    stays last.
    """
    size = MEGABATCH * rows_per_step
    parts = [rows[i : i + size] for i in range(0, len(rows), size)]
    rows = np.concatenate([part[np.argsort(-lengths[part], kind="stable")] for part in parts])
    full = len(rows) // rows_per_step
    if full == 0:
        return rows
    table = rows[: full * rows_per_step].reshape(full, rows_per_step)
    table = table[np.random.default_rng([seed, epoch, 1]).permutation(full)]
    longest = int(np.argmax(lengths[table].max(axis=1)))
    table[[0, longest]] = table[[longest, 0]]
    return np.concatenate([table.ravel(), rows[full * rows_per_step :]])


def layout(
    rows: np.ndarray, lengths: np.ndarray, micro_batch_size: int, ranks: int
) -> list[tuple[Pass, ...]]:
    """Return each rank's passes over one step's rows: as many on each rank, rows of like length together.

    The loss is weighted by tokens over the whole step, so this order is a matter of speed alone.
    """
    rows = rows[np.argsort(-lengths[rows], kind="stable")]
    groups = [
        tuple(int(row) for row in rows[i : i + micro_batch_size])
        for i in range(0, len(rows), micro_batch_size)
    ]
    shortest = (int(rows[-1]),)
    per_rank = -(-len(groups) // ranks)
    dealt = []
    for rank in range(ranks):
        mine = [Pass(group) for group in groups[rank::ranks]]
        dealt.append(tuple(mine + [Pass(shortest, counts=False)] * (per_rank - len(mine))))
    return dealt


class Steps(Dataset[Step]):
    """The steps of the current epoch, as one rank sees them: a map-style dataset of `Step`."""

    def __init__(
        self,
        lengths: np.ndarray,
        supervised: np.ndarray,
        *,
        sizes: Sequence[int],
        weights: Sequence[float],
        rows_per_step: int,
        micro_batch_size: int,
        by_length: bool,
        seed: int,
        rank: int = 0,
        ranks: int = 1,
    ):
        self.lengths, self.supervised = lengths, supervised
        self.sizes, self.weights = list(sizes), list(weights)
        self.rows_per_step, self.micro_batch_size = rows_per_step, micro_batch_size
        self.by_length, self.seed, self.rank, self.ranks = by_length, seed, rank, ranks
        self.epoch = 0
        self._ordered: tuple[int, np.ndarray] | None = None

    @cached_property
    def rows(self) -> int:
        """Rows of one epoch, weights counted."""
        return len(epoch_rows(self.sizes, self.weights, self.seed, 0))

    def __len__(self) -> int:
        return steps_per_epoch(self.rows, self.rows_per_step)

    def _order(self) -> np.ndarray:
        if self._ordered is None or self._ordered[0] != self.epoch:
            rows = epoch_rows(self.sizes, self.weights, self.seed, self.epoch)
            if self.by_length:
                rows = order_by_length(rows, self.lengths, self.rows_per_step, self.seed, self.epoch)
            self._ordered = (self.epoch, rows)
        return self._ordered[1]

    def __getitem__(self, index: int) -> Step:
        if not 0 <= index < len(self):
            raise IndexError(index)
        rows = self._order()[index * self.rows_per_step : (index + 1) * self.rows_per_step]
        passes = layout(rows, self.lengths, self.micro_batch_size, self.ranks)[self.rank]
        return Step(passes, len(rows), int(self.lengths[rows].sum()), int(self.supervised[rows].sum()))
