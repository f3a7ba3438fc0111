"""`python -m hatrain.entry RUN_DIRECTORY|PLAN_JSON`: one attempt at a run on this machine, from the signal handlers
to the exit code. It hears a stop, counts attempts and starts the ranks; it never trains, and never imports torch."""

import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Any


class Heard:
    """What signals asked for: `stop` is (reason, requeue), the user's word over a scheduler's."""

    def __init__(self) -> None:
        self.stop: tuple[str, bool] | None = None

    def listen(self) -> None:
        """From now on, signals that ask for an end are remembered, and end nothing themselves."""
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
            signal.signal(number, self._hear)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        requeue = number != signal.SIGINT
        if self.stop is None or (self.stop[1] and not requeue):
            self.stop = (signal.Signals(number).name, requeue)


def main(arguments: Sequence[str], **children: Any) -> int:
    """Run one attempt and return its exit code, one of `contract.run.Exit`. `children` goes to `attempt.enter`."""
    heard = Heard()
    heard.listen()
    # Only now the imports that take a while: a signal must never find us deaf.
    from hatrain.entry.attempt import enter

    if len(arguments) != 1:
        print("usage: python -m hatrain.entry RUN_DIRECTORY|PLAN_JSON", file=sys.stderr)
        return 78
    try:
        return int(enter(arguments[0], heard, **children))
    finally:
        _let_go_of_output()


def _let_go_of_output() -> None:
    """Give up what could not be said because nobody reads it any more; Python would make 120 of the exit code."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
