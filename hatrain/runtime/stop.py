"""Turning signals into requests to stop."""

import signal
from collections.abc import Callable
from types import FrameType


def on_signal(request_stop: Callable[[str, bool], None]) -> None:
    """Call `request_stop(reason, requeue)` on SIGTERM, SIGUSR1 and SIGINT. The user's SIGINT does not requeue.

    Call it before slow imports: until then a signal ends the process.
    """

    def handle(number: int, frame: FrameType | None) -> None:
        request_stop(f"received {signal.Signals(number).name}", number != signal.SIGINT)

    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
        signal.signal(number, handle)
