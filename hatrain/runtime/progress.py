"""What each rank of an attempt is doing: its phase, its step, and how long it took so far. A rank writes one short line
in place, which costs microseconds; the process that watches it reads the line."""

import contextlib
import json
import os
import socket
import time
from dataclasses import asdict, dataclass
from pathlib import Path

STEP, TEST, REFERENCE = "a training step", "the test loss", "the reference"
"""Phases that beat often: a micro-batch is never long."""
LOADING, SAVING, FINISHING = "loading", "saving a checkpoint", "saving the model"

_LENGTH = 512
"""Bytes of the line, padded: it is replaced in place."""


@dataclass(frozen=True)
class Beat:
    """The last sign of life of a rank."""

    rank: int
    host: str
    pid: int
    phase: str
    step: int
    """The last finished step."""
    count: int
    """Signs of life so far."""
    slowest: float
    """The longest time between two of them within a training step, in seconds; 0 before the first step is done."""


def file_of(attempt: Path, rank: int) -> Path:
    return attempt / f"progress-{rank}"


class Progress:
    """The signs of life of this rank. A disk that is full, or a folder that is gone, ends no training."""

    def __init__(self, attempt: Path, rank: int):
        self._beat = Beat(rank, socket.gethostname(), os.getpid(), LOADING, 0, 0, 0.0)
        self._since = time.monotonic()
        self._file: int | None = None
        with contextlib.suppress(OSError):
            self._file = os.open(file_of(attempt, rank), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        self.at(LOADING, 0)

    def at(self, phase: str, step: int) -> None:
        """Say that this rank is in a phase, after so many finished steps."""
        now, before = time.monotonic(), self._beat
        within = before.phase == phase == STEP
        slowest = max(before.slowest, now - self._since, 0.001) if within else before.slowest
        self._since = now
        self._beat = Beat(before.rank, before.host, before.pid, phase, step, before.count + 1, round(slowest, 3))
        if self._file is not None:
            line = json.dumps(asdict(self._beat)).encode()
            with contextlib.suppress(OSError):
                os.pwrite(self._file, line.ljust(_LENGTH)[:_LENGTH], 0)


def read(attempt: Path, rank: int) -> Beat | None:
    """Return the last sign of life of a rank; None before the first."""
    try:
        return Beat(**json.loads(file_of(attempt, rank).read_bytes()))
    except (OSError, ValueError, TypeError):
        return None
