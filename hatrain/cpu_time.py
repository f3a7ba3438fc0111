"""A bound on the processor time of code that a user's file brings, such as a Jinja template."""

import contextlib
import signal
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def cpu_seconds(seconds: float) -> Iterator[None]:
    """Raise TimeoutError in a block that computes for longer. Only the main thread can be interrupted."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGVTALRM, end)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
