"""What must hold before an attempt starts: the lease is free, the parent is DONE, the other nodes are here. Every wait
ends on a stop."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hatrain.contract import dependency
from hatrain.contract.plan import Plan
from hatrain.contract.run import Attempt, Exit, RunDirectory
from hatrain.entry import nodes as every_node
from hatrain.entry.children import log
from hatrain.entry.nodes import Nodes
from hatrain.entry.process import seconds
from hatrain.errors import BadInput
from hatrain.runtime.stop import SignalListener, Stop

NODE_PATIENCE_SECONDS = 1800.0
"""How long a node waits for others: Kubernetes starts each as there is room. $HATRAIN_NODE_PATIENCE overrides it."""
PARENT_PATIENCE_SECONDS = 3600.0
"""How long to wait for a parent without a run directory. It may still be queued or pull its image; more often its
name is wrong, and the node that waits costs money. $HATRAIN_PARENT_PATIENCE overrides it."""
PARENT_POLL_SECONDS = 5.0
PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 30.0, 600.0
"""The first pause, which doubles each time, and the longest."""
UNPAUSED_ENDS = 2
"""Attempts in a row that may be ended from outside before there is a pause: a preemption is no sign of trouble."""
LONGEST_ABSENCE = 48
"""How often in a row a node may wait in vain for others where each starts as there is room: a day of half hours."""


class NotStarted(Exception):
    """No attempt starts, through no mistake of the user's."""

    def __init__(self, code: Exit, reasons: Mapping[str, str], *, counts: bool = False, absent: bool = False):
        self.code, self.reasons = code, dict(reasons)
        self.counts = counts
        """Whether it counts against `limits.retries`."""
        self.absent = absent
        """Whether other nodes did not come, for which a launcher may have had no room yet."""
        super().__init__(", ".join(self.reasons.values()))


def node_patience() -> float:
    """How many seconds a node waits for others. Raises BadInput as `seconds` does."""
    return seconds("HATRAIN_NODE_PATIENCE", NODE_PATIENCE_SECONDS)


def stopped(stop: Stop) -> NotStarted:
    """Return how a node leaves that was stopped while it waited."""
    code = Exit.REQUEUE if stop.requeue else Exit.STOPPED
    return NotStarted(code, {"entry": f"stopped before it started: {stop.reason}"})


def pause(ended_from_outside: int) -> float:
    """How many seconds to wait after so many attempts in a row that were ended from outside and sealed nothing."""
    over = ended_from_outside - UNPAUSED_ENDS
    return min(PAUSE_SECONDS * 2 ** min(over, 10), LONGEST_PAUSE_SECONDS) if over >= 0 else 0.0


def begins_anew(run: RunDirectory) -> bool:
    """Whether this start is the first of a submission with `--fresh` from a machine that does not see the run."""
    submission = os.environ.get("HATRAIN_SUBMISSION")
    wanted = bool(os.environ.get("HATRAIN_FRESH") and submission)
    return wanted and submission not in (event.get("submission") for event in run.events())


# --- the lease ----------------------------------------------------------------------------------------------


def wait_for_lease(run: RunDirectory, nodes: Nodes, signals: SignalListener, deadline: float, grace: float) -> bool:
    """Wait until no live attempt holds the run; one that was asked to stop has `grace` more seconds to leave. An
    earlier start of this job is asked to stop. Returns whether it holds the run nevertheless, and must be superseded.

    Raises BadInput at the deadline for any other holder, NotStarted on a stop.
    """
    logged = False
    while run.folder.is_dir() and (owner := run.lease.contender()) and not signals.stop:
        holder = f"process {owner['pid']} on {owner['host']}"
        is_earlier = nodes.is_earlier_start(owner)
        if is_earlier and not logged and (attempts := run.all_attempts()):
            attempts[-1].request_stop(Stop("the scheduler has started the job again", requeue=True))
        if time.monotonic() > deadline + (grace if _is_stopping(run) else 0):
            if is_earlier:
                log(f"{run.name}: supersedes {holder}, an earlier start of this job")
                return True
            raise BadInput(f"{run.name}: an attempt is running ({holder}); stop it first: hatrain stop {run.name}")
        if not logged:
            log(f"{run.name}: waiting for the attempt of {holder} to leave")
            logged = True
        time.sleep(min(1.0, max(0.05, deadline - time.monotonic())))
    if signals.stop:
        raise stopped(signals.stop)
    return False


def _is_stopping(run: RunDirectory) -> bool:
    attempts = run.all_attempts()
    return bool(attempts) and attempts[-1].stop() is not None


# --- the parent and the other nodes -------------------------------------------------------------------------


class Wait:
    """Waits that end on a signal, on the attempt's stop file, and when the lease is lost."""

    def __init__(self, attempt: Attempt, signals: SignalListener, why_lost: Callable[[], str | None]):
        self.attempt, self.signals, self.why_lost = attempt, signals, why_lost

    def until(self, ready: Callable[[], Any], every: float) -> None:
        """Wait until `ready`, called every so many seconds. Raises what `ready` raises, and NotStarted on a stop."""
        while not ready():
            deadline = time.monotonic() + every
            while (rest := deadline - time.monotonic()) > 0:
                self._check()
                time.sleep(min(0.2, rest))
            self._check()

    def _check(self) -> None:
        if reason := self.why_lost():
            raise NotStarted(Exit.FAULT, {"entry": reason})
        every_node.refresh(self.attempt.folder)
        if self.signals.stop:
            self.attempt.request_stop(self.signals.stop)
        if stop := self.attempt.stop():
            raise stopped(stop)


def await_parent(run: RunDirectory, plan: Plan, wait: Wait) -> bool:
    """Wait until the run named by `after` is DONE. Returns whether there was anything to wait for.

    Raises BadInput once the parent cannot finish, NotStarted on a stop.
    """
    parent = dependency.unfinished(plan)
    if parent is None:
        return False
    if parent.folder == run.folder:
        raise BadInput(f"after: {run.name}: a run cannot come after itself")
    longest = seconds("HATRAIN_PARENT_PATIENCE", PARENT_PATIENCE_SECONDS)
    seen = time.monotonic()

    def is_done() -> bool:
        nonlocal seen
        every_node.refresh(parent.folder.parent, parent.folder)
        if parent.folder.is_dir():
            seen = time.monotonic()
            if parent.done.exists():
                return True
            if reason := dependency.why_it_cannot_finish(parent):
                raise BadInput(f"after: {parent.name}: {reason}")
        elif time.monotonic() - seen > longest:
            raise BadInput(f"after: {parent.name}: no such run: {parent.folder} did not appear within {longest:g} s")
        return False

    log(f"{run.name}: waiting for {parent.name} to finish (after: {parent.name})")
    wait.until(is_done, PARENT_POLL_SECONDS)
    return True


def gather(run: RunDirectory, nodes: Nodes, wait: Wait) -> dict[int, dict[str, Any]]:
    """Wait until every other node has announced itself, and return their leases.

    Raises BadInput when one of them misses an input; NotStarted on a stop, and when one does not come.
    """
    spent, longest = nodes.spent_tokens(), node_patience()
    deadline = time.monotonic() + longest
    present: dict[int, dict[str, Any]] = {}

    def all_present() -> bool:
        _update(nodes, present, spent, nodes.others)
        if len(present) == len(nodes.others):
            # Some announced themselves long ago: none of them may have left since.
            present.clear()
            _update(nodes, present, spent, nodes.others)
        absent = [rank for rank in nodes.others if rank not in present]
        if absent and time.monotonic() > deadline:
            raise _absence(run, nodes, {f"node {rank}": f"did not appear within {longest:g} s" for rank in absent})
        return not absent

    if not all_present():
        absent = [str(rank) for rank in nodes.others if rank not in present]
        log(f"{run.name}: waiting for node {', '.join(absent)} of {nodes.count}")
        wait.until(all_present, every_node.POLL_SECONDS)
    return present


def absence_code(nodes: Nodes) -> Exit:
    """How a node leaves that waited in vain for another: where the launcher starts all at once (Slurm), with a fault;
    elsewhere there may be no room for all yet."""
    return Exit.FAULT if nodes.start else Exit.REQUEUE


def _absence(run: RunDirectory, nodes: Nodes, reasons: Mapping[str, str]) -> NotStarted:
    """Raises BadInput once that has happened too often."""
    if nodes.start:
        seen = {name: f"{reason}; does it see {run.folder}?" for name, reason in reasons.items()}
        return NotStarted(absence_code(nodes), seen, counts=True)
    waits = 1
    for event in reversed(run.events()):
        if event.get("event") != "outcome" or not event.get("absent"):
            break
        waits += 1
    if waits >= LONGEST_ABSENCE:
        raise BadInput(
            f"{', '.join(reasons)}: did not appear in {waits} waits in a row; is there room for all {nodes.count} "
            f"nodes at once, and do they see {run.folder}?"
        )
    return NotStarted(absence_code(nodes), reasons, absent=True)


def _update(nodes: Nodes, present: dict[int, dict[str, Any]], spent: set[str], ranks: Sequence[int]) -> None:
    for rank in ranks:
        if rank not in present and (owner := nodes.present(rank, spent)):
            present[rank] = owner
    problems = [
        f"node {rank} ({owner['host']}): {problem}"
        for rank, owner in present.items()
        for problem in owner.get("problems", [])
    ]
    if problems:
        raise BadInput(problems)
