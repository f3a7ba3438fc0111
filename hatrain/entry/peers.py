"""Watches the other nodes of an attempt for node 0: which have left and how, which no longer answer, and how long to
wait for the rest. It ends no process."""

import time
from collections.abc import Mapping
from typing import Any

from hatrain.contract.run import Attempt, Exit, combine
from hatrain.entry import nodes as every_node
from hatrain.entry.children import Outcome
from hatrain.entry.nodes import ExitReport, Nodes, node_report, refresh

LOST_PEER_SECONDS = 60.0
"""How long ranks may go on after a node failed: rank 0 may be sealing a checkpoint that it has all parts of. A
collective would wait much longer for the lost node."""
ORDERLY = (Exit.FINISHED, Exit.REQUEUE, Exit.STOPPED)


class PeerMonitor:
    """The other nodes of one attempt, none on one node."""

    def __init__(
        self, nodes: Nodes, attempt: Attempt, peers: Mapping[int, Mapping[str, Any]], ranks: int, grace: float
    ):
        """`peers` are the leases by node; `ranks` are those of all nodes; `grace` is how many seconds a node has after
        another left in order."""
        self.nodes, self.attempt, self.peers, self.ranks, self.grace = nodes, attempt, peers, ranks, grace
        self.reports: dict[int, ExitReport] = {}
        self.lost: set[int] = set()
        self._deadline: float | None = None
        self._next_poll = self._next_lease_poll = 0.0

    def why_abandon(self) -> str | None:
        """Return why this node's ranks must end now: another node left, and the time for the rest is up."""
        self._poll()
        if self._deadline is None or time.monotonic() < self._deadline:
            return None
        return f"ended its ranks: {', '.join(self._gone())} left before"

    def settle(self, outcome: Outcome) -> Outcome:
        """Wait until the other nodes have left too, and combine this node's outcome with theirs."""
        code, reasons = outcome
        self._set_deadline(code)
        while self._pending() and time.monotonic() < (self._deadline or 0):
            time.sleep(min(0.1, every_node.POLL_SECONDS))
            self._poll()
        late = {f"node {rank}": "did not leave in time; ended" for rank in self._pending()}
        lost = {f"node {rank}": self._why_lost(rank) for rank in sorted(self.lost)}
        deciding = {} if late or lost else self.attempt.deciding(range(self.ranks))
        if deciding:
            return combine(code for code, _ in deciding.values()), {
                f"rank {rank}": reason for rank, (_, reason) in deciding.items()
            }
        reports = [report for _, report in sorted(self.reports.items())]
        codes = [code, *(report.code for report in reports), *(Exit.FAULT for _ in {**late, **lost})]
        reported = {name: reason for report in reports for name, reason in report.reasons.items()}
        return combine(codes), {**reasons, **reported, **lost, **late}

    def _poll(self) -> None:
        now = time.monotonic()
        if now < self._next_poll:
            return
        self._next_poll = now + every_node.POLL_SECONDS
        self._read_reports()
        if now < self._next_lease_poll:
            return
        self._next_lease_poll = now + every_node.LEASE_POLL_SECONDS
        for rank in self._pending():
            if not self.nodes.is_alive(rank, self.peers[rank]["token"]):
                # A node writes its report before it gives its lease back: look for it once more.
                self._read_reports()
                if rank not in self.reports:
                    self.lost.add(rank)
                    self._set_deadline(Exit.FAULT)

    def _read_reports(self) -> None:
        refresh(self.attempt.folder)
        for rank in self._pending():
            if report := node_report(self.attempt, rank):
                self.reports[rank] = report
                self._set_deadline(report.code)

    def _set_deadline(self, code: Exit) -> None:
        patience = self.grace if code in ORDERLY else LOST_PEER_SECONDS
        deadline = time.monotonic() + patience
        self._deadline = deadline if self._deadline is None else min(deadline, self._deadline)

    def _pending(self) -> list[int]:
        return [rank for rank in self.peers if rank not in self.reports and rank not in self.lost]

    def _gone(self) -> list[str]:
        return [f"node {rank}" for rank in sorted({*self.reports, *self.lost})]

    def _why_lost(self, rank: int) -> str:
        return f"no longer answers (process {self.peers[rank]['pid']} on {self.peers[rank]['host']})"
