"""The states of jobs, from squeue and sacct. Their output is read in formats that do not change between versions, never
as JSON."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from hatrain.errors import BadInput
from launch.backends.protocol import JobState
from launch.backends.slurm.programs import Machine, NotInstalled, quoted, run

_QUEUED = ("PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT")
_ENDED = (
    *("COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "DEADLINE", "BOOT_FAIL"),
    *("PREEMPTED", "REVOKED"),
)


def in_queue(machine: Machine, jobs: Sequence[str]) -> Iterator[tuple[str, JobState]]:
    # --array: one line for each task of an array, including pending ones.
    options = ["--noheader", "--array", "--states=all", "--format=%i|%T|%r", f"--jobs={','.join(jobs)}"]
    try:
        output = run(machine, ["squeue", *options])
    except BadInput as error:
        # squeue's answer when it knows none of the jobs any more.
        if "Invalid job id" in error.problems[0]:
            return
        raise
    for job, state, reason in _rows(output, "squeue"):
        yield job, _state(state, reason, None)


def in_accounts(machine: Machine, jobs: Sequence[str]) -> Iterator[tuple[str, JobState]]:
    """Yields nothing on a cluster without accounting, or without sacct."""
    options = ["--parsable2", "--noheader", "--allocations", "--format=JobID,State,ExitCode"]
    try:
        output = run(machine, ["sacct", *options, f"--jobs={','.join(jobs)}"])
    except NotInstalled:
        return
    except BadInput as error:
        if "accounting storage is disabled" in error.problems[0]:
            return
        raise
    for job, state, exit_code in _rows(output, "sacct"):
        if not (found := re.fullmatch(r"(\d+):(\d+)", exit_code)):
            line = f"{job}|{state}|{exit_code}"
            raise BadInput(f"sacct: printed {quoted(line)}, where an exit code was expected")
        code, signal = int(found[1]), int(found[2])
        found_state = _state(state, None, 128 + signal if signal else code)
        if code and not signal:
            reason = f"{state}: exit code {code} in sacct, which takes 128 off those above 128"
            found_state = replace(found_state, reason=reason)
        yield job, found_state


def with_codes(machine: Machine, states: Mapping[str, JobState]) -> Iterator[tuple[str, JobState]]:
    """Ended jobs with their exit codes, which squeue knows in full while sacct takes 128 off those above 128."""
    wanted = [
        job for job, state in states.items() if state.phase == "ended" and state.code is None and not state.cancelled
    ]
    for job, (code, signal) in _wait_statuses(machine, wanted) if wanted else ():
        if job in wanted:
            killed = f"the batch script itself was killed (signal {signal})" if signal else ""
            yield job, replace(states[job], code=128 + signal if signal else code or None, advice=killed)


def _wait_statuses(machine: Machine, jobs: Sequence[str]) -> Iterator[tuple[str, tuple[int, int]]]:
    """Yields (job, (exit code, signal)) for the jobs that the controller has not forgotten."""
    options = ["--noheader", "--array", "--states=all", "--Format=JobArrayID:40,exit_code:12"]
    try:
        output = run(machine, ["squeue", *options, f"--jobs={','.join(jobs)}"])
    except BadInput:
        return  # sacct is left, and the state without a code
    for line in output.splitlines():
        words = line.split()
        if len(words) == 2 and words[1].isdigit():
            status = int(words[1])
            yield words[0], (status >> 8, status & 127)


def _rows(output: str, program: str) -> Iterator[list[str]]:
    """Rows of (job id, state, third column)."""
    for line in output.splitlines():
        cells = line.split("|")
        if len(cells) != 3 or not re.fullmatch(r"[A-Z_]+( by .*)?", cells[1]):
            raise BadInput(f"{program}: printed {quoted(line)}, which is not in the expected format")
        for job in _job_ids(cells[0]):
            yield [job, *cells[1:]]


def _job_ids(job: str) -> Iterator[str]:
    """Expand an array's 12_[0-2,5%1] to the ids of its tasks; any other id is itself."""
    found = re.fullmatch(r"(\d+)_\[([\d,-]+)(%\d+)?\]", job)
    if not found:
        yield job
        return
    for part in found[2].split(","):
        first, _, last = part.partition("-")
        for number in range(int(first), int(last or first) + 1):
            yield f"{found[1]}_{number}"


def _state(text: str, reason: str | None, code: int | None) -> JobState:
    name = text.partition(" ")[0]
    if name in _QUEUED:
        # Slurm's reason None: the scheduler has not considered the job yet.
        given = "" if reason in (None, "None") else str(reason)
        return JobState("queued", given if given or name == "PENDING" else text)
    if name in _ENDED:
        return JobState("ended", text, 0 if name == "COMPLETED" else code or None, cancelled=name == "CANCELLED")
    return JobState("running", "" if name == "RUNNING" else text)
