"""A node other than node 0: it waits for an attempt that it is part of, runs its ranks, and leaves as node 0 says. It
begins nothing, records nothing and judges no model."""

import contextlib
import threading
import time

from hatrain.contract import dependency
from hatrain.contract.inputs import missing
from hatrain.contract.plan import Plan
from hatrain.contract.run import Attempt, Exit, RunDirectory, combine
from hatrain.entry import nodes as every_node
from hatrain.entry import preconditions
from hatrain.entry.children import Children, Command, Signals, say
from hatrain.entry.nodes import Nodes, Word, concluded, roster
from hatrain.entry.preconditions import NotStarted
from hatrain.runtime.lease import LeaseHeld


def follow(run: RunDirectory, plan: Plan, heard: Signals, nodes: Nodes, train: Command, grace: float) -> Exit:
    """Take this node's part in one attempt, and return how the attempt left. Raises BadInput."""
    with contextlib.ExitStack() as until_the_end:
        try:
            waiting = _Waiting(run, plan, heard, nodes, until_the_end)
            attempt, token = waiting.for_an_attempt()
        except NotStarted as why:
            _tell(run, why.code, why.reasons)
            return why.code
        say(f"{run.name}: node {nodes.rank} in attempt {attempt.number}")
        leader = _Leader(nodes, attempt, token)

        def abandon() -> str | None:
            if leader.look():
                return "ended its ranks: node 0 " + ("fell silent" if leader.is_gone else "ends the attempt")
            if waiting.lost.is_set():
                return "lost its lease: this machine stood still, and another process is this node now"
            return None

        # The leader may have adopted the plan after we read ours.
        children = Children(run, run.plan(), attempt, heard, node=nodes.rank, grace=grace)
        children.end_orphans()
        code, reasons = children.train(train, abandon)
        nodes.leave(attempt, code, reasons)
        word = leader.outcome(code, reasons)
        _tell(run, word.code, word.reasons)
        return word.code


class _Waiting:
    """A node that is in no attempt yet."""

    def __init__(
        self,
        run: RunDirectory,
        plan: Plan,
        heard: Signals,
        nodes: Nodes,
        until_the_end: contextlib.ExitStack,
    ):
        self.run, self.plan, self.heard, self.nodes = run, plan, heard, nodes
        self.until_the_end = until_the_end
        self.problems: list[str] | None = None
        self.lost = threading.Event()
        self.patience = preconditions.node_patience()
        self.led = time.monotonic()
        self.next_lease = 0.0
        self.told: set[str] = set()

    def for_an_attempt(self) -> tuple[Attempt, str]:
        """Wait until a leader has made us part of an attempt; return that, and the leader's token.

        Raises NotStarted when there will be none.
        """
        while True:
            heard = self.heard.stop  # before we look, so that we leave no attempt that we are part of by now
            every_node.look(self.run.folder)
            if self.run.done.exists():
                raise NotStarted(Exit.FINISHED, {})
            if word := self.nodes.refused():
                raise NotStarted(word.code, word.reasons)
            if found := self._attempt():
                return found
            if heard:
                raise preconditions.stopped(*heard)
            self._be_here()
            self._lose_patience()
            time.sleep(every_node.LOOK_SECONDS)

    def _attempt(self) -> tuple[Attempt, str] | None:
        newest = self.nodes.newest_attempt()
        if newest is None:
            return None
        word = concluded(newest)
        if word and word.code is Exit.FINISHED and self.nodes.is_of_this_start(newest, word):
            raise NotStarted(Exit.FINISHED, {})
        enlisted = roster(newest)
        if enlisted and enlisted.members.get(self.nodes.rank, {}).get("token") == self.nodes.token:
            return newest, enlisted.leader
        return None

    def _be_here(self) -> None:
        """Say that we are here and what we miss, once that can be said: what a parent makes comes with its DONE."""
        if self.problems is not None or dependency.awaited(self.plan):
            return
        problems = missing(self.plan)
        try:
            self.lost = self.until_the_end.enter_context(self.nodes.here(problems))
        except LeaseHeld as held:
            self._say(f"waiting for {held} to leave, which is node {self.nodes.rank} still")
            return
        self.problems = problems
        self._say(f"node {self.nodes.rank} of {self.nodes.count} waits for node 0")

    def _lose_patience(self) -> None:
        now = time.monotonic()
        if now >= self.next_lease:
            self.next_lease = now + every_node.LEASE_SECONDS
            if self.nodes.is_led():
                self.led = now
        if now - self.led > self.patience:
            if self.problems:
                raise NotStarted(Exit.FATAL, {f"node {self.nodes.rank}": "\n".join(self.problems)})
            why = f"did not come within {self.patience:g} s; does it see {self.run.folder}?"
            raise NotStarted(Exit.FAULT, {"node 0": why})

    def _say(self, text: str) -> None:
        if text not in self.told:
            self.told.add(text)
            say(f"{self.run.name}: {text}")


class _Leader:
    """Node 0, seen from a node that follows it in an attempt."""

    def __init__(self, nodes: Nodes, attempt: Attempt, token: str):
        self.nodes, self.attempt, self.token = nodes, attempt, token
        self.word: Word | None = None
        self.is_gone = False
        self._next_look = self._next_lease = 0.0

    def look(self) -> bool:
        """Look again, now and then. Returns whether node 0 said how the attempt ends, or is gone."""
        now = time.monotonic()
        if not self.word and not self.is_gone and now >= self._next_look:
            self._next_look = now + every_node.LOOK_SECONDS
            self.word = concluded(self.attempt)
            if not self.word and now >= self._next_lease:
                self._next_lease = now + every_node.LEASE_SECONDS
                if not self.nodes.is_alive(0, self.token):
                    # Its last word comes before it gives the lease back.
                    self.word = concluded(self.attempt)
                    self.is_gone = self.word is None
        return self.word is not None or self.is_gone

    def outcome(self, code: Exit, reasons: dict[str, str]) -> Word:
        """Wait for node 0 to say how all nodes leave. `code` and `reasons` are this node's own, in case it is gone."""
        while not self.look():
            time.sleep(min(0.2, every_node.LOOK_SECONDS))
        return self.word or Word(combine([code, Exit.FAULT]), {**reasons, "node 0": "fell silent"})


def _tell(run: RunDirectory, code: Exit, reasons: dict[str, str]) -> None:
    say(f"{run.name}: {code.name.lower()} ({int(code)})")
    for who, reason in reasons.items():
        for line in reason.splitlines():
            say(f"  {who}: {line}")
