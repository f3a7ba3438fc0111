"""Follows a run to its end: prints its output, and returns its exit code."""

import contextlib
import signal
import sys
import time
from collections.abc import Iterator

from hatrain.contract.run import Exit, RunDirectory
from hatrain.errors import BadInput
from hatrain.runtime import provenance
from launch import status
from launch.backends.protocol import Client, Reader
from launch.screen import screen

READ_SECONDS = 0.2
ENDED = ("ended", "unknown")
MAX_FAILURES = 10
"""Consecutive queries that a scheduler may leave unanswered."""


class _Poll:
    """Queries a scheduler repeatedly, and tolerates a few failures in a row."""

    def __init__(self, jobs: dict[str, RunDirectory], client: Client):
        self.jobs, self.client, self.failures = jobs, client, 0

    def all_ended(self) -> bool:
        """Raises BadInput after too many failures."""
        try:
            states = self.client.states(self.jobs)
        except BadInput:
            self.failures += 1
            if self.failures >= MAX_FAILURES:
                raise
            return False
        self.failures = 0
        return all(state.phase in ENDED for state in states.values())


def wait(runs: dict[str, RunDirectory], client: Client) -> None:
    """Wait until none of these jobs is queued or running. Raises BadInput if the scheduler stops answering."""
    poll = _Poll(runs, client)
    while not poll.all_ended():
        time.sleep(client.poll_seconds)


def follow(run: RunDirectory, job: str, client: Client, reader: Reader, *, stop_on_interrupt: bool) -> int:
    """Print a job's output to its end. Returns the run's exit code.

    With `stop_on_interrupt`, Ctrl-C asks the run to save a checkpoint and exit, and this continues until it has.
    Without, Ctrl-C ends only the following, and this returns 130.
    """
    with _interrupts() as interrupts, screen(run) as show, contextlib.closing(reader):
        poll, next_poll = _Poll({job: run}, client), time.monotonic()
        stopped = ended = False
        while True:
            if time.monotonic() >= next_poll:
                # Before reading, so that the last output is not missed.
                ended = poll.all_ended()
                next_poll = time.monotonic() + client.poll_seconds
            show(reader.read())
            if ended:
                code = status.look([run])[0].code
                return int(Exit.FAULT) if code is None else code
            if interrupts and not stop_on_interrupt:
                print(
                    f"{run.name} continues; to follow it again: hatrain logs {run.name} --follow",
                    file=sys.stderr,
                )
                return int(Exit.STOPPED)
            if interrupts and not stopped:
                stopped = _stop(run, job, client)
            time.sleep(READ_SECONDS)


def _stop(run: RunDirectory, job: str, client: Client) -> bool:
    """False if the run cannot be stopped yet, because it is starting: try again."""
    try:
        done = client.stop(job, run, f"Ctrl-C by {provenance.user()}")
    except BadInput:
        return False
    print(f"Ctrl-C: {run.name}: {done}", file=sys.stderr)
    return True


@contextlib.contextmanager
def _interrupts() -> Iterator[list[int]]:
    """Collect Ctrl-C instead of raising it."""
    received: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: received.append(number))
    try:
        yield received
    finally:
        signal.signal(signal.SIGINT, before)
