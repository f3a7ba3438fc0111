"""How runs are doing: what their directories say, and what their schedulers say of their jobs, as one word. It changes
no run; what Kubernetes, which has the run's own directory, says of an end, it writes down, for that forgets."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hatrain.contract.plan import Plan
from hatrain.contract.run import Exit, RunDirectory
from hatrain.errors import BadInput
from launch.backends import JobState, client
from launch.screen import progress

ALIVE = ("queued", "running", "stopping")

_LEFT = {
    Exit.FINISHED: "finished",
    Exit.REQUEUE: "stopped",
    Exit.STOPPED: "stopped",
    Exit.FATAL: "failed",
    Exit.FAULT: "failed",
}


@dataclass(frozen=True)
class Status:
    """How one run is doing, in the same words on every kind of place."""

    run: RunDirectory
    cluster: str
    job: str | None
    """The scheduler's id; null where no scheduler was asked."""
    word: str
    """queued, running, stopping, finished, stopped, failed, cancelled, lost, or unknown where nobody answers."""
    reason: str
    """Why, in the words of whoever knows."""
    code: int | None
    """The run's own exit code, once it has left for good."""
    attempt: int | None
    step: tuple[int, int] | None
    """The newest logged step, and the steps of the run."""

    @property
    def alive(self) -> bool:
        """Whether the run may still come to something by itself."""
        return self.word in ALIVE


def look(runs: Sequence[RunDirectory]) -> list[Status]:
    """Return how each run is doing, asking each scheduler once."""
    looked = [_Submitted.of(run) for run in runs]
    asked: dict[str, list[_Submitted]] = defaultdict(list)
    for one in looked:
        # What is finished needs nobody's word any more.
        if one.job and one.plan and not one.run.done.exists():
            asked[one.plan.cluster_spec.model_dump_json()].append(one)
    told: dict[str, JobState] = {}
    for together in asked.values():
        told |= _ask(together)
    return [_status(one, told.get(one.run.name, JobState("unknown"))) for one in looked]


@dataclass(frozen=True)
class _Submitted:
    """A run, its plan (null where this version cannot read it), and the scheduler's id of its newest job."""

    run: RunDirectory
    plan: Plan | None
    problem: str
    job: str | None

    @staticmethod
    def of(run: RunDirectory) -> "_Submitted":
        job = _last(run, "submitted").get("job")
        try:
            return _Submitted(run, run.plan(), "", job)
        except BadInput as error:
            return _Submitted(run, None, error.problems[0], job)


def _ask(together: Sequence[_Submitted]) -> dict[str, JobState]:
    """Return what one scheduler says of the jobs of runs, by the runs' names: two schedulers give the same ids."""
    jobs = {str(one.job): one.run for one in together}
    plan = together[0].plan
    assert plan is not None
    try:
        said = client(plan.cluster_spec).states(jobs)
    except BadInput as error:
        said = dict.fromkeys(jobs, JobState("unknown", reason=error.problems[0]))
    return {one.run.name: said[str(one.job)] for one in together}


def _last(run: RunDirectory, *names: str) -> dict[str, Any]:
    return next((event for event in reversed(run.events()) if event.get("event") in names), {})


def _status(one: _Submitted, said: JobState) -> Status:
    run, plan, job = one.run, one.plan, one.job
    if plan is None:
        return Status(run, "-", job, "unknown", one.problem, None, None, None)
    word, reason, code = _word(run, job, said)
    if plan.launcher == "kubernetes" and said.phase == "ended" and not _has_ended(run):
        run.record("outcome", code=code, outcome=word, reasons={"cluster": reason} if reason else {})
    attempts = run.all_attempts()
    return Status(
        run, plan.cluster, job, word, reason, code, attempts[-1].number if attempts else None, progress(run)
    )


def _has_ended(run: RunDirectory) -> bool:
    return _last(run, "outcome", "cancelled", "submitted").get("event") != "submitted"


def _word(run: RunDirectory, job: str | None, said: JobState) -> tuple[str, str, int | None]:
    """Return (word, reason, exit code). The scheduler's word counts while it has the job, the record's afterwards."""
    if run.done.exists():
        return "finished", "", 0
    if said.phase == "queued":
        return "queued", said.reason, None
    if said.phase == "running" or run.lease.holder():
        attempts = run.all_attempts()
        stop = attempts[-1].stop() if attempts and run.lease.holder() else None
        return ("stopping", stop.reason, None) if stop else ("running", said.reason, None)
    last = _last(run, "outcome", "cancelled", "submitted", "attempt begun")
    if last.get("event") == "outcome":
        return _left(last["code"]), "; ".join(dict.fromkeys(last.get("reasons", {}).values())), last["code"]
    if last.get("event") == "cancelled":
        return "cancelled", f"by {last.get('user', 'somebody')}", int(Exit.STOPPED)
    return _without_a_word(job, said)


def _without_a_word(job: str | None, said: JobState) -> tuple[str, str, int | None]:
    """Say what is known of a run that left no word itself: what its scheduler says of the job."""
    if said.phase == "ended" and said.code == 0:
        return "finished", said.reason, 0
    if said.phase == "ended" and (said.code is not None or said.reason):
        code = int(Exit.FAULT) if said.code is None else said.code
        return _left(code), said.reason or f"exit code {code}", code
    if job and said.reason:
        return "unknown", said.reason, None
    return "lost", "it left without a word", int(Exit.FAULT)


def _left(code: int) -> str:
    """Return the word for how a run left; a code of no meaning is a fault."""
    return _LEFT[Exit(code) if code in set(Exit) else Exit.FAULT]
