"""Talks to a Slurm cluster through ssh. A run directory here is a copy of the one on the cluster."""

import shlex
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from hatrain.contract.cluster import SlurmCluster
from hatrain.contract.run import RunDirectory, all_runs, runs_root
from hatrain.errors import BadInput
from hatrain.runtime import seal
from launch import status
from launch.backends.protocol import Reader, Submission
from launch.backends.shared_files import running_attempt
from launch.backends.slurm.client import SlurmClient, job_ids
from launch.backends.slurm.ssh import inputs, mirror, submission
from launch.backends.slurm.ssh.connection import Unreachable, connection
from launch.backends.slurm.ssh.machine import LoginNode
from launch.backends.slurm.ssh.mirror import Copy
from launch.backends.slurm.ssh.pull import Pull

READ_SECONDS = 2.0
"""Between two looks at the output of a run that is followed."""


class SshClient(SlurmClient):
    """As `SlurmClient`, for a cluster file with `ssh`."""

    def __init__(self, cluster: SlurmCluster):
        assert cluster.ssh is not None
        self._ssh = cluster.ssh
        self._connection = connection(cluster.ssh.host)
        super().__init__(cluster, LoginNode(self._connection))

    # --- submitting ---

    def check(self, sent: Submission) -> list[str]:
        """Raises BadInput also for an input that is neither here nor on the cluster."""
        needed = {inputs.of(planned.plan, Path.cwd(), runs_root()): planned.plan for planned in sent.runs}
        others = self._active(sent)
        for each, plan in needed.items():
            inputs.check(self._connection, plan, each, Path.cwd())
            inputs.refuse_changed(inputs.digests(each.data), others)
        return super().check(sent)

    def _active(self, sent: Submission) -> list[RunDirectory]:
        """Other runs of this working folder that are not finished."""
        own = {planned.directory.folder for planned in sent.runs}
        others = [run for run in all_runs() if run.folder not in own and not run.done.exists() and self._is_here(run)]
        return [now.run for now in status.look(others) if now.alive]

    def _is_here(self, run: RunDirectory) -> bool:
        if not (run.folder / inputs.SENT).exists():
            return False
        try:
            cluster = run.plan().cluster_spec
        except BadInput:
            return False
        return isinstance(cluster, SlurmCluster) and cluster.ssh == self._ssh

    def start(self, sent: Submission) -> list[str]:
        pending = submission.new(sent)
        submission.keep(sent.folder, pending)
        try:
            self._send_inputs(sent, pending)
            output = submission.send(self._connection, sent, pending, self._variables())
        except (submission.Unsettled, Unreachable):
            raise
        except BadInput:
            submission.forget(sent.folder)
            raise
        jobs = job_ids(sent, output)
        submission.forget(sent.folder)
        return jobs

    def _send_inputs(self, sent: Submission, pending: submission.Pending) -> None:
        first = sent.runs[0].plan
        needed = [inputs.of(planned.plan, Path.cwd(), runs_root()) for planned in sent.runs]
        for planned, each in zip(sent.runs, needed, strict=True):
            seal.write_json(planned.directory.folder / inputs.SENT, inputs.digests(each.data))
        inputs.send(self._connection, first.paths.workdir, needed)
        if first.paths.code:
            inputs.send_code(self._connection, sent.folder / "code", submission.code_folder(first, pending))

    def arrived(self, sent: Submission) -> list[str]:
        pending = submission.read(sent.folder)
        if pending is None:
            return []
        jobs = self._settle(sent.folder)
        return jobs if pending.digest == submission.digest(sent) else []

    def _settle(self, folder: Path) -> list[str]:
        """The jobs of a submission that was cut off, if it has arrived. It is known then, either way."""
        pending = submission.read(folder)
        if pending is None:
            return []
        runs = submission.runs_of(folder)
        output = submission.settle(self._connection, [run.plan() for run in runs], pending, runs[0].in_sweep)
        if output is None:
            for run in runs:
                run.record("not sent", reason="it was cut off before Slurm had it; submit it again")
        submission.forget(folder)
        number = output.partition(";")[0] if output else ""
        return [f"{number}_{run.folder.name}" if run.in_sweep else number for run in runs] if number else []

    # --- watching ---

    def refresh(self, runs: Sequence[RunDirectory]) -> None:
        """Also finds out about submissions of these runs that were cut off."""
        for folder in dict.fromkeys(submission.folder_of(run) for run in runs):
            self._settle(folder)
        self.copy(runs)

    def copy(self, runs: Sequence[RunDirectory], *, logs: bool = False) -> None:
        """Bring the directories here up to date, on request with all output."""
        mirror.refresh(self._connection, [Copy(run, self._there(run)) for run in runs], logs=logs)

    def pull(self, run: RunDirectory, *, model: bool, metrics: bool) -> list[str]:
        self._settle(submission.folder_of(run))
        self.copy([run], logs=metrics)
        pull = Pull(self._connection, run, self._there(run))
        lines = []
        if metrics:
            pull.measured()
            lines.append(f"{run.name}: {run.folder}")
        if model:
            lines += pull.model()
            lines += pull.export() if metrics else []
        return lines

    def _there(self, run: RunDirectory) -> str:
        return f"{self._ssh.workdir}/runs/{run.name}"

    def reader(self, job: str, run: RunDirectory, *, node: int, whole: bool) -> Reader:
        # Who follows a run is patient itself, and listens to Ctrl-C meanwhile.
        self._connection.patience = 0.0
        return _CopyingReader(super().reader(job, run, node=node, whole=whole), lambda: self.copy([run], logs=True))

    # --- ending ---

    def stop(self, job: str, run: RunDirectory, reason: str) -> str:
        """Raises BadInput if no attempt is running."""
        self.copy([run])
        attempt = running_attempt(run)
        stop = shlex.quote(f"{self._there(run)}/attempts/{attempt.number}/STOP")
        request = shlex.quote(seal.as_json({"reason": reason, "requeue": False}))
        output = self._connection.run(f"printf '%s\\n' {request} > {stop}.new && mv -- {stop}.new {stop}")
        if output.code:
            raise BadInput(f"{run.name}: cannot be stopped: {output.errors.strip() or f'exit code {output.code}'}")
        return f"attempt {attempt.number} saves a checkpoint after its current step and exits"


class _CopyingReader:
    """Reads the copies of logs here, and copies what is new from time to time."""

    def __init__(self, files: Reader, copy: Callable[[], None]):
        self._files, self._copy = files, copy
        self._next = time.monotonic()
        self.problem: tuple[int, list[str]] | None = None

    def read(self) -> bytes:
        return self.read_rest() if time.monotonic() >= self._next else self._files.read()

    def read_rest(self) -> bytes:
        try:
            self._copy()
        except BadInput as error:
            self.problem = 1, list(error.problems)
        else:
            self.problem = None
        self._next = time.monotonic() + READ_SECONDS
        return self._files.read()

    def close(self) -> None:
        self._files.close()
