"""Runs the parts of a measurement one after another, each in a process of its own with a time limit, so that a crash or
a hang of one does not stop the next."""

import json
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hatrain.runtime import orphans

POLL_SECONDS = 0.2
GRACE_SECONDS = 3.0
"""From SIGTERM to SIGKILL, once a part's time is up."""
KILL_SECONDS = 20.0
"""How long killed processes may take to go; one that hangs in the driver stays."""
MARK = "HATRAIN_BENCH_PART"
"""A variable that all processes of a part inherit; what is left of a part is found by it."""


@dataclass(frozen=True)
class Part:
    """One part of the measurement, `bench.gpu.MODULE` with the name as its argument."""

    number: int
    name: str
    title: str
    module: str
    share: float
    """Of the time, relative to the other parts."""
    least: float = 20.0
    """Seconds below which the part is skipped."""


class Budget:
    """Divides the time that is left over the parts that are left, by their shares. Time that a part leaves over goes to
    the later ones."""

    def __init__(self, seconds: float, parts: Sequence[Part], clock: Callable[[], float] = time.monotonic):
        self.parts, self.clock = list(parts), clock
        self.end = clock() + seconds

    def limit(self, part: Part) -> float:
        """Seconds for this part."""
        later = self.parts[self.parts.index(part) :]
        left = max(0.0, self.end - self.clock())
        return left * part.share / sum(other.share for other in later)


def run_part(
    command: Sequence[str],
    lines: Path,
    limit: float,
    log: Path,
    environment: Mapping[str, str],
    on_item: Callable[[dict[str, Any]], None],
) -> tuple[str, str]:
    """Run a part that appends its items to `lines`, one JSON object a line; `on_item` gets each as soon as it is there.

    Returns its state, `done`, `failed` or `out of time`, and the reason.
    """
    mark = uuid.uuid4().hex
    lines.touch()
    with log.open("wb") as output, lines.open(encoding="utf-8") as stream:
        process = subprocess.Popen(
            command,
            env={**environment, MARK: mark},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        deadline, partial = time.monotonic() + limit, ""

        def read() -> None:
            nonlocal partial
            *whole, partial = (partial + stream.read()).split("\n")
            for line in whole:
                on_item(json.loads(line))

        try:
            while process.poll() is None and time.monotonic() < deadline:
                read()
                time.sleep(POLL_SECONDS)
            timed_out = process.poll() is None
            if timed_out:
                process.send_signal(signal.SIGTERM)
                end = time.monotonic() + GRACE_SECONDS
                while process.poll() is None and time.monotonic() < end:
                    time.sleep(POLL_SECONDS)
        finally:
            _end_marked(mark)
            process.wait()
        read()
    if timed_out:
        return "out of time", f"stopped after {limit:.0f} s"
    if process.returncode:
        return "failed", f"exit code {process.returncode}: {last_line(log)}"
    return "done", ""


def last_line(log: Path) -> str:
    """The last line of a log that is not empty: of a traceback, the error."""
    text = log.read_text(encoding="utf-8", errors="replace")
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "no output")[:300]


def _end_marked(mark: str) -> None:
    """Kill the processes that a part started and left, those in sessions of their own too, and wait until they are
    gone: the next part needs the GPU's memory."""
    wanted = f"{MARK}={mark}".encode()
    deadline = time.monotonic() + KILL_SECONDS
    while (found := orphans.processes_with(lambda variables: wanted in variables)) and time.monotonic() < deadline:
        orphans.kill(found)
        time.sleep(0.02)
