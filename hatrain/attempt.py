"""One attempt at a run, as entry goes about it: whether to begin at all, the children in their order, the outcome.
What a rank does is not its business; it reads the word that each rank left."""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from hatrain import chain, provenance, seal
from hatrain.errors import BadInput
from hatrain.inputs import missing
from hatrain.lease import STALE_SECONDS, LeaseHeld
from hatrain.plan import Plan
from hatrain.run import Attempt, Exit, RunDirectory, Stop, combine

GRACE_SECONDS = 600.0
"""From a stop to the end of patience: long enough for a step and a checkpoint. $HATRAIN_STOP_GRACE overrides it."""
LEASE_PATIENCE_SECONDS = STALE_SECONDS + 15.0
"""How long another attempt's lease is waited for: a dead holder on another machine is known by then."""

Outcome = tuple[Exit, dict[str, str]]
Command = Callable[[Plan, RunDirectory], Sequence[str]]


class Signals(Protocol):
    """What has been heard so far: (reason, requeue), or None."""

    stop: tuple[str, bool] | None


def trainer(plan: Plan, run: RunDirectory) -> Sequence[str]:
    """Return the command that trains: torchrun over this node's ranks."""
    return chain.torchrun(plan, "hatrain.train", run.folder, _node_rank())


def evaluator(plan: Plan, run: RunDirectory) -> Sequence[str]:
    """Return the command that judges the trained model: one process."""
    return [sys.executable, "-m", "hatrain.evaluate.run", str(run.folder)]


def enter(
    target: str,
    heard: Signals,
    *,
    train: Command = trainer,
    evaluate: Command = evaluator,
    lease_patience: float = LEASE_PATIENCE_SECONDS,
) -> Exit:
    """Make one attempt at the run of a run directory or a plan, and return how it left. Says so on stderr."""
    try:
        run, plan, files = _locate(Path(target))
        if run.done.exists():
            _say(f"{run.name}: finished before, {run.done} is there")
            return Exit.FINISHED
        with contextlib.ExitStack() as until_the_end:
            deadline = time.monotonic() + lease_patience
            while True:
                _wait_for_lease(run, heard, deadline)
                if heard.stop:
                    return _stopped(heard)
                if files is not None:
                    run.adopt(plan, files)
                with contextlib.suppress(LeaseHeld):
                    lost = until_the_end.enter_context(run.lease.held())
                    break
            return _attempt(run, plan, heard, lost, train, evaluate)
    except BadInput as error:
        for problem in error.problems:
            _say(problem)
        return Exit.FATAL


# --- before an attempt --------------------------------------------------------------------------------------


def _locate(target: Path) -> tuple[RunDirectory, Plan, dict[str, str] | None]:
    """Return the run and its plan; with a plan from elsewhere also the files beside it, to be adopted.

    Raises BadInput when there is no plan, or when the run directory belongs to another job.
    """
    if target.is_dir() or not target.exists():
        run = RunDirectory(target)
        return run, run.plan(), None
    try:
        plan = Plan.model_validate_json(target.read_bytes())
    except (OSError, ValueError) as error:
        first = str(error).splitlines()[0]
        raise BadInput(f"{target}: not a plan that this version reads: {first}") from None
    run = RunDirectory(Path(plan.paths.run))
    if run.plan_file.exists():
        if run.plan_file.samefile(target):
            return run, plan, None
        run.refuse_another(plan.job)
    beside = target.parent
    names = [path for path in (beside / "job.yaml", *beside.glob("launch/*")) if path.is_file()]
    return run, plan, {str(path.relative_to(beside)): path.read_text(encoding="utf-8") for path in names}


def _wait_for_lease(run: RunDirectory, heard: Signals, deadline: float) -> None:
    """Wait until nobody alive holds the run, or a signal came. Raises BadInput when patience ends."""
    said = False
    while run.folder.is_dir() and (owner := run.lease.holder()) and not heard.stop:
        who = f"process {owner['pid']} on {owner['host']}"
        if time.monotonic() > deadline:
            raise BadInput(
                f"{run.name}: an attempt is running ({who}); stop it first: hatrain stop {run.name}"
            )
        if not said:
            _say(f"{run.name}: waiting for the attempt of {who} to leave")
            said = True
        time.sleep(min(1.0, max(0.05, deadline - time.monotonic())))


def _stopped(heard: Signals) -> Exit:
    assert heard.stop is not None
    reason, requeue = heard.stop
    _say(f"stopped before the attempt began: {reason}")
    return Exit.REQUEUE if requeue else Exit.STOPPED


# --- the attempt --------------------------------------------------------------------------------------------


def _attempt(
    run: RunDirectory, plan: Plan, heard: Signals, lost: threading.Event, train: Command, evaluate: Command
) -> Exit:
    if run.done.exists():
        _say(f"{run.name}: finished meanwhile, {run.done} is there")
        return Exit.FINISHED
    if (tried := run.fruitless_attempts()) > plan.retries:
        raise BadInput(
            f"{run.name}: retries used up: {tried} attempts in a row sealed no checkpoint "
            f"(limits.retries: {plan.retries}); see {run.all_attempts()[-1].folder / 'log.txt'}"
        )
    if problems := missing(plan):
        raise BadInput(problems)
    grace = _grace()
    for pid in chain.end_leftovers(str(run.folder)):
        _say(f"{run.name}: ended process {pid}, left over from an earlier attempt")
    attempt = run.new_attempt()
    begun = time.monotonic()
    run.record(
        "attempt begun",
        attempt=attempt.number,
        host=provenance.host(),
        pid=os.getpid(),
        scheduler_id=provenance.scheduler_id(),
        cluster=plan.cluster,
        launcher=plan.launcher,
        nodes=plan.nodes,
        ranks=plan.world_size,
        device=plan.device,
        sharding=plan.sharding,
        micro_batch_size=plan.batch.micro_batch_size,
        gradient_checkpointing=plan.gradient_checkpointing,
        versions=provenance.versions(),
        commit=provenance.commit(),
    )
    _say(f"{run.name}: attempt {attempt.number}, {attempt.folder}")
    children = _Children(run, plan, attempt, heard, lost, grace)
    code, reasons = _train(children, train)
    if code is Exit.FINISHED:
        code, reasons = _evaluate(children, evaluate)
    if code is Exit.FINISHED:
        _finish(run, plan, attempt)
    run.record(
        "outcome",
        attempt=attempt.number,
        code=int(code),
        outcome=code.name.lower(),
        reasons=reasons,
        seconds=round(time.monotonic() - begun, 1),
    )
    if code is Exit.FINISHED:
        seal.write_json(run.done, {"time": _now(), "attempt": attempt.number})
    _say(f"{run.name}: {code.name.lower()} ({int(code)})")
    for who, reason in reasons.items():
        _say(f"  {who}: {reason}")
    return code


def _train(children: "_Children", command: Command) -> Outcome:
    run, plan = children.run, children.plan
    result = run.result(plan.job)
    if seal.damage(result) is None:
        _say(f"{run.name}: trained before, {result} is whole")
        return Exit.FINISHED, {}
    first = _node_rank() * plan.processes_per_node
    code, reasons = children.outcome(command(plan, run), range(first, first + plan.processes_per_node))
    if code is Exit.FINISHED and (damage := seal.damage(result, checksums=False)):
        return Exit.FAULT, {"entry": f"every rank finished, but {result} is not whole: {damage}"}
    return code, reasons


def _evaluate(children: "_Children", command: Command) -> Outcome:
    job = children.plan.job
    if not job.data.test or not job.evaluation.requests:
        return Exit.FINISHED, {}
    if stop := children.heard_stop():
        return (Exit.REQUEUE if stop.requeue else Exit.STOPPED), {"evaluation": f"not begun: {stop.reason}"}
    return children.outcome(command(children.plan, children.run), ["evaluation"])


def _finish(run: RunDirectory, plan: Plan, attempt: Attempt) -> None:
    models = Path(plan.paths.models)
    try:
        if run.link_model(models, run.result(plan.job)) is None:
            _say(f"{models / run.name}: a real folder is in the way; not linked")
    except OSError as error:
        # The link is a convenience; a folder that cannot be written to does not undo a finished run.
        _say(f"{models / run.name}: not linked: {error.strerror}")
    run.record("done", attempt=attempt.number)


class _Children:
    """The children of one attempt: started one after the other, in the same surroundings."""

    def __init__(
        self,
        run: RunDirectory,
        plan: Plan,
        attempt: Attempt,
        heard: Signals,
        lost: threading.Event,
        grace: float,
    ):
        self.run, self.plan, self.attempt, self.heard = run, plan, attempt, heard
        self.lost, self.grace = lost, grace

    def heard_stop(self) -> Stop | None:
        """Pass a signal on to the stop file; return what that file says, whoever wrote it."""
        if self.heard.stop:
            self.attempt.request_stop(Stop(*self.heard.stop))
        return self.attempt.stop()

    def outcome(self, command: Sequence[str], ranks: Sequence[int | str]) -> Outcome:
        """Run a child to its end. Returns what its ranks come to, and the reason of each that is not finished."""
        left = chain.follow(
            command,
            cwd=self.plan.paths.workdir,
            environment=self._environment(),
            log=self.attempt.folder / "log.txt",
            stopping=lambda: self.heard_stop() is not None,
            grace=self.grace,
            abandoned=self.lost.is_set,
        )
        if self.lost.is_set():
            return Exit.FAULT, {
                "entry": "lost the lease: this machine stood still, and another attempt has begun"
            }
        words = self.attempt.outcomes(ranks)
        code = combine(code for code, _ in words.values())
        reasons = {_who(rank): reason for rank, (told, reason) in words.items() if told is not Exit.FINISHED}
        if left is None:
            reasons["entry"] = f"did not leave {self.grace:g} s after the stop, and was killed"
            stop = self.attempt.stop()
            if code is Exit.FAULT and stop and not stop.requeue:
                # It is no rank's fault, and the user wants an end: what was sealed before is what there is.
                code = Exit.STOPPED
        return code, reasons

    def _environment(self) -> dict[str, str]:
        around = {**os.environ, **self.plan.environment}
        share = max(1, _cores() // self.plan.processes_per_node)
        return around | {
            "OMP_NUM_THREADS": around.get("OMP_NUM_THREADS") or str(share),
            chain.MARK: str(self.run.folder),
            "HATRAIN_ATTEMPT": str(self.attempt.number),
            "PYTHONUNBUFFERED": "1",
            # torchrun kills its ranks 30 s after SIGTERM otherwise, in the middle of a checkpoint.
            "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": str(int(self.grace)),
        }


def _who(rank: int | str) -> str:
    return f"rank {rank}" if isinstance(rank, int) else rank


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _node_rank() -> int:
    return int(os.environ.get("HATRAIN_NODE_RANK") or 0)


def _grace() -> float:
    """Return the seconds from a stop to the end of patience. Raises BadInput when the variable is no number."""
    told = os.environ.get("HATRAIN_STOP_GRACE") or GRACE_SECONDS
    try:
        return float(told)
    except ValueError:
        raise BadInput(f"HATRAIN_STOP_GRACE: found {told!r}; accepted: a number of seconds") from None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _say(text: str) -> None:
    with contextlib.suppress(OSError):  # nobody reads stderr any more; the run goes on
        print(f"hatrain: {text}", file=sys.stderr, flush=True)
