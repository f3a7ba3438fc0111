"""One attempt at a run: take the lease, check the preconditions, run the stages, record the outcome. Node 0 does this
for all nodes; the others follow it (`follower.py`)."""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hatrain.contract.inputs import missing
from hatrain.contract.plan import Plan
from hatrain.contract.record import Fruitless
from hatrain.contract.run import Attempt, Exit, RunDirectory
from hatrain.contract.trackers import not_installed
from hatrain.entry import preconditions, process
from hatrain.entry.children import Children, Outcome, log
from hatrain.entry.follower import follow
from hatrain.entry.nodes import Nodes, refresh
from hatrain.entry.peers import PeerMonitor
from hatrain.entry.preconditions import NotStarted
from hatrain.entry.process import seconds
from hatrain.entry.stages import STAGES, TRAINING, Command, Stage
from hatrain.errors import BadInput
from hatrain.model import revision
from hatrain.report import hparams, page
from hatrain.runtime import provenance, reserve, seal
from hatrain.runtime.lease import STALE_SECONDS, LeaseHeld
from hatrain.runtime.stop import SignalListener
from hatrain.runtime.waiting import waiting

GRACE_SECONDS = 600.0
"""How long ranks may take to leave after a stop: a step and a checkpoint. $HATRAIN_STOP_GRACE overrides it."""
OUTSIDE_ENDS = 20
"""How often in a row a scheduler, or an unfit machine, may end an attempt before it sealed a checkpoint."""
LEASE_PATIENCE_SECONDS = STALE_SECONDS + 15.0
"""How long to wait for another attempt's lease: a holder that died on another machine is stale by then."""


def enter(
    target: str,
    signals: SignalListener,
    *,
    commands: Mapping[str, Command] | None = None,
    lease_patience: float = LEASE_PATIENCE_SECONDS,
) -> Exit:
    """Run this node's part of one attempt at the run of a run directory or a plan.json, and return the exit code.

    `commands` replaces the command of a stage, by its name. Reasons go to stderr.
    """
    stages = [replace(stage, command=(commands or {}).get(stage.name, stage.command)) for stage in STAGES]
    try:
        run, plan, files = _locate(Path(target))
        if run.done.exists() and not preconditions.begins_anew(run):
            log(f"{run.name}: finished before, {run.done} is there")
            return Exit.FINISHED
        if plan.nodes > 1:
            process.rendezvous(plan.nodes)
        nodes, grace = Nodes.of(run, plan), seconds("HATRAIN_STOP_GRACE", GRACE_SECONDS)
        if nodes.rank:
            return follow(run, plan, signals, nodes, stages, grace)
        with contextlib.ExitStack() as lease:
            leader = _Leader(run, plan, signals, nodes, grace)
            try:
                leader.take_lease(files, lease, lease_patience)
                return leader.attempt(stages)
            except (BadInput, NotStarted) as error:
                return leader.refuse(error)
    except BadInput as error:
        for problem in error.problems:
            log(problem)
        return Exit.FATAL
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        log(f"{target}: {where}{error.strerror or error}")
        return Exit.REQUEUE if reserve.is_full(error) else Exit.FAULT


def _locate(target: Path) -> tuple[RunDirectory, Plan, dict[str, str] | None]:
    """Return the run and its plan; for a plan.json outside of its run directory also the files beside it, which the run
    directory takes over.

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
        if not preconditions.begins_anew(run):
            run.refuse_another(plan.job)
    folder = target.parent
    paths = [path for path in (folder / "job.yaml", *folder.glob("launch/*")) if path.is_file()]
    return run, plan, {str(path.relative_to(folder)): path.read_text(encoding="utf-8") for path in paths}


class _Leader:
    """Node 0: holds the lease, makes the attempt, and writes the record and the outcome for all nodes."""

    def __init__(self, run: RunDirectory, plan: Plan, signals: SignalListener, nodes: Nodes, grace: float):
        self.run, self.plan, self.signals, self.nodes, self.grace = run, plan, signals, nodes, grace
        self.lost: threading.Event | None = None
        self.current: Attempt | None = None
        self.concluded = False

    def take_lease(self, files: Mapping[str, str] | None, lease: contextlib.ExitStack, patience: float) -> None:
        """Hold the run's lease until `lease` closes, and take over the `files` of a plan from elsewhere.

        Raises BadInput when somebody else holds it for longer than `patience` (seconds) or the directory is another
        job's, and NotStarted on a stop.
        """
        deadline = time.monotonic() + patience
        while self.lost is None:
            supersede = preconditions.wait_for_lease(self.run, self.nodes, self.signals, deadline, self.grace)
            # An earlier start of this job has taken the files over.
            if files is not None and not supersede:
                old = self.run.adopt(self.plan, files, fresh=preconditions.begins_anew(self.run))
                if old is not None:
                    log(f"{self.run.name}: moved the old run to {old}")
            with contextlib.suppress(LeaseHeld):
                self.lost = lease.enter_context(self.nodes.lead(supersede=supersede))
        self.nodes.clear()
        if files is not None:
            self._record_submission()

    def _record_submission(self) -> None:
        """Record, once, a submission that was made elsewhere or by hand: retries are counted from there."""
        # Slurm's job id tells the other verbs which job the run is; Kubernetes' submissions have names of their own.
        for key, variable in (("submission", "HATRAIN_SUBMISSION"), ("job", "HATRAIN_JOB")):
            value = os.environ.get(variable)
            if value and value not in (event.get(key) for event in self.run.events()):
                self.run.record("submitted", cluster=self.plan.cluster, user=provenance.user(), **{key: value})

    def attempt(self, stages: Sequence[Stage]) -> Exit:
        """Make one attempt and return its exit code. Raises BadInput and NotStarted where none starts."""
        run, plan, nodes = self.run, self.plan, self.nodes
        if run.done.exists():
            log(f"{run.name}: finished meanwhile, {run.done} is there")
            return Exit.FINISHED
        started = time.monotonic()
        reserve.make(run.folder)
        wanted = [stage for stage in stages if stage.is_wanted(plan)]
        with waiting(f"{run.name}: comparing its files with their checksums", log):
            todo = [stage for stage in wanted if stage.unfinished(plan, run, True)]
        self._check_retries_and_inputs()
        if TRAINING.name in (stage.name for stage in todo) and (absent := not_installed(plan.job.logging.trackers)):
            raise BadInput(absent)
        # The folder comes before all waiting: `hatrain stop` writes the stop file there.
        refresh(run.folder, run.attempts)
        self.current = attempt = run.new_attempt()
        self._pause(attempt)
        peers = self._wait(attempt, alone=nodes.count == 1 or not any(stage.on_all_ranks for stage in todo))
        self._record_start(attempt, [lease["host"] for _, lease in sorted(peers.items())])
        log(f"{run.name}: attempt {attempt.number}, {attempt.folder}")
        monitor = PeerMonitor(nodes, attempt, peers, plan.world_size, self.grace)
        children = Children(run, plan, attempt, self.signals, node=0, grace=self.grace, lease=nodes.token)
        children.end_orphans()
        run.remove_unfinished()
        for stage in wanted:
            if stage not in todo:
                log(f"{run.name}: {stage.name} is done")
        revision.record(plan, run)
        code, reasons = self._run_stages(todo, children, monitor)
        if self._is_superseded():
            return Exit.REQUEUE
        if code is Exit.FINISHED:
            self._link_model()
            run.record("done", attempt=attempt.number)
        self._record_outcome(code, reasons, seconds=round(time.monotonic() - started, 1))
        self._write_card()
        if code is Exit.FINISHED:
            self._write_report()
            seal.write_json(run.done, {"time": _now(), "attempt": attempt.number})
        self._conclude(code, reasons)
        self._log_outcome(code, reasons)
        return code

    def refuse(self, error: BadInput | NotStarted) -> Exit:
        """Leave without an attempt, and let the other nodes leave. Raises a BadInput again, for its lines to be
        shown."""
        facts = {}
        if isinstance(error, NotStarted):
            code, reasons = error.code, error.reasons
            facts = {"absent": True} if error.absent else {}
            if error.counts and self.current:
                self._record_start(self.current, [])
        else:
            code, reasons = Exit.FATAL, {"entry": "\n".join(error.problems)}
        if self._is_superseded():
            return Exit.REQUEUE
        if self.lost is not None:
            self._record_outcome(code, reasons, **facts)
        self.nodes.refuse(code, reasons)
        if isinstance(error, BadInput):
            raise error
        self._log_outcome(code, reasons)
        return code

    # --- before the stages ---

    def _check_retries_and_inputs(self) -> None:
        run, ended = self.run, self.run.fruitless()
        if ended.own > self.plan.retries:
            raise BadInput(
                f"{run.name}: retries used up: {ended.own} attempts in a row sealed no checkpoint "
                f"(limits.retries: {self.plan.retries}){self._why(ended)}"
            )
        if ended.outside >= OUTSIDE_ENDS:
            raise BadInput(
                f"{run.name}: stopped from outside {ended.outside} times in a row before a checkpoint was sealed; save "
                f"more often (checkpoints.save_steps), or ask for a machine that is left to the run{self._why(ended)}"
            )
        if problems := missing(self.plan):
            raise BadInput(problems)

    def _why(self, ended: Fruitless) -> str:
        """Say what the last of these attempts recorded, and where more is written."""
        logs = [attempt.folder / "log.txt" for attempt in self.run.all_attempts()]
        file = next((log for log in reversed(logs) if log.exists()), self.run.record_file)
        reason = " ".join(ended.reason.split())
        return (f"; the last: {reason}" if reason else "") + f"; see {file}"

    def _pause(self, attempt: Attempt) -> None:
        """Wait before an attempt after several that a scheduler or an unfit machine ended: the same would end it."""
        length = preconditions.pause(self.run.fruitless().outside)
        if length:
            log(f"{self.run.name}: pausing {length:g} s: the attempts before were ended from outside")
            ready = time.monotonic() + length
            wait = preconditions.Wait(attempt, self.signals, self._why_lost)
            wait.until(lambda: time.monotonic() >= ready, min(length, 5.0))

    def _wait(self, attempt: Attempt, *, alone: bool) -> Mapping[int, Mapping[str, Any]]:
        """Wait for the parent and, unless `alone`, for the other nodes. Returns the lease of each of those."""
        wait = preconditions.Wait(attempt, self.signals, self._why_lost)
        if preconditions.await_parent(self.run, self.plan, wait) and (problems := missing(self.plan)):
            raise BadInput(problems)
        if alone:
            return {}
        peers = preconditions.gather(self.run, self.nodes, wait)
        self.nodes.enlist(attempt, peers)
        return peers

    # --- the stages ---

    def _run_stages(self, stages: Sequence[Stage], children: Children, monitor: PeerMonitor) -> Outcome:
        """Run stages until one does not finish. Before the first that needs node 0 alone, the other nodes leave."""
        for stage in stages:
            if stop := children.requested_stop():
                # The ranks would load the model, and might not have the time to leave in order.
                code = Exit.REQUEUE if stop.requeue else Exit.STOPPED
                return code, {stage.name: f"not started: {stop.reason}"}
            if stage.on_all_ranks:
                ended = children.run_ranks(stage, lambda: self._why_lost() or monitor.why_abandon())
                code, reasons = monitor.settle(ended)
            else:
                self._conclude(Exit.FINISHED, {})
                log(f"{self.run.name}: {stage.name} starts")
                code, reasons = children.run_alone(stage, self._why_lost)
            if code is not Exit.FINISHED:
                return code, reasons
            if problem := stage.unfinished(self.plan, self.run, False):
                return Exit.FAULT, {"entry": f"{stage.name} finished, but left {problem}"}
        return Exit.FINISHED, {}

    def _why_lost(self) -> str | None:
        if self.lost is not None and self.lost.is_set():
            return "lost the lease: another start of this job superseded this one, or this machine was suspended"
        return None

    def _is_superseded(self) -> bool:
        """Whether the run is another process's now, so that this one must write nothing more. It looks at the lease,
        which this process's heartbeat may not have read yet."""
        if self.lost is None or not (self.lost.is_set() or self.run.lease.is_taken(self.nodes.token)):
            return False
        log(f"{self.run.name}: superseded: another process took the lease; requeue ({int(Exit.REQUEUE)})")
        return True

    # --- record and outcome ---

    def _conclude(self, code: Exit, reasons: Mapping[str, str]) -> None:
        """Let the other nodes leave, once."""
        if self.nodes.count > 1 and self.current and not self.concluded:
            self.nodes.conclude(self.current, code, reasons)
            self.concluded = True

    def _record_start(self, attempt: Attempt, other_hosts: Sequence[str]) -> None:
        plan, code = self.plan, provenance.package_digest()
        self._tell_if_code_changed(code)
        self.run.record(
            "attempt begun",
            attempt=attempt.number,
            date=self.run.today().isoformat(),
            host=provenance.host(),
            **({"hosts": [provenance.host(), *other_hosts]} if other_hosts else {}),
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
            package=code,
        )

    def _tell_if_code_changed(self, code: str) -> None:
        """A job without an image or a copy of hatrain runs whatever is installed when it starts."""
        recorded = [event for event in self.run.events() if event.get("package")]
        if recorded and (earlier := recorded[-1])["package"] != code:
            before, now = earlier.get("commit") or "unknown", provenance.commit() or "unknown"
            facts = {"before": before, "now": now, "since": earlier["event"]}
            self.run.record("code changed", **facts)
            log(
                f'{self.run.name}: the code is not that of "{earlier["event"]}" ({earlier["time"]}): commit {before} '
                f"then, {now} now; hatrain submit --snapshot keeps a copy"
            )

    def _record_outcome(self, code: Exit, reasons: Mapping[str, str], **facts: Any) -> None:
        number = {"attempt": self.current.number} if self.current else {}
        outcome = {"code": int(code), "outcome": code.name.lower(), "reasons": dict(reasons)}
        self.run.record("outcome", **number, **outcome, **facts)

    def _log_outcome(self, code: Exit, reasons: Mapping[str, str]) -> None:
        """Print the outcome, and append it to the attempt's log, where a reader looks for the reason."""
        lines = [f"{self.run.name}: {code.name.lower()} ({int(code)})"]
        lines += [f"  {name}: {reason}" for name, reason in reasons.items()]
        for line in lines:
            log(line)
        if self.current:
            text = "".join(f"hatrain: {line}\n" for line in lines)
            with contextlib.suppress(OSError), (self.current.folder / "log.txt").open("a", encoding="utf-8") as file:
                file.write(text)

    def _write_card(self) -> None:
        """Write the model's card, with what every attempt recorded, and copy it where the model was copied."""
        from hatrain.export import card

        try:
            written = card.write(self.run)
        except Exception as error:  # a model is trained without its card too
            log(f"{self.run.name}: the model card was not written: {type(error).__name__}: {error}")
            return
        if written and (sync_to := self.plan.job.checkpoints.sync_to):
            from hatrain.contract.sync import PATIENCE_AT_STOP_SECONDS, SyncTarget

            target = SyncTarget(sync_to, self.run)
            for path in written:
                target.file(path)
            target.wait(PATIENCE_AT_STOP_SECONDS)

    def _link_model(self) -> None:
        models = Path(self.plan.paths.models)
        try:
            if self.run.link_model(models, self.run.result(self.plan.job)) is None:
                log(f"{models / self.run.name}: not linked: a real folder is in the way")
        except OSError as error:
            # The link is a convenience: a finished run stays finished without it.
            log(f"{models / self.run.name}: not linked: {error.strerror}")

    def _write_report(self) -> None:
        """Write report.html and TensorBoard's page of settings and results, where their libraries are installed. A
        finished run stays finished without them."""
        if not page.missing():
            with waiting(f"{self.run.name}: writing the report", log):
                self._write(self.run.report.name, page.write)
        if hparams.is_wanted(self.run):
            self._write("results in TensorBoard", hparams.write)

    def _write(self, what: str, write: Callable[[RunDirectory], object]) -> None:
        try:
            write(self.run)
        except Exception as error:
            reason = "; ".join(error.problems) if isinstance(error, BadInput) else f"{type(error).__name__}: {error}"
            log(f"{self.run.name}: no {what}: {reason}")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
