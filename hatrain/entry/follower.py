"""A node other than node 0: it waits until node 0 enlists it in an attempt, runs its ranks, and leaves with node 0's
exit code. It starts no attempt and writes no record."""

import contextlib
import threading
import time
from collections.abc import Sequence

from hatrain.contract import dependency
from hatrain.contract.inputs import missing
from hatrain.contract.plan import Plan
from hatrain.contract.run import Attempt, Exit, RunDirectory, combine
from hatrain.entry import nodes as every_node
from hatrain.entry import preconditions
from hatrain.entry.children import Children, log
from hatrain.entry.nodes import ExitReport, Nodes, outcome, roster
from hatrain.entry.preconditions import NotStarted
from hatrain.entry.stages import Stage
from hatrain.runtime.lease import LeaseHeld
from hatrain.runtime.stop import SignalListener


def follow(
    run: RunDirectory,
    plan: Plan,
    signals: SignalListener,
    nodes: Nodes,
    stages: Sequence[Stage],
    grace: float,
) -> Exit:
    """Run this node's part of one attempt, and return the attempt's exit code. Raises BadInput."""
    with contextlib.ExitStack() as lease:
        try:
            enlistment = _Enlistment(run, plan, signals, nodes, lease)
            attempt, token = enlistment.wait()
        except NotStarted as error:
            _log_outcome(run, error.code, error.reasons)
            return error.code
        log(f"{run.name}: node {nodes.rank} in attempt {attempt.number}")
        leader = _Leader(nodes, attempt, token)

        def why_abandon() -> str | None:
            if leader.poll():
                return "ended its ranks: node 0 " + ("no longer answers" if leader.is_gone else "ends the attempt")
            if enlistment.lost.is_set():
                return "lost its lease: this machine was suspended, and another process took this node's place"
            return None

        # Node 0 may have taken over a newer plan since this node read it.
        children = Children(run, run.plan(), attempt, signals, node=nodes.rank, grace=grace)
        children.end_orphans()
        code, reasons = Exit.FINISHED, dict[str, str]()
        for stage in stages:
            if stage.on_all_ranks and code is Exit.FINISHED:
                code, reasons = children.run_ranks(stage, why_abandon)
        nodes.leave(attempt, code, reasons)
        report = leader.outcome(code, reasons)
        _log_outcome(run, report.code, report.reasons)
        return report.code


class _Enlistment:
    """Waits until node 0 takes this node into an attempt."""

    def __init__(
        self,
        run: RunDirectory,
        plan: Plan,
        signals: SignalListener,
        nodes: Nodes,
        lease: contextlib.ExitStack,
    ):
        self.run, self.plan, self.signals, self.nodes, self.lease = run, plan, signals, nodes, lease
        self.problems: list[str] | None = None
        self.lost = threading.Event()
        self.patience = preconditions.node_patience()
        self.leader_seen = time.monotonic()
        self.next_lease_poll = 0.0
        self.logged: set[str] = set()

    def wait(self) -> tuple[Attempt, str]:
        """Return the attempt and the leader's token. Raises NotStarted when there will be no attempt."""
        while True:
            stop = self.signals.stop  # read first: this node must not leave an attempt that it is part of by then
            every_node.refresh(self.run.folder)
            if preconditions.begins_anew(self.run):
                # Node 0 will move the directory, and what this node writes there.
                if stop:
                    raise preconditions.stopped(stop)
                self._check_patience()
                time.sleep(every_node.POLL_SECONDS)
                continue
            if self.run.done.exists():
                raise NotStarted(Exit.FINISHED, {})
            if report := self.nodes.refusal():
                raise NotStarted(report.code, report.reasons)
            if enlisted := self._enlisted():
                return enlisted
            if stop:
                raise preconditions.stopped(stop)
            self._announce()
            self._check_patience()
            time.sleep(every_node.POLL_SECONDS)

    def _enlisted(self) -> tuple[Attempt, str] | None:
        newest = self.nodes.newest_attempt()
        if newest is None:
            return None
        report = outcome(newest)
        if report and report.code is Exit.FINISHED and self.nodes.concerns(newest, report):
            raise NotStarted(Exit.FINISHED, {})
        members = roster(newest)
        if members and members.members.get(self.nodes.rank, {}).get("token") == self.nodes.token:
            return newest, members.leader
        return None

    def _announce(self) -> None:
        """Announce this node and the inputs it misses. While a parent runs, its outputs cannot be checked yet."""
        if self.problems is not None or dependency.unfinished(self.plan):
            return
        problems = missing(self.plan)
        try:
            self.lost = self.lease.enter_context(self.nodes.announce(problems))
        except LeaseHeld as held:
            self._log_once(f"waiting for {held} to leave, an earlier process of node {self.nodes.rank}")
            return
        self.problems = problems
        self._log_once(f"node {self.nodes.rank} of {self.nodes.count} waits for node 0")

    def _check_patience(self) -> None:
        now = time.monotonic()
        if now >= self.next_lease_poll:
            self.next_lease_poll = now + every_node.LEASE_POLL_SECONDS
            if self.nodes.has_leader():
                self.leader_seen = now
        if now - self.leader_seen > self.patience:
            if self.problems:
                raise NotStarted(Exit.FATAL, {f"node {self.nodes.rank}": "\n".join(self.problems)})
            reason = f"did not appear within {self.patience:g} s; does it see {self.run.folder}?"
            raise NotStarted(preconditions.absence_code(self.nodes), {"node 0": reason})

    def _log_once(self, text: str) -> None:
        if text not in self.logged:
            self.logged.add(text)
            log(f"{self.run.name}: {text}")


class _Leader:
    """Node 0, as a node that follows it in an attempt sees it."""

    def __init__(self, nodes: Nodes, attempt: Attempt, token: str):
        self.nodes, self.attempt, self.token = nodes, attempt, token
        self.report: ExitReport | None = None
        self.is_gone = False
        self._next_poll = self._next_lease_poll = 0.0

    def poll(self) -> bool:
        """Look again when it is time. Returns whether node 0 wrote the outcome, or is gone."""
        now = time.monotonic()
        if not self.report and not self.is_gone and now >= self._next_poll:
            self._next_poll = now + every_node.POLL_SECONDS
            self.report = outcome(self.attempt)
            if not self.report and now >= self._next_lease_poll:
                self._next_lease_poll = now + every_node.LEASE_POLL_SECONDS
                if not self.nodes.is_alive(0, self.token):
                    # Node 0 writes the outcome before it gives the lease back: look for it once more.
                    self.report = outcome(self.attempt)
                    self.is_gone = self.report is None
        return self.report is not None or self.is_gone

    def outcome(self, code: Exit, reasons: dict[str, str]) -> ExitReport:
        """Wait for node 0's outcome. If node 0 is gone, combine this node's own `code` and `reasons` with a fault."""
        while not self.poll():
            time.sleep(min(0.2, every_node.POLL_SECONDS))
        if self.report:
            return self.report
        return ExitReport(combine([code, Exit.FAULT]), {**reasons, "node 0": "no longer answers"})


def _log_outcome(run: RunDirectory, code: Exit, reasons: dict[str, str]) -> None:
    log(f"{run.name}: {code.name.lower()} ({int(code)})")
    for name, reason in reasons.items():
        for line in reason.splitlines():
            log(f"  {name}: {line}")
