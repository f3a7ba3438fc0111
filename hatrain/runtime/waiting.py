"""Says what takes long, where nothing can be counted: imports, loading a model, hashing and saving it."""

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator

FIRST_SECONDS, MOST_SECONDS = 2.0, 60.0
"""Until the first line, and between two of them at most: the pause doubles from four times the first."""


@contextlib.contextmanager
def waiting(what: str, say: Callable[[str], None] | None = None) -> Iterator[None]:
    """Print `what` on stderr once it has taken two seconds, and then how long it took so far. Ranks but the first are
    silent."""
    if os.environ.get("RANK", "0") != "0":
        yield
        return
    done = threading.Event()
    thread = threading.Thread(target=_speak, args=(what, say or _print, done), daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _speak(what: str, say: Callable[[str], None], done: threading.Event) -> None:
    if done.wait(FIRST_SECONDS):
        return
    say(f"{what} …")
    total, pause = FIRST_SECONDS, 4 * FIRST_SECONDS
    while not done.wait(pause):
        total += pause
        pause = min(2 * pause, MOST_SECONDS)
        say(f"{what}: {total:.0f} s so far")


def _print(line: str) -> None:
    with contextlib.suppress(OSError, ValueError):
        print(line, file=sys.stderr, flush=True)
