"""One attempt at a run, as entry goes about it: whether to begin at all, the children in their order, the outcome.
Of several nodes, node 0 does this for all. What a rank does is not its business; it reads the word that each left."""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hatrain.contract.inputs import missing
from hatrain.contract.plan import Plan
from hatrain.contract.run import Attempt, Exit, RunDirectory
from hatrain.entry import preconditions, process
from hatrain.entry.children import Children, Command, Outcome, Signals, say
from hatrain.entry.follower import follow
from hatrain.entry.nodes import Nodes, look
from hatrain.entry.peers import Members
from hatrain.entry.preconditions import NotStarted, seconds
from hatrain.errors import BadInput
from hatrain.runtime import provenance, seal
from hatrain.runtime.lease import STALE_SECONDS, LeaseHeld

GRACE_SECONDS = 600.0
"""From a stop to the end of patience: long enough for a step and a checkpoint. $HATRAIN_STOP_GRACE overrides it."""
LEASE_PATIENCE_SECONDS = STALE_SECONDS + 15.0
"""How long another attempt's lease is waited for: a dead holder on another machine is known by then."""


def trainer(plan: Plan, run: RunDirectory) -> Sequence[str]:
    """Return the command that trains: torchrun over this node's ranks."""
    return process.torchrun(plan, "hatrain.train", run.folder, Nodes.of(run, plan).rank)


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
    """Take this node's part in one attempt at the run of a run directory or a plan, and return how it left. Says so on
    stderr."""
    try:
        run, plan, files = _locate(Path(target))
        if run.done.exists():
            say(f"{run.name}: finished before, {run.done} is there")
            return Exit.FINISHED
        if plan.nodes > 1:
            process.meeting_place(plan.nodes)
        nodes, grace = Nodes.of(run, plan), seconds("HATRAIN_STOP_GRACE", GRACE_SECONDS)
        if nodes.rank:
            return follow(run, plan, heard, nodes, train, grace)
        with contextlib.ExitStack() as until_the_end:
            leading = _Leading(run, plan, heard, nodes, grace)
            try:
                leading.take_the_lease(files, until_the_end, lease_patience)
                return leading.attempt(train, evaluate)
            except (BadInput, NotStarted) as why:
                return leading.refuse(why)
    except BadInput as error:
        for problem in error.problems:
            say(problem)
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


# --- the attempt --------------------------------------------------------------------------------------------


class _Leading:
    """Node 0 at work: the lease, one attempt, its record and its outcome."""

    def __init__(self, run: RunDirectory, plan: Plan, heard: Signals, nodes: Nodes, grace: float):
        self.run, self.plan, self.heard, self.nodes, self.grace = run, plan, heard, nodes, grace
        self.result = run.result(plan.job)
        self.lost: threading.Event | None = None
        self.made: Attempt | None = None

    def take_the_lease(
        self, files: Mapping[str, str] | None, until_the_end: contextlib.ExitStack, patience: float
    ) -> None:
        """Hold the run from now on, and take over the files of a plan from elsewhere. Raises BadInput when somebody
        else holds it longer than `patience` (seconds), or it is another job's; NotStarted on a stop."""
        deadline = time.monotonic() + patience
        while self.lost is None:
            preconditions.wait_for_lease(self.run, self.heard, deadline, self.grace)
            if files is not None:
                self.run.adopt(self.plan, files)
            with contextlib.suppress(LeaseHeld):
                self.lost = until_the_end.enter_context(self.nodes.leading())
        self.nodes.forget()
        if files is not None:
            self._record_submission()

    def _record_submission(self) -> None:
        """Record, once, a submission that the launcher names and that was recorded elsewhere: attempts that came to
        nothing are counted from there."""
        told = os.environ.get("HATRAIN_SUBMISSION")
        if told and told not in (event.get("submission") for event in self.run.events()):
            self.run.record("submitted", cluster=self.plan.cluster, submission=told)

    def attempt(self, train: Command, evaluate: Command) -> Exit:
        """Make one attempt and return how it left. Raises BadInput and NotStarted where none begins."""
        run, nodes = self.run, self.nodes
        if run.done.exists():
            say(f"{run.name}: finished meanwhile, {run.done} is there")
            return Exit.FINISHED
        began = time.monotonic()
        trained = seal.verify(self.result) is None
        self._look_for_reasons_against_it()
        # Its folder comes before all waiting: that is where a stop is looked for.
        look(run.folder, run.attempts)
        self.made = made = run.new_attempt()
        others = self._wait(made, alone=trained or nodes.count == 1)
        self._record_begun(made, [owner["host"] for _, owner in sorted(others.items())])
        say(f"{run.name}: attempt {made.number}, {made.folder}")
        members = Members(nodes, made, others, self.grace)
        children = Children(run, self.plan, made, self.heard, node=0, grace=self.grace)
        children.end_orphans()
        if trained:
            say(f"{run.name}: trained before, {self.result} is whole")
        code, reasons = (Exit.FINISHED, {}) if trained else self._train(children, members, train)
        trained = code is Exit.FINISHED
        if trained:
            self._conclude(made, code, reasons)
            code, reasons = self._evaluate(children, evaluate)
        if code is Exit.FINISHED:
            self._link(made)
        self._record_outcome(code, reasons, seconds=round(time.monotonic() - began, 1))
        if code is Exit.FINISHED:
            seal.write_json(run.done, {"time": _now(), "attempt": made.number})
        if not trained:
            self._conclude(made, code, reasons)
        say(f"{run.name}: {code.name.lower()} ({int(code)})")
        for who, reason in reasons.items():
            say(f"  {who}: {reason}")
        return code

    def refuse(self, why: BadInput | NotStarted) -> Exit:
        """Leave without an attempt, and tell the other nodes. Raises BadInput again, for it has more to say."""
        if isinstance(why, NotStarted):
            code, reasons = why.code, why.reasons
            if why.counts and self.made:
                self._record_begun(self.made, [])
        else:
            code, reasons = Exit.FATAL, {"entry": "\n".join(why.problems)}
        if self.lost is not None:
            self._record_outcome(code, reasons)
        self.nodes.refuse(code, reasons)
        if isinstance(why, BadInput):
            raise why
        say(f"{self.run.name}: {code.name.lower()} ({int(code)})")
        for who, reason in reasons.items():
            say(f"  {who}: {reason}")
        return code

    # --- before it begins ---

    def _look_for_reasons_against_it(self) -> None:
        if (tried := self.run.attempts_without_progress()) > self.plan.retries:
            raise BadInput(
                f"{self.run.name}: retries used up: {tried} attempts in a row sealed no checkpoint "
                f"(limits.retries: {self.plan.retries}); see {self.run.all_attempts()[-1].folder / 'log.txt'}"
            )
        if problems := missing(self.plan):
            raise BadInput(problems)

    def _wait(self, made: Attempt, *, alone: bool) -> Mapping[int, Mapping[str, Any]]:
        """Wait for the parent and the other nodes. Returns who stands for each of those, none when `alone`."""
        patience = preconditions.Patience(made, self.heard, self._is_lost)
        if preconditions.await_parent(self.run, self.plan, patience) and (problems := missing(self.plan)):
            raise BadInput(problems)
        if alone:
            return {}
        others = preconditions.gather(self.run, self.nodes, patience)
        self.nodes.enlist(made, others)
        return others

    # --- while it lasts ---

    def _train(self, children: Children, members: Members, command: Command) -> Outcome:
        code, reasons = members.settle(children.train(command, lambda: self._is_lost() or members.abandon()))
        if code is Exit.FINISHED and (damage := seal.verify(self.result, checksums=False)):
            return Exit.FAULT, {"entry": f"every rank finished, but {self.result} is not whole: {damage}"}
        return code, reasons

    def _evaluate(self, children: Children, command: Command) -> Outcome:
        job = self.plan.job
        if not job.data.test or not job.evaluation.requests:
            return Exit.FINISHED, {}
        if stop := children.heard_stop():
            return (Exit.REQUEUE if stop.requeue else Exit.STOPPED), {
                "evaluation": f"not begun: {stop.reason}"
            }
        return children.outcome(command(self.plan, self.run), ["evaluation"], self._is_lost)

    def _is_lost(self) -> str | None:
        if self.lost is not None and self.lost.is_set():
            return "lost the lease: this machine stood still, and another attempt has begun"
        return None

    # --- what it says ---

    def _conclude(self, made: Attempt, code: Exit, reasons: Mapping[str, str]) -> None:
        if self.nodes.count > 1:
            self.nodes.conclude(made, code, reasons)

    def _record_begun(self, made: Attempt, others: Sequence[str]) -> None:
        plan = self.plan
        self.run.record(
            "attempt begun",
            attempt=made.number,
            host=provenance.host(),
            **({"hosts": [provenance.host(), *others]} if others else {}),
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

    def _record_outcome(self, code: Exit, reasons: Mapping[str, str], **facts: Any) -> None:
        number = {"attempt": self.made.number} if self.made else {}
        told = {"code": int(code), "outcome": code.name.lower(), "reasons": dict(reasons)}
        self.run.record("outcome", **number, **told, **facts)

    def _link(self, made: Attempt) -> None:
        models = Path(self.plan.paths.models)
        try:
            if self.run.link_model(models, self.result) is None:
                say(f"{models / self.run.name}: a real folder is in the way; not linked")
        except OSError as error:
            # The link is a convenience; a folder that cannot be written to does not undo a finished run.
            say(f"{models / self.run.name}: not linked: {error.strerror}")
        self.run.record("done", attempt=made.number)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
