"""Handing a plan to whoever starts it, and watching it. The only room that talks to a scheduler; on one machine that
is a process of its own, which outlives the terminal."""

import contextlib
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hatrain import provenance
from hatrain.plan import Plan
from hatrain.run import RunDirectory, Stop
from launch import local
from launch.screen import screen

POLL_SECONDS = 0.2


def command(run: RunDirectory) -> list[str]:
    """Return the command that starts a run on this machine."""
    return ["bash", str(run.launch / "local.sh"), str(run.folder)]


def output(run: RunDirectory) -> Path:
    """Return the file that everything a local run prints goes to."""
    return run.launch / "output.log"


def dry_run(plan: Plan) -> str:
    """Return exactly what a submission would write, and the command that it would give."""
    run = RunDirectory(Path(plan.paths.run))
    parts = [f"==> {run.folder / name} <==\n{text}" for name, text in local.files(plan).items()]
    parts += [f"==> {run.plan_file} <==\n{plan.model_dump_json(indent=2)}\n"]
    return "\n".join([*parts, f"==> command <==\n{shlex.join(command(run))}\n"])


@dataclass(frozen=True)
class Submission:
    """A run that was started, and what was there before: bytes of output, the newest attempt's number."""

    run: RunDirectory
    process: "subprocess.Popen[bytes]"
    output_before: int
    attempt_before: int


def adopt(plan: Plan, said: Sequence[str], *, fresh: bool = False) -> RunDirectory:
    """Make the run directory this plan's. `said` is the command that the user gave, for the record.

    Raises BadInput when a live attempt holds the run, or another job has its name.
    """
    run = RunDirectory(Path(plan.paths.run))
    if aside := run.adopt(plan, local.files(plan), fresh=fresh):
        print(f"the old run is set aside: {aside}", file=sys.stderr)
    run.record(
        "submitted",
        command=shlex.join(said),
        user=provenance.user(),
        host=provenance.host(),
        cluster=plan.cluster,
        commit=provenance.commit(),
        versions=provenance.versions(),
    )
    return run


def submit(plan: Plan, said: Sequence[str], *, fresh: bool = False) -> Submission:
    """Adopt the run directory and start the run. Raises as `adopt` does."""
    run = adopt(plan, said, fresh=fresh)
    earlier = run.all_attempts()
    with output(run).open("ab") as log:
        process = subprocess.Popen(
            command(run),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        return Submission(run, process, log.tell(), earlier[-1].number if earlier else 0)


def follow(started: Submission) -> int:
    """Pass on what a run prints, to its end. Returns the run's own exit code.

    Ctrl-C asks the run to save a checkpoint and leave, and goes on following.
    """
    with output(started.run).open("rb") as log, _interrupts() as interrupted, screen(started.run) as show:
        log.seek(started.output_before)
        told = False
        while True:
            # Looked at before reading, so that the last words are not missed.
            code = started.process.poll()
            show(log.read())
            if code is not None:
                return code if code >= 0 else 128 - code
            if interrupted:
                if not told:
                    print("Ctrl-C: asking the run to save a checkpoint and leave", file=sys.stderr)
                    told = True
                _stop_newest(started)
            time.sleep(POLL_SECONDS)


@contextlib.contextmanager
def _interrupts() -> Iterator[list[int]]:
    """Collect Ctrl-C in place of raising it."""
    heard: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: heard.append(number))
    try:
        yield heard
    finally:
        signal.signal(signal.SIGINT, before)


def _stop_newest(started: Submission) -> None:
    """Stop the attempt that this submission began; one that has not begun yet is stopped when it has."""
    for attempt in started.run.all_attempts()[-1:]:
        earlier = attempt.stop()
        if attempt.number > started.attempt_before and (earlier is None or earlier.requeue):
            attempt.request_stop(Stop(f"Ctrl-C by {provenance.user()}", requeue=False))
