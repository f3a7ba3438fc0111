"""A cluster under Slurm, by its own clients: sbatch, squeue, sacct, scancel. What they print is read in formats that do
not change between versions, never as JSON."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from hatrain.contract.cluster import SlurmCluster
from hatrain.contract.run import RunDirectory
from hatrain.errors import BadInput
from launch.backends import FileReader, JobState, Member, Reader, Submission
from launch.backends.local.client import stop_by_file
from launch.backends.slurm import render as slurm

TIMEOUT_SECONDS = 60.0
"""A controller that is busy answers late; one that does not answer by now is down."""

_QUEUED = ("PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT")
_ENDED = (
    *("COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "DEADLINE", "BOOT_FAIL"),
    *("PREEMPTED", "REVOKED"),
)
_OPEN = ("account", "partition", "qos", "reservation", "constraint")
"""What a person's own SBATCH_ACCOUNT and the like may say, where the cluster file does not."""


def make(place: SlurmCluster) -> "SlurmClient":
    """Return the client of a cluster."""
    return SlurmClient(place)


class SlurmClient:
    """Submits one job for one run, and one array for a sweep. The id of a run of a sweep is ARRAY_NUMBER."""

    poll_seconds = 5.0

    def __init__(self, place: SlurmCluster):
        self._place = place

    # --- submitting ---

    def submission(self, members: Sequence[Member], folder: Path, parent: str | None) -> Submission:
        """Return the files and the command. A parent that fails takes the job out of the queue with it.

        Raises BadInput when the runs of a sweep ask for different things.
        """
        one = len(members) == 1 and members[0].run.folder == folder
        files = {} if one else {slurm.JOB: slurm.array([member.plan for member in members], folder)}
        after = [f"--dependency=afterok:{parent}", "--kill-on-invalid-dep=yes"] if parent else []
        command = ("sbatch", "--parsable", *after, str(folder / slurm.JOB))
        return Submission(tuple(members), folder, files, command)

    def check(self, submission: Submission) -> None:
        """Ask Slurm whether it would take this, before anything is written. Raises BadInput with its own reason."""
        files = submission.files or submission.members[0].files
        self._submit([*submission.command[:-1], "--test-only"], text=files[slurm.JOB])

    def diff(self, submission: Submission) -> str | None:
        """Slurm shows no script of a job that it has forgotten; the run directory has what was sent."""
        return None

    def start(self, submission: Submission) -> list[str]:
        """Send it, once its files are written. Returns the id of each run's job."""
        said = self._submit(submission.command).strip()
        if not (found := re.fullmatch(r"(\d+)(;.*)?", said)):
            raise BadInput(f"sbatch: answered {_short(said)}, which is no job's id; see: squeue --me")
        if not submission.files:
            return [found[1]]
        return [f"{found[1]}_{member.run.folder.name}" for member in submission.members]

    def _submit(self, command: Sequence[str], text: str | None = None) -> str:
        return _ask(command, environment=dict(self._environment()), text=text)

    def _environment(self) -> Iterator[tuple[str, str]]:
        """Yield what a job is submitted in: not the variables of a job that this is run in, and nothing that would
        overrule the script."""
        kept = {f"SBATCH_{name.upper()}" for name in _OPEN if getattr(self._place, name) is None}
        kept |= {"SLURM_CONF", "SLURM_CLUSTERS", "SBATCH_CLUSTERS", "SLURM_JWT"}
        for name, value in os.environ.items():
            if name in kept or not name.startswith(("SLURM_", "SBATCH_", "SRUN_")):
                yield name, value

    # --- looking ---

    def states(self, jobs: Mapping[str, RunDirectory]) -> dict[str, JobState]:
        """Return what became of jobs, asking squeue once for all, and sacct once for those that have left the queue."""
        ids = list(jobs)
        told = dict(_queue(ids)) if ids else {}
        left = [
            job for job in ids if job not in told or (told[job].phase == "ended" and told[job].code is None)
        ]
        if left and shutil.which("sacct"):
            try:
                told |= dict(_accounts(left))
            except BadInput as error:
                # What squeue said still holds; of the others nobody knows, and here is why.
                told |= {job: JobState("unknown", error.problems[0]) for job in left if job not in told}
        return {job: told.get(job, JobState("unknown")) for job in ids}

    def reader(self, job: str, run: RunDirectory, *, node: int, whole: bool) -> Reader:
        """Return what a node of a job prints; of node 0 also what the batch script and Slurm say.

        Raises BadInput for a node that the run does not have.
        """
        nodes = run.plan().nodes
        if not 0 <= node < nodes:
            raise BadInput(f"--node {node}: {run.name} has nodes 0 to {nodes - 1}")
        # An array is submitted by the folder of its sweep, and speaks there.
        batch = (run.folder.parents[1] if run.in_sweep else run.folder) / "launch" / f"slurm-{job}.log"

        def files() -> list[Path]:
            starts = run.launch.glob(f"slurm-{job}.*-node-{node}.log")
            return [*([] if node else [batch]), *sorted(starts, key=_start)]

        return FileReader(files, whole=whole)

    # --- ending ---

    def cancel(self, job: str, run: RunDirectory) -> None:
        """Take a job out of the queue, or end it."""
        _ask(["scancel", job])

    def stop(self, job: str, run: RunDirectory, reason: str) -> str:
        """Write the stop file of the live attempt. Raises BadInput when none lives."""
        return stop_by_file(run, reason)


def _start(path: Path) -> int:
    """Return the how-manieth start of its job a log is of."""
    found = re.search(r"\.(\d+)-node-\d+\.log$", path.name)
    return int(found[1]) if found else 0


# --- the clients --------------------------------------------------------------------------------------------


def _queue(jobs: Sequence[str]) -> Iterator[tuple[str, JobState]]:
    """Yield what squeue knows. --array says each task of an array on a line of its own, those that wait too."""
    command = [
        "squeue",
        "--noheader",
        "--array",
        "--states=all",
        "--format=%i|%T|%r",
        f"--jobs={','.join(jobs)}",
    ]
    try:
        text = _ask(command)
    except BadInput as error:
        # Its answer when it knows none of them any more.
        if "Invalid job id" in error.problems[0]:
            return
        raise
    for job, state, reason in _table(text, command[0], 3):
        yield job, _state(state, reason, None)


def _accounts(jobs: Sequence[str]) -> Iterator[tuple[str, JobState]]:
    """Yield what the accounting knows, where there is any. Raises BadInput when it should answer and does not."""
    command = ["sacct", "--parsable2", "--noheader", "--allocations", "--format=JobID,State,ExitCode"]
    command.append(f"--jobs={','.join(jobs)}")
    try:
        text = _ask(command)
    except BadInput as error:
        if "accounting storage is disabled" in error.problems[0]:
            return
        raise
    for job, state, code in _table(text, command[0], 3):
        if not (found := re.fullmatch(r"(\d+):(\d+)", code)):
            raise BadInput(
                f"sacct: answered {_short(f'{job}|{state}|{code}')}, where an exit code was asked for"
            )
        left, killed = int(found[1]), int(found[2])
        yield job, _state(state, None, 128 + killed if killed else left)


def _table(text: str, client: str, columns: int) -> Iterator[list[str]]:
    for line in text.splitlines():
        cells = line.split("|")
        if len(cells) != columns or not re.fullmatch(r"[A-Z_]+( by .*)?", cells[1]):
            raise BadInput(f"{client}: answered {_short(line)}, which is not what was asked for")
        for job in _tasks(cells[0]):
            yield [job, *cells[1:]]


def _tasks(job: str) -> Iterator[str]:
    """Yield the ids of the tasks that an array's 12_[0-2,5%1] stands for; a job's own id."""
    found = re.fullmatch(r"(\d+)_\[([\d,-]+)(%\d+)?\]", job)
    if not found:
        yield job
        return
    for part in found[2].split(","):
        first, _, last = part.partition("-")
        for number in range(int(first), int(last or first) + 1):
            yield f"{found[1]}_{number}"


def _state(said: str, reason: str | None, code: int | None) -> JobState:
    """Return a state in our words, with Slurm's own as the reason."""
    word = said.partition(" ")[0]
    if word in _QUEUED:
        # None: the scheduler has not looked at it yet.
        why = "" if reason in (None, "None") else str(reason)
        return JobState("queued", why if why or word == "PENDING" else said)
    if word in _ENDED:
        return JobState("ended", said, 0 if word == "COMPLETED" else code or None)
    return JobState("running", "" if word == "RUNNING" else said)


def _ask(
    command: Sequence[str], *, environment: dict[str, str] | None = None, text: str | None = None
) -> str:
    """Run one of Slurm's clients. Returns what it prints; whatever goes wrong is BadInput, in one line."""
    client = command[0]
    if environment is None:
        # A person's own SQUEUE_STATES or SACCT_FORMAT would change the answer.
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("SQUEUE_", "SACCT_"))
        }
    try:
        told = subprocess.run(
            command,
            env=environment,
            input=text or "",
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=TIMEOUT_SECONDS,
        )
    except FileNotFoundError:
        raise BadInput(
            f"{client}: not found here; Slurm's clients are on the login nodes of a cluster"
        ) from None
    except OSError as error:
        raise BadInput(f"{client}: cannot be run: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        hint = "; what it was asked may have happened: see squeue --me" if client == "sbatch" else ""
        raise BadInput(
            f"{client}: no answer in {TIMEOUT_SECONDS:g} s; `scontrol ping` says how Slurm is{hint}"
        ) from None
    if told.returncode:
        raise BadInput(
            f"{client}: {_complaint(client, told.stderr.splitlines()) or f'exit code {told.returncode}'}"
        )
    return told.stdout


def _complaint(client: str, lines: Iterable[str]) -> str:
    """Return what a client complains of, in one line, without its own name before each."""
    told = (re.sub(rf"^({client}: )?((error|fatal): )?", "", line.strip()) for line in lines)
    return _short("; ".join(dict.fromkeys(line for line in told if line)), quoted=False)


def _short(text: str, *, quoted: bool = True) -> str:
    cut = text if len(text) <= 300 else f"{text[:300]}…"
    return repr(cut) if quoted else cut
