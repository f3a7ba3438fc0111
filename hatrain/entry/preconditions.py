"""What comes before an attempt at a run: its lease, its parent's DONE, the other nodes. It waits, hears a stop while it
does, and starts nothing."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hatrain.contract import dependency as parents
from hatrain.contract.plan import Plan
from hatrain.contract.run import Attempt, Exit, RunDirectory, Stop
from hatrain.entry import nodes as every_node
from hatrain.entry.children import Signals, say
from hatrain.entry.nodes import Nodes
from hatrain.errors import BadInput

NODE_PATIENCE_SECONDS = 1800.0
"""How long a node waits for others: Kubernetes starts each as there is room. $HATRAIN_NODE_PATIENCE overrides it."""
PARENT_PATIENCE_SECONDS = 3600.0
"""How long a parent of which there is no trace is waited for: it may still be queued, its image not pulled; but more
often its name is wrong, and a node is paid for meanwhile. $HATRAIN_PARENT_PATIENCE overrides it."""
PARENT_SECONDS = 5.0
"""From one look at the parent to the next."""


class NotStarted(Exception):
    """There will be no attempt, and that is nothing a user did wrong."""

    def __init__(self, code: Exit, reasons: Mapping[str, str], *, counts: bool = False):
        self.code, self.reasons = code, dict(reasons)
        self.counts = counts
        """Whether it is one of the tries that `limits.retries` allows."""
        super().__init__(", ".join(self.reasons.values()))


def seconds(variable: str, default: float) -> float:
    """Return a number of seconds from the environment. Raises BadInput when it is none."""
    told = os.environ.get(variable) or default
    try:
        return float(told)
    except ValueError:
        raise BadInput(f"{variable}: found {told!r}; accepted: a number of seconds") from None


def node_patience() -> float:
    """Return the seconds that a node waits for others. Raises BadInput when the variable is no number."""
    return seconds("HATRAIN_NODE_PATIENCE", NODE_PATIENCE_SECONDS)


def stopped(reason: str, requeue: bool) -> NotStarted:
    """Return how a node leaves that was asked to stop while it waited."""
    return NotStarted(
        Exit.REQUEUE if requeue else Exit.STOPPED, {"entry": f"stopped before it began: {reason}"}
    )


# --- the lease ----------------------------------------------------------------------------------------------


def wait_for_lease(run: RunDirectory, heard: Signals, deadline: float, grace: float) -> None:
    """Wait until nobody alive holds the run; an attempt that was asked to stop has `grace` seconds more to leave.

    Raises BadInput when patience ends, NotStarted on a stop.
    """
    told = False
    while run.folder.is_dir() and (owner := run.lease.holder()) and not heard.stop:
        who = f"process {owner['pid']} on {owner['host']}"
        if time.monotonic() > deadline + (grace if _is_leaving(run) else 0):
            raise BadInput(
                f"{run.name}: an attempt is running ({who}); stop it first: hatrain stop {run.name}"
            )
        if not told:
            say(f"{run.name}: waiting for the attempt of {who} to leave")
            told = True
        time.sleep(min(1.0, max(0.05, deadline - time.monotonic())))
    if heard.stop:
        raise stopped(*heard.stop)


def _is_leaving(run: RunDirectory) -> bool:
    attempts = run.all_attempts()
    return bool(attempts) and attempts[-1].stop() is not None


# --- the parent and the other nodes -------------------------------------------------------------------------


class Patience:
    """Waiting within an attempt's folder, which a stop can be written to before the attempt begins."""

    def __init__(self, attempt: Attempt, heard: Signals, is_lost: Callable[[], str | None]):
        """`is_lost` says why there is nothing to wait for any more: the run has another leader."""
        self.attempt, self.heard, self.is_lost = attempt, heard, is_lost

    def until(self, ready: Callable[[], Any], every: float) -> None:
        """Wait until `ready`, asked so often (seconds). Raises what `ready` raises, and NotStarted on a stop."""
        while not ready():
            deadline = time.monotonic() + every
            while (rest := deadline - time.monotonic()) > 0:
                self._hear()
                time.sleep(min(0.2, rest))
            self._hear()

    def _hear(self) -> None:
        if why := self.is_lost():
            raise NotStarted(Exit.FAULT, {"entry": why})
        every_node.look(self.attempt.folder)
        if self.heard.stop:
            self.attempt.request_stop(Stop(*self.heard.stop))
        if stop := self.attempt.stop():
            raise stopped(stop.reason, stop.requeue)


def await_parent(run: RunDirectory, plan: Plan, patience: Patience) -> bool:
    """Wait until the run named by `after` is DONE. Returns whether it was not yet.

    Raises BadInput once it can no longer be, NotStarted on a stop.
    """
    first = parents.awaited(plan)
    if first is None:
        return False
    if first.folder == run.folder:
        raise BadInput(f"after: {run.name}: a run cannot come after itself")
    longest = seconds("HATRAIN_PARENT_PATIENCE", PARENT_PATIENCE_SECONDS)
    seen = time.monotonic()

    def done() -> bool:
        nonlocal seen
        every_node.look(first.folder.parent, first.folder)
        if first.folder.is_dir():
            seen = time.monotonic()
            if first.done.exists():
                return True
            if reason := parents.given_up(first):
                raise BadInput(f"after: {first.name}: {reason}")
        elif time.monotonic() - seen > longest:
            raise BadInput(
                f"after: {first.name}: no such run: {first.folder} did not appear within {longest:g} s"
            )
        return False

    say(f"{run.name}: waiting for {first.name} to finish, whose DONE comes first")
    patience.until(done, PARENT_SECONDS)
    return True


def gather(run: RunDirectory, nodes: Nodes, patience: Patience) -> dict[int, dict[str, Any]]:
    """Wait until every other node is here, and return who stands for each.

    Raises BadInput when one of them misses what the plan names, NotStarted on a stop, and when one does not come.
    """
    spent, longest = nodes.spent_tokens(), node_patience()
    deadline = time.monotonic() + longest
    here: dict[int, dict[str, Any]] = {}

    def all_here() -> bool:
        _meet(nodes, here, spent, nodes.others)
        if len(here) == len(nodes.others):
            # Some came long ago: none of them may have left since.
            here.clear()
            _meet(nodes, here, spent, nodes.others)
        absent = [rank for rank in nodes.others if rank not in here]
        if absent and time.monotonic() > deadline:
            why = f"did not come within {longest:g} s; does it see {run.folder}?"
            raise NotStarted(Exit.FAULT, {f"node {rank}": why for rank in absent}, counts=True)
        return not absent

    if not all_here():
        absent = [str(rank) for rank in nodes.others if rank not in here]
        say(f"{run.name}: waiting for node {', '.join(absent)} of {nodes.count}")
        patience.until(all_here, every_node.LOOK_SECONDS)
    return here


def _meet(nodes: Nodes, here: dict[int, dict[str, Any]], spent: set[str], ranks: Sequence[int]) -> None:
    for rank in ranks:
        if rank not in here and (owner := nodes.present(rank, spent)):
            here[rank] = owner
    problems = [
        f"node {rank} ({owner['host']}): {problem}"
        for rank, owner in here.items()
        for problem in owner.get("problems", [])
    ]
    if problems:
        raise BadInput(problems)
