"""The leader's eye on the other nodes of an attempt: which of them left and how, which fell silent, and how long there
is still something to wait for. It ends nothing itself."""

import time
from collections.abc import Mapping
from typing import Any

from hatrain.contract.run import Attempt, Exit, combine
from hatrain.entry import nodes as every_node
from hatrain.entry.children import Outcome
from hatrain.entry.nodes import Nodes, Word, left, look

PEER_SECONDS = 60.0
"""From the loss of a node to the end of the attempt: rank 0 may be sealing a checkpoint that it has all parts of. Its
collectives would wait for the lost one much longer."""
GOOD = (Exit.FINISHED, Exit.REQUEUE, Exit.STOPPED)


class Members:
    """The other nodes of one attempt, seen from node 0. With none of them there is nothing to see."""

    def __init__(
        self, nodes: Nodes, attempt: Attempt, members: Mapping[int, Mapping[str, Any]], grace: float
    ):
        """`grace` (seconds) is what a node has to leave after another left in order."""
        self.nodes, self.attempt, self.members, self.grace = nodes, attempt, members, grace
        self.words: dict[int, Word] = {}
        self.silent: set[int] = set()
        self._deadline: float | None = None
        self._next_look = self._next_leases = 0.0

    def abandon(self) -> str | None:
        """Return why this node's ranks must end now, once they must: for as long as the others could be waited for."""
        self._look()
        if self._deadline is None or time.monotonic() < self._deadline:
            return None
        return f"ended its ranks: {', '.join(self._gone())} left before"

    def settle(self, mine: Outcome) -> Outcome:
        """Wait until the other nodes have left as well, and return what all of them come to."""
        code, reasons = mine
        self._hasten(code)
        while self._rest() and time.monotonic() < (self._deadline or 0):
            time.sleep(min(0.1, every_node.LOOK_SECONDS))
            self._look()
        late = {f"node {rank}": "still at work; ended" for rank in self._rest()}
        silent = {f"node {rank}": self._silence(rank) for rank in sorted(self.silent)}
        codes = [
            code,
            *(word.code for word in self.words.values()),
            *(Exit.FAULT for _ in {**late, **silent}),
        ]
        told = {who: why for _, word in sorted(self.words.items()) for who, why in word.reasons.items()}
        return combine(codes), {**reasons, **told, **silent, **late}

    def _look(self) -> None:
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + every_node.LOOK_SECONDS
        self._read_words()
        if now < self._next_leases:
            return
        self._next_leases = now + every_node.LEASE_SECONDS
        for rank in self._rest():
            if not self.nodes.is_alive(rank, self.members[rank]["token"]):
                # It may have left its word, and then its lease, since we read the words.
                self._read_words()
                if rank not in self.words:
                    self.silent.add(rank)
                    self._hasten(Exit.FAULT)

    def _read_words(self) -> None:
        look(self.attempt.folder)
        for rank in self._rest():
            if word := left(self.attempt, rank):
                self.words[rank] = word
                self._hasten(word.code)

    def _hasten(self, code: Exit) -> None:
        patience = self.grace if code in GOOD else PEER_SECONDS
        deadline = time.monotonic() + patience
        self._deadline = deadline if self._deadline is None else min(deadline, self._deadline)

    def _rest(self) -> list[int]:
        return [rank for rank in self.members if rank not in self.words and rank not in self.silent]

    def _gone(self) -> list[str]:
        return [f"node {rank}" for rank in sorted({*self.words, *self.silent})]

    def _silence(self, rank: int) -> str:
        return f"fell silent (process {self.members[rank]['pid']} on {self.members[rank]['host']})"
