"""How far a long task is, as plain lines in a log."""

import time
from collections.abc import Callable

FIRST_SECONDS, MOST_SECONDS = 1.0, 30.0
"""Until the first line, and between two of them at most: the pause doubles."""


class Counting:
    """Prints lines such as `test loss: 128 of 256 rows, 9.6 rows/s, 13 s left`. A short task prints none."""

    def __init__(
        self,
        what: str,
        unit: str,
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ):
        self.what, self.unit, self._say, self._clock = what, unit, say, clock
        self._started = self._printed = clock()
        self._pause = FIRST_SECONDS

    def at(self, done: int, total: int, work: float | None = None) -> None:
        """Say that so many of the total are done, unless the last line is recent, or all are. `work` also counts parts
        of those that are not done, for the rate."""
        now = self._clock()
        if done >= total or now - self._printed < self._pause:
            return
        self._printed, self._pause = now, min(2 * self._pause, MOST_SECONDS)
        work = float(done) if work is None else work
        rate = work / (now - self._started)
        left = f", {_duration((total - work) / rate)} left" if rate else ""
        shown = f"{rate:,.1f}" if rate < 100 else f"{rate:,.0f}"
        self._say(f"{self.what}: {done:,} of {total:,} {self.unit}, {shown} {self.unit}/s{left}")


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
