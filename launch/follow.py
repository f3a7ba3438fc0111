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
from launch.backends.protocol import AccessRefused, Client, Reader
from launch.screen import screen
from launch.status import Status

READ_SECONDS = 0.2
ENDED = ("ended", "unknown")
PATIENCE_SECONDS = 1800.0
"""How long a scheduler may leave queries unanswered: an upgrade of its control plane takes minutes."""


class _Poll:
    """Queries a scheduler repeatedly, and is patient while it does not answer."""

    def __init__(self, jobs: dict[str, RunDirectory], client: Client):
        self.jobs, self.client = jobs, client
        self._answered = time.monotonic()
        self.found: list[Status] = []
        """What the runs were when their jobs had ended last."""

    def all_ended(self) -> bool:
        """Whether every run has ended for good: the scheduler ended its job, or knows it no more. Raises BadInput when
        it has not answered for too long, and AccessRefused at once."""
        try:
            states = self.client.states(self.jobs)
        except AccessRefused:
            raise
        except BadInput:
            if time.monotonic() - self._answered > PATIENCE_SECONDS:
                raise
            return False
        # A reason without a state: a part of the scheduler does not answer.
        if any(state.phase == "unknown" and state.reason for state in states.values()):
            return time.monotonic() - self._answered > PATIENCE_SECONDS
        if any(state.phase not in ENDED for state in states.values()):
            self._answered = time.monotonic()
            return False
        # A job that has just been queued again may look ended.
        self.found = status.look(list(self.jobs.values()))
        if any(now.state == "unknown" and now.reason for now in self.found):
            return time.monotonic() - self._answered > PATIENCE_SECONDS
        self._answered = time.monotonic()
        return not any(now.alive for now in self.found)


def wait(runs: dict[str, RunDirectory], client: Client) -> None:
    """Wait until these runs have ended for good. Raises BadInput if the scheduler stops answering."""
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
            show(reader.read_rest() if ended else reader.read())
            if ended:
                code = poll.found[0].code if poll.found else None
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
