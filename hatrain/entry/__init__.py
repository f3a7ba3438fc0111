"""`python -m hatrain.entry RUN_DIRECTORY|PLAN_JSON`: one attempt at a run on this machine, from the signal handlers to
the exit code. It takes the lease, counts attempts and starts the ranks; it never imports torch."""

import os
import sys
from collections.abc import Sequence
from typing import Any

from hatrain.runtime.stop import SignalListener


def main(arguments: Sequence[str], **options: Any) -> int:
    """Make one attempt and return its exit code, a `contract.run.Exit`. `options` go to `attempt.enter`."""
    signals = SignalListener()
    signals.listen()
    # The slow imports come after the signal handlers: a stop may arrive while they load.
    from hatrain.entry.attempt import enter

    if len(arguments) != 1:
        print("usage: python -m hatrain.entry RUN_DIRECTORY|PLAN_JSON", file=sys.stderr)
        return 78
    try:
        return int(enter(arguments[0], signals, **options))
    finally:
        _discard_unwritable_output()


def _discard_unwritable_output() -> None:
    """Drop buffered output that nobody reads any more: flushing it at exit, Python would change the exit code to
    120."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
