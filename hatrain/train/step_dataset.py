"""Which rows make up each optimizer step. The same seed gives the same steps on any number of ranks, so resuming is
skipping steps."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from torch.utils.data import Dataset

from hatrain.contract.steps import Layout, MicroBatch, share_of_rank, steps_per_epoch, weighted_rows
from hatrain.data.prefixes import order_by_prefix

MEGABATCH = 50
"""Steps whose rows are sorted by length together (transformers' group_by_length uses 50 too)."""


@dataclass(frozen=True)
class Step:
    """One rank's part of an optimizer step. The totals are over all ranks."""

    micro_batches: tuple[MicroBatch, ...]
    rows: int
    tokens: int
    supervised: int


def epoch_rows(sizes: Sequence[int], weights: Sequence[float], seed: int, epoch: int) -> np.ndarray:
    """Return the row numbers of one epoch, shuffled: each file's rows as often as its weight says.

    Rows are numbered through all files. The whole part of a weight repeats every row; the rest is a sample of the
    rows, drawn anew each epoch. The number of rows is the same in every epoch.
    """
    random = np.random.default_rng([seed, epoch])
    chosen, start = [], 0
    for size, weight in zip(sizes, weights, strict=True):
        rows = np.arange(start, start + size)
        repeats, rest = divmod(weighted_rows(size, weight), size)
        chosen.append(np.concatenate([np.tile(rows, repeats), random.permutation(rows)[:rest]]))
        start += size
    return random.permutation(np.concatenate(chosen))


def order_by_length(rows: np.ndarray, lengths: np.ndarray, rows_per_step: int, seed: int, epoch: int) -> np.ndarray:
    """Reorder an epoch so that rows of similar length share a step, while the order of the steps is random.

    The step with the longest row comes first, so that a lack of memory shows at once. A last step that is not full
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


Order = Literal["shuffled", "by_length", "by_prefix"]


class StepDataset(Dataset[Step]):
    """The steps of the current epoch, as one rank sees them. `groups` are those of `prefix_groups`, for by_prefix."""

    def __init__(
        self,
        lengths: np.ndarray,
        supervised: np.ndarray,
        layout: Layout,
        *,
        sizes: Sequence[int],
        weights: Sequence[float],
        rows_per_step: int,
        order: Order = "shuffled",
        groups: np.ndarray | None = None,
        seed: int,
        rank: int = 0,
        ranks: int = 1,
    ):
        self.lengths, self.supervised, self.layout = lengths, supervised, layout
        self.sizes, self.weights = list(sizes), list(weights)
        self.rows_per_step, self.order, self.groups, self.seed = rows_per_step, order, groups, seed
        self.rank, self.ranks = rank, ranks
        self.epoch = 0
        self._order: tuple[int, np.ndarray] | None = None

    @property
    def rows(self) -> int:
        """Rows of one epoch, weighted."""
        return sum(map(weighted_rows, self.sizes, self.weights))

    def __len__(self) -> int:
        return steps_per_epoch(self.rows, self.rows_per_step)

    def epoch_order(self) -> np.ndarray:
        """Return the rows of the current epoch, step by step."""
        if self._order is None or self._order[0] != self.epoch:
            rows = epoch_rows(self.sizes, self.weights, self.seed, self.epoch)
            if self.order == "by_length":
                rows = order_by_length(rows, self.lengths, self.rows_per_step, self.seed, self.epoch)
            elif self.order == "by_prefix":
                assert self.groups is not None, "rows are ordered by their groups"
                rows = order_by_prefix(rows, self.groups, self.rows_per_step, self.seed, self.epoch)
            self._order = (self.epoch, rows)
        return self._order[1]

    def rows_until(self, steps: int) -> np.ndarray:
        """Return the numbers of the rows that the first so many steps of a run see, ascending."""
        current, seen = self.epoch, []
        for epoch, start in enumerate(range(0, steps, len(self))):
            self.epoch = epoch
            seen.append(self.epoch_order()[: (steps - start) * self.rows_per_step])
        self.epoch = current
        return np.unique(np.concatenate(seen))

    def __getitem__(self, index: int) -> Step:
        if not 0 <= index < len(self):
            raise IndexError(index)
        rows = self.epoch_order()[index * self.rows_per_step : (index + 1) * self.rows_per_step]
        micro_batches = share_of_rank(self.layout(rows), self.rank, self.ranks)
        return Step(micro_batches, len(rows), int(self.lengths[rows].sum()), int(self.supervised[rows].sum()))


def test_sample(rows: int, size: int | Literal["all"], seed: int) -> list[int]:
    """Return the test rows that the loss is computed on: drawn once, the same each time."""
    if size == "all":
        return list(range(rows))
    return sorted(np.random.default_rng([seed, rows]).permutation(rows)[:size].tolist())
