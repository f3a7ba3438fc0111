"""A request to save a checkpoint and leave: as a signal to a process, and as the file `attempts/N/STOP`, which every
rank checks after each step. It imports nothing slow, so that signal handlers stand before anything slow is imported."""

import json
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGHUP)


@dataclass(frozen=True)
class Stop:
    """A request to save a checkpoint and leave."""

    reason: str
    requeue: bool
    """Whether the run should be queued again: true from a scheduler, false from a user."""

    def replaces(self, earlier: "Stop | None") -> bool:
        """A user's stop, which does not requeue, replaces a scheduler's; otherwise the first one stands."""
        return earlier is None or (earlier.requeue and not self.requeue)


def on_signals(handle: Callable[[Stop], None]) -> None:
    """From now on call `handle` for SIGTERM, SIGUSR1 (a scheduler's), SIGHUP (a lost terminal) and SIGINT (a user's),
    which end nothing. A SIGHUP that is ignored, as under nohup, stays ignored."""

    def handler(number: int, frame: FrameType | None) -> None:
        handle(Stop(signal.Signals(number).name, requeue=number != signal.SIGINT))

    for number in SIGNALS:
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)


def ignore_signals() -> None:
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def read(path: Path) -> Stop | None:
    """Return the request in a stop file. An empty or foreign file, such as `touch STOP` makes, is a user's."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return Stop(str(content.get("reason", "")), bool(content.get("requeue", False)))
    except FileNotFoundError:
        return None
    except (ValueError, AttributeError, RecursionError):
        return Stop("the stop file", requeue=False)


class SignalListener:
    """The stop that signals asked this process for, once `listen` was called."""

    def __init__(self) -> None:
        self.stop: Stop | None = None

    def listen(self) -> None:
        on_signals(self._receive)

    def _receive(self, stop: Stop) -> None:
        if stop.replaces(self.stop):
            self.stop = stop
