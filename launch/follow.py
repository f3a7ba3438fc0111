"""Watching a run to its end: passes on what it prints, and returns how it left."""

import contextlib
import signal
import sys
import time
from collections.abc import Iterator

from hatrain.contract.run import Exit, RunDirectory
from hatrain.errors import BadInput
from hatrain.runtime import provenance
from launch import status
from launch.backends import Client, Reader
from launch.screen import screen

READ_SECONDS = 0.2
ENDED = ("ended", "unknown")
PATIENCE = 10
"""So many times in a row may a scheduler give no answer."""


class _Asking:
    """Asks a scheduler again and again; one that does not answer for a moment has said nothing yet."""

    def __init__(self, jobs: dict[str, RunDirectory], speaker: Client):
        self.jobs, self.speaker, self.failures = jobs, speaker, 0

    def ended(self) -> bool:
        """Return whether none of the jobs is queued or at work. Raises BadInput when it is silent for too long."""
        try:
            states = self.speaker.states(self.jobs)
        except BadInput:
            self.failures += 1
            if self.failures >= PATIENCE:
                raise
            return False
        self.failures = 0
        return all(state.phase in ENDED for state in states.values())


def wait(runs: dict[str, RunDirectory], speaker: Client) -> None:
    """Wait until no job of these is queued or at work. Raises BadInput when the scheduler is silent for too long."""
    asking = _Asking(runs, speaker)
    while not asking.ended():
        time.sleep(speaker.poll_seconds)


def follow(run: RunDirectory, job: str, speaker: Client, reader: Reader, *, ours: bool) -> int:
    """Pass on what a job prints, to its end. Returns the run's own exit code.

    Ctrl-C asks a run that is `ours` (started from here, on this machine) to save a checkpoint and leave, and goes on
    following; any other it leaves alone, and returns 130.
    """
    with _interrupts() as interrupted, screen(run) as show, contextlib.closing(reader):
        asking, next_time = _Asking({job: run}, speaker), time.monotonic()
        stopped = ended = False
        while True:
            if time.monotonic() >= next_time:
                # Asked before reading, so that the last words are not missed.
                ended = asking.ended()
                next_time = time.monotonic() + speaker.poll_seconds
            show(reader.read())
            if ended:
                code = status.look([run])[0].code
                return int(Exit.FAULT) if code is None else code
            if interrupted and not ours:
                print(f"{run.name} goes on; hatrain logs {run.name} --follow looks again", file=sys.stderr)
                return int(Exit.STOPPED)
            if interrupted and not stopped:
                stopped = _stop(run, job, speaker)
            time.sleep(READ_SECONDS)


def _stop(run: RunDirectory, job: str, speaker: Client) -> bool:
    """Stop a run. Returns whether that was heard; what is just beginning hears it a moment later."""
    try:
        done = speaker.stop(job, run, f"Ctrl-C by {provenance.user()}")
    except BadInput:
        return False
    print(f"Ctrl-C: {run.name}: {done}", file=sys.stderr)
    return True


@contextlib.contextmanager
def _interrupts() -> Iterator[list[int]]:
    """Collect Ctrl-C in place of raising it."""
    heard: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: heard.append(number))
    try:
        yield heard
    finally:
        signal.signal(signal.SIGINT, before)
