"""Talks to Slurm through sbatch, squeue, sacct and scancel."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from hatrain.contract.cluster import SlurmCluster
from hatrain.contract.plan import Plan
from hatrain.contract.run import RunDirectory
from hatrain.errors import BadInput
from launch.backends.protocol import JobState, PlannedRun, Reader, Submission, nothing_to_pull
from launch.backends.shared_files import FileReader, stop_by_file
from launch.backends.slurm import render, states
from launch.backends.slurm.programs import Machine, ThisMachine, Variables, quoted, run

_USER_OPTIONS = ("account", "partition", "qos", "reservation", "constraint")
"""Options that a user's SBATCH_ACCOUNT and the like may set, where the cluster file does not."""


class SlurmClient:
    """Submits one job for one run, and one array for a sweep. The id of a run of a sweep is ARRAY_NUMBER."""

    poll_seconds = 5.0

    def __init__(self, cluster: SlurmCluster, machine: Machine | None = None):
        self._cluster = cluster
        self._machine = machine or ThisMachine()

    # --- submitting ---

    def submission(
        self, runs: Sequence[PlannedRun], folder: Path, parent: str | None, at_once: int | None = None
    ) -> Submission:
        """If the parent fails, Slurm removes the job from the queue.

        Raises BadInput if the runs of a sweep ask for different resources.
        """
        one = len(runs) == 1 and runs[0].directory.folder == folder
        plans = [planned.plan for planned in runs]
        dependency = [f"--dependency=afterok:{parent}", "--kill-on-invalid-dep=yes"] if parent else []
        # As the cluster sees it: `folder` may be a copy.
        first = Path(plans[0].paths.run)
        there = first if one else first.parents[1]
        files = {} if one else {render.JOB: render.array(plans, self._cluster, there, at_once)}
        command = ("sbatch", "--parsable", *dependency, str(there / render.JOB))
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
        output = self._run(["squeue", "--me", "--noheader", f"--name={name}", "--format=%i|%T|%Z"])
        for line in output.splitlines():
            job, state, folder = (*line.split("|", 2), "", "")[:3]
            if folder == plan.paths.workdir and state != "COMPLETING":
                raise BadInput(
                    f"{name}: Slurm has job {job} ({state}) of this name, from this folder; it was sent by hand: wait "
                    f"for it, or end it with: scancel {job}"
                )

    def _notes(self) -> Iterator[str]:
        config = self._run(["scontrol", "show", "config"])
        if re.search(r"^JobRequeue\s*=\s*0\b", config, re.MULTILINE):
            yield (
                "this site does not queue jobs again by itself (JobRequeue=0). hatrain's jobs ask for it; if the site "
                "refuses that, a run ends at its time limit, and the same hatrain submit continues it"
            )
        if name := self._cluster.partition:
            # Several partitions may be named: the one that starts the job first is taken.
            partitions = self._run(["scontrol", "show", "partition", "--oneliner", name]) if "," not in name else ""
            if re.search(r"\bPreemptMode=CANCEL\b", partitions):
                yield (
                    f"the partition {name} cancels preempted jobs instead of queueing them again (PreemptMode=CANCEL); "
                    "the same hatrain submit continues a run"
                )

    def diff(self, submission: Submission) -> str | None:
        """Slurm does not keep the scripts of jobs that have ended; the run directory does."""
        return None

    def start(self, submission: Submission) -> list[str]:
        return job_ids(submission, self._sbatch(submission.command))

    def refresh(self, runs: Sequence[RunDirectory]) -> None:
        """Nothing to do: these directories are no copies."""

    def arrived(self, submission: Submission) -> list[str]:
        return []

    def pull(self, run: RunDirectory, *, model: bool, metrics: bool) -> list[str]:
        raise nothing_to_pull(run)

    def _run(self, command: Sequence[str]) -> str:
        return run(self._machine, command)

    def _sbatch(self, command: Sequence[str], script: str = "") -> str:
        return run(self._machine, command, self._variables(), script)

    def _variables(self) -> Variables:
        """Drop the variables of a surrounding job, and those that would override the script."""
        unset = [name for name in _USER_OPTIONS if getattr(self._cluster, name) is None]
        unset += [] if "export" in self._cluster.directives else ["export"]
        kept = {"SLURM_CONF", "SLURM_CLUSTERS", "SBATCH_CLUSTERS", "SLURM_JWT"}
        kept |= {f"SBATCH_{name.upper()}" for name in unset}
        return Variables(("SLURM_", "SBATCH_", "SRUN_"), frozenset(kept))

    # --- watching ---

    def states(self, jobs: Mapping[str, RunDirectory]) -> dict[str, JobState]:
        """Asks squeue for all jobs at once, and sacct for those that have left the queue."""
        ids = list(jobs)
        found = dict(states.in_queue(self._machine, ids)) if ids else {}
        found |= dict(states.with_codes(self._machine, found))
        gone = [job for job in ids if job not in found or (found[job].phase == "ended" and found[job].code is None)]
        if gone:
            try:
                found |= dict(states.in_accounts(self._machine, gone))
            except BadInput as error:
                # Keep what squeue knows. For the other jobs this is the reason why nothing is known.
                found |= {job: JobState("unknown", error.problems[0]) for job in gone if job not in found}
        return {job: self._advised(found.get(job, JobState("unknown"))) for job in ids}

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
        self._run(["scancel", job])

    def remove_rest(self, job: str, run: RunDirectory) -> bool:
        """sbatch takes a job as a whole, or not at all."""
        return False

    def stop(self, job: str, run: RunDirectory, reason: str) -> str:
        return stop_by_file(run, reason)


def _start_number(log: Path) -> int:
    """How often the job was requeued before this log, from its name."""
    found = re.search(r"\.(\d+)-node-\d+\.log$", log.name)
    return int(found[1]) if found else 0


def job_ids(submission: Submission, output: str) -> list[str]:
    """The id of each run, from the output of sbatch. Raises BadInput when it is no job id."""
    if not (found := re.fullmatch(r"(\d+)(;.*)?", output.strip())):
        raise BadInput(f"sbatch: printed {quoted(output.strip())}, which is no job id; see: squeue --me")
    if not submission.files:
        return [found[1]]
    return [f"{found[1]}_{planned.directory.folder.name}" for planned in submission.runs]
