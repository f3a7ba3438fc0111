"""Several nodes as one: who is here, who takes part in an attempt, how each of them left. All of it by files in the run
directory, which is what the nodes of every launcher have in common. It starts nothing and decides no outcome."""

import contextlib
import json
import os
import re
import secrets
import shutil
import threading
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hatrain.contract.plan import Plan
from hatrain.contract.run import Attempt, Exit, RunDirectory, combine
from hatrain.errors import BadInput
from hatrain.runtime import seal
from hatrain.runtime.lease import Lease

LOOK_SECONDS = 1.0
"""From one look at the files of other nodes to the next."""
LEASE_SECONDS = 5.0
"""From one look at the leases of other nodes to the next; each costs a file server a few calls."""


def look(*folders: Path) -> None:
    """See to it that the next look into these folders shows what the file server has.

    NFS takes a file that was looked for in vain to be missing for up to a minute; opening its folder makes it ask.
    """
    for folder in folders:
        with contextlib.suppress(OSError):
            os.close(os.open(folder, os.O_RDONLY))


def this_start() -> str | None:
    """Return what tells this start of all nodes from an earlier one, where the launcher has a name for it.

    Kubernetes has none, for it replaces each pod on its own, at its own time.
    """
    told = os.environ.get("HATRAIN_START")
    if not told and (job := os.environ.get("SLURM_JOB_ID")):
        told = f"{job}.{os.environ.get('SLURM_RESTART_COUNT') or 0}.{os.environ.get('SLURM_STEP_ID') or 0}"
    return told or None


@dataclass(frozen=True)
class Word:
    """How a node left an attempt, or all of them did."""

    code: Exit
    reasons: dict[str, str] = field(default_factory=dict)
    """Who → why, of each that did not finish."""
    leader: str | None = None
    start: str | None = None


@dataclass(frozen=True)
class Roster:
    """Which processes make up an attempt."""

    leader: str
    """Node 0's token."""
    members: dict[int, dict[str, Any]]
    """Node → what its lease said: token, host, pid."""


class Nodes:
    """The nodes of a run, from where one of them stands. A process of entry has one token, and one attempt."""

    def __init__(self, run: RunDirectory, count: int, rank: int):
        self.run, self.count, self.rank = run, count, rank
        self.token = secrets.token_hex(8)
        self.start = this_start()
        # Two jobs that make the same run by mistake meet at two places, and never mix.
        place = f"{os.environ.get('MASTER_ADDR')}.{os.environ.get('MASTER_PORT')}"
        self.folder = run.folder / "nodes" / re.sub(r"[^A-Za-z0-9._-]", "_", self.start or place)
        self._old_word = None if self.start else self._word_token()
        self._old_attempt = self._newest_number()

    @staticmethod
    def of(run: RunDirectory, plan: Plan) -> "Nodes":
        """Return this node's view of a planned run. Raises BadInput for a node that the plan has no place for."""
        told = os.environ.get("HATRAIN_NODE_RANK") or "0"
        if not told.isdigit() or int(told) >= plan.nodes:
            raise BadInput(f"HATRAIN_NODE_RANK: found {told!r}; the plan has nodes 0 to {plan.nodes - 1}")
        return Nodes(run, plan.nodes, int(told))

    @property
    def others(self) -> range:
        """The nodes that follow node 0."""
        return range(1, self.count)

    # --- who is here ---

    def lease(self, rank: int) -> Lease:
        """Return the lease that a following node holds from when it is ready until it leaves."""
        return Lease(self.folder / f"{rank}.json")

    def here(self, problems: Sequence[str]) -> contextlib.AbstractContextManager[threading.Event]:
        """Be here, with what this node misses. Raises LeaseHeld while an earlier process of this node still is."""
        return self.lease(self.rank).held(token=self.token, problems=list(problems))

    def present(self, rank: int, spent: Container[str]) -> dict[str, Any] | None:
        """Return the living process of a node, unless its token is spent: it belongs to an earlier attempt."""
        look(self.folder)
        owner = None
        with contextlib.suppress(OSError):
            owner = self.lease(rank).holder()
        return owner if owner and owner.get("token") and owner["token"] not in spent else None

    def is_alive(self, rank: int, token: str) -> bool:
        """Return whether a process still takes its node's part; node 0's part is the run's own lease."""
        look(self.folder, self.run.folder)
        try:
            owner = (self.lease(rank) if rank else self.run.lease).holder()
        except OSError:
            return True  # a file server that does not answer for a moment says nothing about a node
        return owner is not None and owner.get("token") == token

    def is_led(self) -> bool:
        """Return whether a node 0 that we may follow holds the run, or one that is still to leave."""
        look(self.run.folder)
        try:
            owner = self.run.lease.holder()
        except OSError:
            return True
        return owner is not None and owner.get("nodes") == self.folder.name

    # --- what the leader says to nodes that are in no attempt ---

    def leading(self) -> contextlib.AbstractContextManager[threading.Event]:
        """Hold the run as its node 0. Raises LeaseHeld when somebody else does."""
        return self.run.lease.held(token=self.token, nodes=self.folder.name)

    def forget(self) -> None:
        """Forget what an earlier leader said. Only where the run's lease is held."""
        (self.folder / "word.json").unlink(missing_ok=True)
        for other in self.folder.parent.glob("*"):
            if other != self.folder:
                shutil.rmtree(other, ignore_errors=True)

    def refuse(self, code: Exit, reasons: Mapping[str, str]) -> None:
        """Tell the nodes that wait for an attempt that there will be none."""
        if self.count > 1:
            word = {"token": self.token, "code": int(code), "reasons": dict(reasons)}
            seal.write_json(self.folder / "word.json", word)

    def refused(self) -> Word | None:
        """Return the leader's word that there will be no attempt. One that was there before us was for others, unless
        it names this very start."""
        look(self.folder)
        told = _read(self.folder / "word.json")
        return None if told is None or told.get("token") in (None, self._old_word) else _word(told)

    def _word_token(self) -> str | None:
        return (_read(self.folder / "word.json") or {}).get("token")

    # --- attempts ---

    def newest_attempt(self) -> Attempt | None:
        """Return the newest attempt that there is."""
        look(self.run.folder, self.run.attempts)
        number = self._newest_number()
        return Attempt(self.run.attempts / str(number)) if number else None

    def _newest_number(self) -> int:
        numbers = [int(path.name) for path in self.run.attempts.glob("*") if path.name.isdigit()]
        return max(numbers, default=0)

    def is_of_this_start(self, attempt: Attempt, word: Word) -> bool:
        """Return whether an attempt that ended has to do with us: it began after we came, is of the start that we are
        of, or its leader is still at work."""
        return (
            attempt.number > self._old_attempt
            or (self.start is not None and word.start == self.start)
            or (word.leader is not None and self.is_alive(0, word.leader))
        )

    def enlist(self, attempt: Attempt, members: Mapping[int, Mapping[str, Any]]) -> None:
        """Say which processes an attempt is made of."""
        kept = {
            str(rank): {key: owner[key] for key in ("token", "host", "pid")}
            for rank, owner in members.items()
        }
        seal.write_json(attempt.folder / "nodes.json", {"leader": self.token, "nodes": kept})

    def spent_tokens(self) -> set[str]:
        """Return the tokens of all processes that took part in an attempt."""
        rosters = [roster(attempt) for attempt in self.run.all_attempts()]
        return {member["token"] for each in rosters if each for member in each.members.values()}

    def leave(self, attempt: Attempt, code: Exit, reasons: Mapping[str, str]) -> None:
        """Say how this node left an attempt."""
        told = {"code": int(code), "reasons": dict(reasons)}
        seal.write_json(attempt.folder / f"node-{self.rank}.json", told)

    def conclude(self, attempt: Attempt, code: Exit, reasons: Mapping[str, str]) -> None:
        """Say how all nodes leave an attempt. Only the leader's to say."""
        told = {"code": int(code), "reasons": dict(reasons), "leader": self.token, "start": self.start}
        seal.write_json(attempt.folder / "outcome.json", told)


def roster(attempt: Attempt) -> Roster | None:
    """Return which processes an attempt is made of, once its leader has said so."""
    told = _read(attempt.folder / "nodes.json")
    if told is None:
        return None
    try:
        return Roster(told["leader"], {int(rank): dict(told["nodes"][rank]) for rank in told["nodes"]})
    except (KeyError, TypeError, ValueError):
        return None


def left(attempt: Attempt, rank: int) -> Word | None:
    """Return how a node left an attempt, once it has."""
    told = _read(attempt.folder / f"node-{rank}.json")
    return None if told is None else _word(told)


def concluded(attempt: Attempt) -> Word | None:
    """Return how all nodes leave an attempt, once its leader has said so."""
    look(attempt.folder)
    told = _read(attempt.folder / "outcome.json")
    return None if told is None else _word(told)


def _word(told: dict[str, Any]) -> Word:
    reasons = told.get("reasons")
    kept = {str(who): str(why) for who, why in reasons.items()} if isinstance(reasons, dict) else {}
    code = told.get("code")
    return Word(combine([code if isinstance(code, int) else 1]), kept, told.get("leader"), told.get("start"))


def _read(path: Path) -> dict[str, Any] | None:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return told if isinstance(told, dict) else None
