"""Talks to Slurm through sbatch, squeue, sacct and scancel. Their output is read in formats that do not change between
versions, never as JSON."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from hatrain.contract.cluster import SlurmCluster
from hatrain.contract.plan import Plan
from hatrain.contract.run import RunDirectory
from hatrain.errors import BadInput
from launch.backends.protocol import JobState, PlannedRun, Reader, Submission
from launch.backends.shared_files import FileReader, stop_by_file
from launch.backends.slurm import render

TIMEOUT_SECONDS = 60.0
"""A busy controller answers late; one that takes longer than this is down."""

_QUEUED = ("PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT")
_ENDED = (
    *("COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "DEADLINE", "BOOT_FAIL"),
    *("PREEMPTED", "REVOKED"),
)
_USER_OPTIONS = ("account", "partition", "qos", "reservation", "constraint")
"""Options that a user's SBATCH_ACCOUNT and the like may set, where the cluster file does not."""


class SlurmClient:
    """Submits one job for one run, and one array for a sweep. The id of a run of a sweep is ARRAY_NUMBER."""

    poll_seconds = 5.0

    def __init__(self, cluster: SlurmCluster):
        self._cluster = cluster

    # --- submitting ---

    def submission(
        self, runs: Sequence[PlannedRun], folder: Path, parent: str | None, at_once: int | None = None
    ) -> Submission:
        """If the parent fails, Slurm removes the job from the queue.

        Raises BadInput if the runs of a sweep ask for different resources.
        """
        one = len(runs) == 1 and runs[0].directory.folder == folder
        plans = [planned.plan for planned in runs]
        files = {} if one else {render.JOB: render.array(plans, self._cluster, folder, at_once)}
        dependency = [f"--dependency=afterok:{parent}", "--kill-on-invalid-dep=yes"] if parent else []
        command = ("sbatch", "--parsable", *dependency, str(folder / render.JOB))
        return Submission(tuple(runs), folder, files, command)

    def check(self, submission: Submission) -> list[str]:
        """Runs before anything is written. Raises BadInput also while Slurm has a job of this run that was sent by
        hand: until it starts, no record has it."""
        files = submission.files or submission.runs[0].files
        self._sbatch([*submission.command[:-1], "--test-only"], script=files[render.JOB])
        self._refuse_others(submission.runs[0].plan)
        with suppress(BadInput):  # what only informs must not prevent a submission
            return list(self._notes())
        return []

    def _refuse_others(self, plan: Plan) -> None:
        assert plan.resources is not None
        name = plan.resources.name
        output = _run(["squeue", "--me", "--noheader", f"--name={name}", "--format=%i|%T|%Z"])
        for line in output.splitlines():
            job, state, folder = (*line.split("|", 2), "", "")[:3]
            if folder == plan.paths.workdir and state != "COMPLETING":
                raise BadInput(
                    f"{name}: Slurm has job {job} ({state}) of this name, from this folder; it was sent by hand: wait "
                    f"for it, or end it with: scancel {job}"
                )

    def _notes(self) -> Iterator[str]:
        config = _run(["scontrol", "show", "config"])
        if re.search(r"^JobRequeue\s*=\s*0\b", config, re.MULTILINE):
            yield (
                "this site does not queue jobs again by itself (JobRequeue=0). hatrain's jobs ask for it; if the site "
                "refuses that, a run ends at its time limit, and the same hatrain submit continues it"
            )
        if name := self._cluster.partition:
            # Several partitions may be named: the one that starts the job first is taken.
            partitions = _run(["scontrol", "show", "partition", "--oneliner", name]) if "," not in name else ""
            if re.search(r"\bPreemptMode=CANCEL\b", partitions):
                yield (
                    f"the partition {name} cancels preempted jobs instead of queueing them again (PreemptMode=CANCEL); "
                    "the same hatrain submit continues a run"
                )

    def diff(self, submission: Submission) -> str | None:
        """Slurm does not keep the scripts of jobs that have ended; the run directory does."""
        return None

    def start(self, submission: Submission) -> list[str]:
        output = self._sbatch(submission.command).strip()
        if not (found := re.fullmatch(r"(\d+)(;.*)?", output)):
            raise BadInput(f"sbatch: printed {_quoted(output)}, which is no job id; see: squeue --me")
        if not submission.files:
            return [found[1]]
        return [f"{found[1]}_{planned.directory.folder.name}" for planned in submission.runs]

    def _sbatch(self, command: Sequence[str], script: str | None = None) -> str:
        return _run(command, environment=dict(self._environment()), stdin=script)

    def _environment(self) -> Iterator[tuple[str, str]]:
        """Drop the variables of a surrounding job, and those that would override the script."""
        unset = [name for name in _USER_OPTIONS if getattr(self._cluster, name) is None]
        unset += [] if "export" in self._cluster.directives else ["export"]
        kept = {"SLURM_CONF", "SLURM_CLUSTERS", "SBATCH_CLUSTERS", "SLURM_JWT"}
        kept |= {f"SBATCH_{name.upper()}" for name in unset}
        for name, value in os.environ.items():
            if name in kept or not name.startswith(("SLURM_", "SBATCH_", "SRUN_")):
                yield name, value

    # --- watching ---

    def states(self, jobs: Mapping[str, RunDirectory]) -> dict[str, JobState]:
        """Asks squeue for all jobs at once, and sacct for those that have left the queue."""
        ids = list(jobs)
        states = dict(_queue(ids)) if ids else {}
        states |= dict(_with_codes(states))
        gone = [job for job in ids if job not in states or (states[job].phase == "ended" and states[job].code is None)]
        if gone and shutil.which("sacct"):
            try:
                states |= dict(_accounts(gone))
            except BadInput as error:
                # Keep what squeue knows. For the other jobs this is the reason why nothing is known.
                states |= {job: JobState("unknown", error.problems[0]) for job in gone if job not in states}
        return {job: self._advised(states.get(job, JobState("unknown"))) for job in ids}

    def _advised(self, state: JobState) -> JobState:
        """Add what to change after an end that Slurm itself brought about."""
        if state.phase != "ended":
            return state
        memory = self._cluster.memory
        given = f"now {memory / 2**30:g}GiB" if memory else "the partition's default now"
        advice = {
            "OUT_OF_MEMORY": f"the job needed more memory than it had; raise memory in the cluster file ({given})",
            "TIMEOUT": "ended at its time limit before it had left; raise signal_lead in the cluster file",
            "NODE_FAIL": "a node failed",
        }.get(re.split(r"\W", state.reason)[0], "")
        return replace(state, advice=advice or state.advice)

    def newest_step(self, job: str, run: RunDirectory) -> str:
        return ""

    def reader(self, job: str, run: RunDirectory, *, node: int, whole: bool) -> Reader:
        """The log of node 0 includes that of the batch script. Raises BadInput for a node that the run lacks."""
        nodes = run.plan().nodes
        if not 0 <= node < nodes:
            raise BadInput(f"--node {node}: {run.name} has nodes 0 to {nodes - 1}")
        # The batch script of an array logs to the folder of its sweep.
        batch = (run.folder.parents[1] if run.in_sweep else run.folder) / "launch" / f"slurm-{job}.log"

        def files() -> list[Path]:
            starts = run.launch.glob(f"slurm-{job}.*-node-{node}.log")
            return [*([] if node else [batch]), *sorted(starts, key=_start_number)]

        return FileReader(files, whole=whole)

    # --- ending ---

    def cancel(self, job: str, run: RunDirectory) -> None:
        _run(["scancel", job])

    def remove_rest(self, job: str, run: RunDirectory) -> bool:
        """sbatch takes a job as a whole, or not at all."""
        return False

    def stop(self, job: str, run: RunDirectory, reason: str) -> str:
        return stop_by_file(run, reason)


def _start_number(log: Path) -> int:
    """How often the job was requeued before this log, from its name."""
    found = re.search(r"\.(\d+)-node-\d+\.log$", log.name)
    return int(found[1]) if found else 0


# --- Slurm's programs ---------------------------------------------------------------------------------------


def _queue(jobs: Sequence[str]) -> Iterator[tuple[str, JobState]]:
    # --array: one line for each task of an array, including pending ones.
    options = ["--noheader", "--array", "--states=all", "--format=%i|%T|%r", f"--jobs={','.join(jobs)}"]
    try:
        output = _run(["squeue", *options])
    except BadInput as error:
        # squeue's answer when it knows none of the jobs any more.
        if "Invalid job id" in error.problems[0]:
            return
        raise
    for job, state, reason in _rows(output, "squeue"):
        yield job, _state(state, reason, None)


def _accounts(jobs: Sequence[str]) -> Iterator[tuple[str, JobState]]:
    """Yields nothing on a cluster without accounting."""
    options = ["--parsable2", "--noheader", "--allocations", "--format=JobID,State,ExitCode"]
    try:
        output = _run(["sacct", *options, f"--jobs={','.join(jobs)}"])
    except BadInput as error:
        if "accounting storage is disabled" in error.problems[0]:
            return
        raise
    for job, state, exit_code in _rows(output, "sacct"):
        if not (found := re.fullmatch(r"(\d+):(\d+)", exit_code)):
            line = f"{job}|{state}|{exit_code}"
            raise BadInput(f"sacct: printed {_quoted(line)}, where an exit code was expected")
        code, signal = int(found[1]), int(found[2])
        found_state = _state(state, None, 128 + signal if signal else code)
        if code and not signal:
            reason = f"{state}: exit code {code} in sacct, which takes 128 off those above 128"
            found_state = replace(found_state, reason=reason)
        yield job, found_state


def _with_codes(states: Mapping[str, JobState]) -> Iterator[tuple[str, JobState]]:
    """Ended jobs with their exit codes, which squeue knows in full while sacct takes 128 off those above 128."""
    wanted = [
        job for job, state in states.items() if state.phase == "ended" and state.code is None and not state.cancelled
    ]
    for job, (code, signal) in _wait_statuses(wanted) if wanted else ():
        if job in wanted:
            killed = f"the batch script itself was killed (signal {signal})" if signal else ""
            yield job, replace(states[job], code=128 + signal if signal else code or None, advice=killed)


def _wait_statuses(jobs: Sequence[str]) -> Iterator[tuple[str, tuple[int, int]]]:
    """Yields (job, (exit code, signal)) for the jobs that the controller has not forgotten."""
    options = ["--noheader", "--array", "--states=all", "--Format=JobArrayID:40,exit_code:12"]
    try:
        output = _run(["squeue", *options, f"--jobs={','.join(jobs)}"])
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
            raise BadInput(f"{program}: printed {_quoted(line)}, which is not in the expected format")
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


def _run(command: Sequence[str], *, environment: dict[str, str] | None = None, stdin: str | None = None) -> str:
    """Run one of Slurm's programs. Returns its output. Raises BadInput with one line for every failure."""
    program = command[0]
    if environment is None:
        # A user's SQUEUE_STATES or SACCT_FORMAT would change the output.
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("SQUEUE_", "SACCT_"))}
    try:
        result = subprocess.run(
            command,
            env=environment,
            input=stdin or "",
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=TIMEOUT_SECONDS,
        )
    except FileNotFoundError:
        raise BadInput(f"{program}: not found on this machine; run hatrain on a login node of the cluster") from None
    except OSError as error:
        raise BadInput(f"{program}: cannot be started: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        hint = "; the job may have been submitted: see squeue --me" if program == "sbatch" else ""
        raise BadInput(
            f"{program}: no answer in {TIMEOUT_SECONDS:g} s; check Slurm with `scontrol ping`{hint}"
        ) from None
    if result.returncode:
        complaint = _complaint(program, result.stderr.splitlines())
        raise BadInput(f"{program}: {complaint or f'exit code {result.returncode}'}")
    return result.stdout


def _complaint(program: str, lines: Iterable[str]) -> str:
    """One line of what a program printed to stderr, without its own name before each part."""
    parts = (re.sub(rf"^({program}: )?((error|fatal): )?", "", line.strip()) for line in lines)
    return _shortened("; ".join(dict.fromkeys(part for part in parts if part)))


def _quoted(text: str) -> str:
    return repr(_shortened(text))


def _shortened(text: str) -> str:
    return text if len(text) <= 300 else f"{text[:300]}…"
