"""Which look at the test rows is the best, and how many came after it. Looks are read from the trainer's log, which
every checkpoint holds: a resumed run knows those up to its checkpoint, and makes the later ones again."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

Metric = Literal["loss", "accuracy"]

LOSS, ACCURACY = "eval_loss", "eval_accuracy"
"""Names in the trainer's log."""


@dataclass(frozen=True)
class Look:
    """The figures of one step."""

    step: int
    loss: float
    accuracy: float | None = None
    """Strict accuracy; None where no requests were asked."""

    def to_dict(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if value is not None}


def looks_of(log: Iterable[Mapping[str, Any]], metric: Metric) -> tuple[Look, ...]:
    """Return the looks that have the metric, as a finite number, in order; of a step that is logged twice, the last."""
    needed = (LOSS, ACCURACY) if metric == "accuracy" else (LOSS,)
    found = {int(line["step"]): line for line in log if all(math.isfinite(line.get(key, math.nan)) for key in needed)}
    return tuple(Look(step, line[LOSS], line.get(ACCURACY)) for step, line in sorted(found.items()))


def best(looks: Sequence[Look], metric: Metric) -> Look | None:
    """Return the best look: the lowest loss, or the highest accuracy and among equal ones the lowest loss. Of equals it
    is the first. None without looks."""
    return min(looks, key=lambda look: _rank(look, metric), default=None)


def without_gain(looks: Sequence[Look], metric: Metric) -> int:
    """Return how many looks came after the best."""
    found = best(looks, metric)
    return sum(look.step > found.step for look in looks) if found else 0


def _rank(look: Look, metric: Metric) -> tuple[float, ...]:
    """The smaller, the better."""
    return (look.loss,) if metric == "loss" else (-(look.accuracy or 0.0), look.loss)


def why(look: Look, metric: Metric, looks: int) -> str:
    """Return why a look is the best, in words."""
    figure = f"test loss {look.loss:.4f}" if metric == "loss" else f"strict accuracy {look.accuracy or 0.0:.3f}"
    if looks == 1:
        return f"{figure}, the only look"
    return f"{figure}, the {'lowest' if metric == 'loss' else 'highest'} of {looks} looks"
