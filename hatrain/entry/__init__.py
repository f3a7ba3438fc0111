"""`python -m hatrain.entry RUN_DIRECTORY|PLAN_JSON`: one attempt at a run on this machine, from the signal handlers to
the exit code. It takes the lease, counts attempts and starts the ranks; it never imports torch."""

import sys
from collections.abc import Sequence
from typing import Any

from hatrain.runtime import streams
from hatrain.runtime.stop import SignalListener


def main(arguments: Sequence[str], **options: Any) -> int:
    """Make one attempt and return its exit code, a `contract.run.Exit`. `options` go to `attempt.enter`."""
    streams.prepare()
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
        streams.discard_unwritable()
