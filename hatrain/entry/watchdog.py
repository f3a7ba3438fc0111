"""Finds out that the ranks of this node hang. A collective waits half an hour for a rank that is lost, and for ever for
one that is stopped."""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Sequence

from hatrain.contract.plan import Plan
from hatrain.contract.run import Attempt
from hatrain.contract.spec import seconds as seconds_of
from hatrain.entry.process import seconds
from hatrain.runtime import machine, progress
from hatrain.runtime.progress import Beat

LEAST_SECONDS = 300.0
"""The shortest silence that ends a run: compiling for a new shape takes minutes."""
MULTIPLE = 10
"""Of the slowest step so far."""
PATIENT_SECONDS = 1800.0
"""For what is long and quiet: the first step of an attempt, which may compile, and saving."""
LOADING_SECONDS = 7200.0
"""Before the first step: a model may be downloaded, and a large dataset tokenized."""
POLL_SECONDS = 1.0
STACK_SECONDS = 1.0
"""For the ranks to write their stacks."""
STACK_SIGNAL = signal.SIGUSR2

_OFTEN = (progress.STEP, progress.TEST, progress.REFERENCE)


class Watchdog:
    """Watches the ranks of this node in one attempt."""

    def __init__(
        self, attempt: Attempt, ranks: Sequence[int], silence: float | None, clock: Callable[[], float] = time.monotonic
    ):
        """`silence`: seconds without a sign of life that end the run; None for a multiple of the slowest step."""
        self.attempt, self.ranks, self.silence, self.clock = attempt, ranks, silence, clock
        self._polled = clock()
        self._seen: dict[int, tuple[int, float]] = {}
        """By rank: its signs of life, and when the last was new."""

    @staticmethod
    def of(attempt: Attempt, plan: Plan, ranks: Sequence[int]) -> "Watchdog":
        """Return the watchdog of a plan. $HATRAIN_HANG_SECONDS wins over the job. Raises BadInput as `seconds` does."""
        hang = plan.job.limits.hang
        silence = seconds("HATRAIN_HANG_SECONDS", 0.0) or (None if hang == "auto" else float(seconds_of(hang)))
        return Watchdog(attempt, ranks, silence)

    def why_hung(self) -> str | None:
        """Return which rank hangs, and where it stands, once all have been silent for too long. They write their stacks
        into the log before. Call it often."""
        now = self.clock()
        gap = now - self._polled
        if gap < POLL_SECONDS:
            return None
        self._polled = now
        beats = [beat for rank in self.ranks if (beat := progress.read(self.attempt.folder, rank))]
        for beat in beats:
            count, since = self._seen.get(beat.rank, (-1, now))
            # This process was suspended too, and with it the ranks: the time does not count.
            since = now if count != beat.count else since + (gap if gap > 10 * POLL_SECONDS else 0)
            self._seen[beat.rank] = (beat.count, since)
        if not beats or len(beats) < len(self.ranks):
            return None
        silent = now - max(self._seen[beat.rank][1] for beat in beats)
        if silent <= self.limit(beats):
            return None
        self._write_stacks(beats)
        return self._told(beats, silent)

    def limit(self, beats: Sequence[Beat]) -> float:
        """Return how long all ranks may be silent, in seconds."""
        limit = self.silence or max(LEAST_SECONDS, MULTIPLE * max(beat.slowest for beat in beats))
        if any(beat.phase == progress.LOADING for beat in beats):
            return max(limit, LOADING_SECONDS)
        is_patient = any(beat.phase not in _OFTEN for beat in beats) or not any(beat.slowest for beat in beats)
        return max(limit, PATIENT_SECONDS) if is_patient else limit

    def _told(self, beats: Sequence[Beat], silent: float) -> str:
        """The rank that the others wait for: one that is stopped, else the one that came least far."""
        states = {beat.rank: _state(beat.pid) for beat in beats}
        first = min(beats, key=lambda beat: (states[beat.rank] == "", beat.step, self._seen[beat.rank][1]))
        state = f"; its process {states[first.rank]}" if states[first.rank] else ""
        others = "" if len(beats) == 1 else "; the other ranks of this node wait"
        return (
            f"rank {first.rank} hangs (process {first.pid} on {first.host}): no sign of life for {silent:.0f} s, after "
            f"step {first.step}, in {first.phase}{state}{others}; the stacks are in the log"
        )

    def _write_stacks(self, beats: Sequence[Beat]) -> None:
        for beat in beats:
            with contextlib.suppress(OSError):
                os.kill(beat.pid, STACK_SIGNAL)
        time.sleep(STACK_SECONDS)


def _state(pid: int) -> str:
    """What the kernel says about a process that does not run: stopped, or waiting for a disk. Empty otherwise."""
    letter = machine.process_state(pid)
    if letter is None:
        return "is gone"
    return {"T": "is stopped (SIGSTOP)", "t": "is held by a debugger", "D": "waits for a disk", "Z": "has ended"}.get(
        letter, ""
    )
