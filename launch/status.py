"""The state of runs, from their directories and from what their schedulers report."""

import contextlib
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hatrain.contract.plan import Plan
from hatrain.contract.record import kept_in_words
from hatrain.contract.run import Exit, RunDirectory, combine
from hatrain.errors import BadInput
from launch.backends import backend
from launch.backends.protocol import JobState
from launch.screen import progress

ALIVE = ("queued", "running", "stopping")


@dataclass(frozen=True)
class Status:
    """The state of one run, in the same terms on every kind of cluster."""

    run: RunDirectory
    cluster: str
    job: str | None
    """The scheduler's id; None if the run was started by hand."""
    state: str
    """queued, running, stopping, finished, stopped, failed, cancelled, lost, or unknown if the scheduler does not
    answer."""
    reason: str
    code: int | None
    """The run's exit code, once it has ended for good; None while it has not, and if nothing is known."""
    attempt: int | None
    step: tuple[int, int] | None
    """The newest logged step, and the steps of the run."""
    newest: str = ""
    """The newest line of training, with its figures, where the run's directory is elsewhere."""

    @property
    def alive(self) -> bool:
        """Whether the run may still make progress by itself."""
        return self.state in ALIVE

    def to_dict(self) -> dict[str, Any]:
        """Return it for JSON; what is not known is null."""
        step, steps = self.step or (None, None)
        return {
            "run": self.run.name,
            "cluster": self.cluster,
            "state": self.state,
            "step": step,
            "steps": steps,
            "attempt": self.attempt,
            "job": self.job,
            "code": self.code,
            "reason": self.reason,
            "folder": str(self.run.folder),
        }


def look(runs: Sequence[RunDirectory], *, steps: bool = False) -> list[Status]:
    """The state of each run, with one query for each scheduler. With `steps`, runs whose directories are elsewhere are
    asked for their newest steps, one by one."""
    submitted, states = _refreshed([_SubmittedRun.of(run) for run in runs])
    # The scheduler knows nothing more about a finished run.
    asked = [each for each in submitted if each.job and each.run.name not in states]
    for group in _by_cluster(asked):
        states |= _query(group)
    return [_readable(each, states.get(each.run.name, JobState("unknown")), steps=steps) for each in submitted]


def _by_cluster(submitted: Iterable["_SubmittedRun"]) -> list[list["_SubmittedRun"]]:
    """Those that are not finished, together where they have the same cluster."""
    groups: dict[str, list[_SubmittedRun]] = defaultdict(list)
    for each in submitted:
        if each.plan and not each.run.done.exists():
            groups[each.plan.cluster_spec.model_dump_json()].append(each)
    return list(groups.values())


def _refreshed(submitted: Sequence["_SubmittedRun"]) -> tuple[list["_SubmittedRun"], dict[str, JobState]]:
    """The runs, after the copies among their directories were brought up to date; and why that was not possible, by
    name of the run."""
    states: dict[str, JobState] = {}
    again: set[str] = set()
    for group in _by_cluster(submitted):
        assert group[0].plan is not None
        target = backend(group[0].plan.cluster_spec)
        if not target.copies:
            continue
        names = {each.run.name for each in group}
        again |= names
        try:
            target.client().refresh([each.run for each in group])
        except BadInput as error:
            states |= dict.fromkeys(names, JobState("unknown", reason=error.problems[0]))
    return [_SubmittedRun.of(each.run) if each.run.name in again else each for each in submitted], states


def _readable(submitted: "_SubmittedRun", job_state: JobState, *, steps: bool) -> Status:
    """The status of a run; unknown, with the reason, where a file of it cannot be read."""
    try:
        return _status(submitted, job_state, steps=steps)
    except OSError as error:
        return Status(submitted.run, "-", submitted.job, "unknown", _reason(error), None, None, None)


def _reason(error: OSError) -> str:
    return f"{error.filename}: {error.strerror}"


@dataclass(frozen=True)
class _SubmittedRun:
    run: RunDirectory
    plan: Plan | None
    """None if this version cannot read it: then `problem` says why."""
    problem: str
    job: str | None
    """The scheduler's id of the newest job."""

    @staticmethod
    def of(run: RunDirectory) -> "_SubmittedRun":
        job = None
        try:
            job = _last(run, "submitted").get("job")
            return _SubmittedRun(run, run.plan(), "", job)
        except BadInput as error:
            return _SubmittedRun(run, None, error.problems[0], job)
        except OSError as error:
            return _SubmittedRun(run, None, _reason(error), job)


def _query(group: Sequence[_SubmittedRun]) -> dict[str, JobState]:
    """States of the runs of one cluster, by run name: two schedulers may use the same job ids."""
    jobs = {str(each.job): each.run for each in group}
    plan = group[0].plan
    assert plan is not None
    try:
        states = backend(plan.cluster_spec).client().states(jobs)
    except BadInput as error:
        states = dict.fromkeys(jobs, JobState("unknown", reason=error.problems[0]))
    return {each.run.name: states[str(each.job)] for each in group}


def _last(run: RunDirectory, *names: str) -> dict[str, Any]:
    return next((event for event in reversed(run.events()) if event.get("event") in names), {})


def _status(submitted: _SubmittedRun, job_state: JobState, *, steps: bool) -> Status:
    run, plan, job = submitted.run, submitted.plan, submitted.job
    if plan is None:
        return Status(run, "-", job, "unknown", submitted.problem, None, None, None)
    state, reason, code = _state(run, job, job_state)
    if (
        job_state.phase == "ended"
        and not backend(plan.cluster_spec).shares_files
        and _last(run, "outcome", "cancelled", "submitted").get("event") == "submitted"
    ):
        # The run's own record is elsewhere, and the scheduler will forget the job: keep its outcome, if this user may.
        with contextlib.suppress(OSError):
            run.record("outcome", code=code, outcome=state, reasons={"cluster": reason} if reason else {})
    attempts = run.all_attempts()
    attempt = attempts[-1].number if attempts else None
    newest = _newest_step(run, plan, job) if steps and state in ("running", "stopping") else ""
    step = progress(run) or _step(newest)
    return Status(run, plan.cluster, job, state, reason, code, attempt, step, newest)


def _newest_step(run: RunDirectory, plan: Plan, job: str | None) -> str:
    """Only informs: a scheduler that does not answer here changes nothing."""
    target = backend(plan.cluster_spec)
    if job is None or target.shares_files:
        return ""
    try:
        return target.client().newest_step(job, run)
    except BadInput:
        return ""


def _step(line: str) -> tuple[int, int] | None:
    found = re.match(r"step (\d+)/(\d+) ", line)
    return (int(found[1]), int(found[2])) if found else None


def _state(run: RunDirectory, job: str | None, job_state: JobState) -> tuple[str, str, int | None]:
    """(state, reason, exit code). The scheduler's state counts while it has the job, the record's afterwards."""
    if run.done.exists():
        return "finished", kept(run), 0
    told = f"{job_state.reason}; {job_state.advice}" if job_state.advice else job_state.reason
    if job_state.phase == "queued":
        return "queued", told, None
    holder = run.lease.holder()
    if holder and job_state.phase == "ended" and _is_of(holder, job):
        holder = None  # a process that was killed elsewhere: its lease goes stale later
    if job_state.phase == "running" or holder:
        attempts = run.all_attempts()
        stop = attempts[-1].stop() if attempts and holder else None
        return ("stopping", stop.reason, None) if stop else ("running", told, None)
    last = _last(run, "outcome", "cancelled", "submitted", "attempt begun", "killed", "not requeued", "not sent")
    if last.get("event") == "outcome":
        reasons = [*last.get("reasons", {}).values()]
        if job_state.advice and last["code"] == Exit.FAULT:
            reasons.insert(0, f"{job_state.reason}: {job_state.advice}")
        return _ended(last["code"]), "; ".join(dict.fromkeys(reasons)), last["code"]
    if last.get("event") == "not requeued":
        reason = f"could not be queued again ({last.get('reason')}); to continue it: hatrain submit {run.name}"
        return _ended(last["code"]), reason, last["code"]
    if last.get("event") == "not sent" and job_state.phase == "unknown" and not job_state.reason:
        return "failed", f"was not sent as a whole: {last.get('reason')}", int(Exit.FAULT)
    if last.get("event") == "killed":
        return _ended(Exit.FAULT), str(last.get("reason")), int(Exit.FAULT)
    if last.get("event") == "cancelled":
        return "cancelled", f"by {last.get('user', 'an unknown user')}", int(Exit.STOPPED)
    return _state_without_outcome(job, job_state)


def kept(run: RunDirectory) -> str:
    """Return which step a run's model is of and why training ended, where a look decided that; else an empty text."""
    event = _last(run, "kept")
    if not event:
        return ""
    return kept_in_words(event)


def _is_of(holder: Mapping[str, Any], job: str | None) -> bool:
    """Whether the holder of a lease is a start of a Slurm job, JOB.NUMBER."""
    return job is not None and str(holder.get("nodes")).rpartition(".")[0] == job


def _state_without_outcome(job: str | None, job_state: JobState) -> tuple[str, str, int | None]:
    """For a run that recorded no outcome, only the scheduler's answer is left."""
    if job_state.cancelled:
        return "cancelled", job_state.reason, int(Exit.STOPPED)
    if job_state.phase == "ended" and job_state.code == 0:
        return "finished", job_state.reason, 0
    if job_state.phase == "ended" and (job_state.code is not None or job_state.reason):
        code = int(Exit.FAULT) if job_state.code is None else job_state.code
        reason = job_state.reason or f"exit code {code}"
        return _ended(code), f"{reason}: {job_state.advice}" if job_state.advice else reason, code
    if job_state.reason:
        return "unknown", job_state.reason, None
    return "lost", "ended without recording an outcome", int(Exit.FAULT)


def _ended(code: int) -> str:
    """Unknown codes are faults."""
    return combine([code]).state
