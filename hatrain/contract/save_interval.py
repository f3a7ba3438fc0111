"""How often to save: the interval that loses the least time to saving and to repeating what a failure cost."""

import math
import statistics
from collections.abc import Sequence

ASSUMED_MTBF_SECONDS = 24 * 3600
"""Where the cluster file does not state its mean time between failures."""
WRITE_BYTES_PER_SECOND = 500e6
"""Assumed before a save was measured."""


def best_seconds(save: float, mtbf: float) -> float:
    """Return the seconds between two saves that cost `save` seconds each: √(2 · save · MTBF).

    J. W. Young, A first order approximation to the optimum checkpoint interval, 1974; J. T. Daly, 2006.
    """
    return math.sqrt(2 * save * mtbf)


class SaveSchedule:
    """Decides after which steps to save, with `checkpoints.save_steps: auto`: after the first, which shows early
    whether saving works and what it costs, then at the best interval for what was measured last."""

    def __init__(self, first: int, mtbf: float):
        self.mtbf = mtbf
        self.next = first
        self.interval: int | None = None

    def is_due(self, step: int) -> bool:
        return step >= self.next

    def saved(self, step: int, save: float, steps: Sequence[float]) -> None:
        """Choose the next step to save after. `save`: seconds that the save cost; `steps`: seconds of the last ones."""
        if not steps:
            self.next = step + 1
            return
        wanted = best_seconds(max(save, 1e-3), self.mtbf) / max(statistics.median(steps), 1e-6)
        self.interval = max(1, round(wanted))
        self.next = step + self.interval
