"""How rows become optimizer steps: rows of an epoch, steps, warm-up, and the micro-batches of each rank. The planner
predicts with it and the trainer trains with it. Pure arithmetic, without numpy."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from hatrain.contract.plan import Batch, Steps
from hatrain.contract.spec import Method


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """Rows that go through the model together, or sequences where a layout divides rows into several. One that does
    not count has no effect on the result: it gives a rank as many collective calls as the others make."""

    rows: tuple[int, ...]
    counts: bool = True


Layout = Callable[[Iterable[int]], list[MicroBatch]]
"""Divides rows into micro-batches, given by row number. It decides speed and memory, never a result: the loss is
weighted over the whole step. What it needs to know of the rows (lengths, token ids) it holds itself."""


def padded(lengths: Sequence[int], micro_batch_size: int) -> Layout:
    """Rows of similar length together, long ones first. `lengths` are the tokens of every row."""

    def layout(rows: Iterable[int]) -> list[MicroBatch]:
        ordered = sorted((int(row) for row in rows), key=lambda row: -lengths[row])
        return [
            MicroBatch(tuple(ordered[start : start + micro_batch_size]))
            for start in range(0, len(ordered), micro_batch_size)
        ]

    return layout


def share_of_rank(micro_batches: Sequence[MicroBatch], rank: int, ranks: int) -> tuple[MicroBatch, ...]:
    """Every `ranks`-th micro-batch, filled up so that each rank has the same number."""
    own = micro_batches[rank::ranks]
    missing = math.ceil(len(micro_batches) / ranks) - len(own)
    filler = [MicroBatch(micro_batch.rows[-1:], counts=False) for micro_batch in micro_batches[-1:]]
    return (*own, *filler * missing)


def divide_batch(rows: int, micro_batch_size: int, ranks: int) -> Batch | None:
    """One step's rows as micro-batch × accumulation × ranks; None where they do not divide."""
    accumulation, rest = divmod(rows, micro_batch_size * ranks)
    if rest:
        return None
    return Batch(rows_per_step=rows, micro_batch_size=micro_batch_size, accumulation=accumulation, ranks=ranks)


def weighted_rows(rows: int, weight: float) -> int:
    """Rows that a file of `rows` rows adds to one epoch: at least one, unless it is empty."""
    return max(1, round(rows * weight)) if rows else 0


def steps_per_epoch(rows: int, rows_per_step: int) -> int:
    """The last step of an epoch may hold fewer rows."""
    return math.ceil(rows / rows_per_step)


def count_steps(rows: int, method: Method) -> Steps:
    """`rows` are those of one epoch, weighted. Part of a step at the end of a run is a whole step."""
    per_epoch = steps_per_epoch(rows, method.batch_size)
    total = max(1, math.ceil(method.epochs * per_epoch))
    return Steps(rows=rows, per_epoch=per_epoch, total=min(total, method.max_steps or total))


def warmup_steps(steps: Steps, method: Method) -> int:
    """Steps over which the learning rate rises."""
    return math.ceil(method.learning_rate_warmup * steps.total)
