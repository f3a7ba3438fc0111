"""How the nodes of a run find each other and agree on an attempt: by files in the run directory, which the nodes of
every launcher share. Nothing here starts a process or decides an outcome."""

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

POLL_SECONDS = 1.0
"""Between two looks at the files of other nodes."""
LEASE_POLL_SECONDS = 5.0
"""Between two looks at the leases of other nodes, which cost a file server several calls each."""


def refresh(*folders: Path) -> None:
    """Make the next look into these folders see what the file server has.

    NFS caches that a file is missing, for up to a minute; opening its folder makes it ask again.
    """
    for folder in folders:
        with contextlib.suppress(OSError):
            os.close(os.open(folder, os.O_RDONLY))


def start_id() -> str | None:
    """Return the launcher's name for this start of all nodes, which tells it from an earlier start of the same job.

    Kubernetes has none: it replaces each pod by itself.
    """
    name = os.environ.get("HATRAIN_START")
    if not name and (job := os.environ.get("SLURM_JOB_ID")):
        name = f"{job}.{os.environ.get('SLURM_RESTART_COUNT') or 0}.{os.environ.get('SLURM_STEP_ID') or 0}"
    return name or None


@dataclass(frozen=True)
class ExitReport:
    """How a node, or all of them, left an attempt."""

    code: Exit
    reasons: dict[str, str] = field(default_factory=dict)
    """A reason for each node, rank or stage that did not finish."""
    leader: str | None = None
    """Node 0's token."""
    start: str | None = None
    """The `start_id` of the attempt."""


@dataclass(frozen=True)
class Roster:
    """The processes that make up an attempt."""

    leader: str
    """Node 0's token."""
    members: dict[int, dict[str, Any]]
    """Node → token, host and pid of its lease."""


class Nodes:
    """The nodes of a run as one of them sees them. Each entry process has one token, and takes part in one attempt."""

    def __init__(self, run: RunDirectory, count: int, rank: int):
        self.run, self.count, self.rank = run, count, rank
        self.token = secrets.token_hex(8)
        self.start = start_id()
        # Two jobs that run the same run by mistake have different rendezvous, and never mix.
        rendezvous = f"{os.environ.get('MASTER_ADDR')}.{os.environ.get('MASTER_PORT')}"
        self.folder = run.folder / "nodes" / re.sub(r"[^A-Za-z0-9._-]", "_", self.start or rendezvous)
        self._old_refusal = None if self.start else self._refusal_token()
        self._old_attempt = self._newest_number()

    @staticmethod
    def of(run: RunDirectory, plan: Plan) -> "Nodes":
        """Return the nodes of a planned run, seen from this one. Raises BadInput for a rank the plan does not have."""
        rank = os.environ.get("HATRAIN_NODE_RANK") or "0"
        if not rank.isdigit() or int(rank) >= plan.nodes:
            raise BadInput(f"HATRAIN_NODE_RANK: found {rank!r}; accepted: 0 to {plan.nodes - 1}")
        return Nodes(run, plan.nodes, int(rank))

    @property
    def others(self) -> range:
        """The nodes that follow node 0."""
        return range(1, self.count)

    # --- which nodes are here ---

    def lease(self, rank: int) -> Lease:
        """The lease that a following node holds from when it is ready until it leaves."""
        return Lease(self.folder / f"{rank}.json")

    def announce(self, problems: Sequence[str]) -> contextlib.AbstractContextManager[threading.Event]:
        """Hold this node's lease, with the inputs it misses. Raises LeaseHeld while an earlier process of it lives."""
        return self.lease(self.rank).held(token=self.token, problems=list(problems))

    def present(self, rank: int, spent: Container[str]) -> dict[str, Any] | None:
        """Return the lease of a node's live process, unless its token is spent: it belongs to an earlier attempt."""
        refresh(self.folder)
        owner = None
        with contextlib.suppress(OSError):
            owner = self.lease(rank).contender()
        return owner if owner and owner.get("token") and owner["token"] not in spent else None

    def is_alive(self, rank: int, token: str) -> bool:
        """Whether the process of a token still holds its node's lease. Node 0's is the run's own."""
        refresh(self.folder, self.run.folder)
        try:
            owner = (self.lease(rank) if rank else self.run.lease).contender()
        except OSError:
            return True  # a file server that does not answer for a moment is no sign of a dead node
        return owner is not None and owner.get("token") == token

    def has_leader(self) -> bool:
        """Whether a node 0 of these nodes holds the run's lease."""
        refresh(self.run.folder)
        try:
            owner = self.run.lease.contender()
        except OSError:
            return True
        return owner is not None and owner.get("nodes") == self.folder.name

    # --- what node 0 writes for nodes that are in no attempt ---

    def lead(self, *, supersede: bool = False) -> contextlib.AbstractContextManager[threading.Event]:
        """Hold the run's lease as node 0; `supersede` takes it from an earlier start of this job. Raises LeaseHeld."""

        def supersedes(owner: Mapping[str, Any]) -> bool:
            return supersede and self.is_earlier_start(owner)

        return self.run.lease.held(supersedes, token=self.token, nodes=self.folder.name)

    def is_earlier_start(self, owner: Mapping[str, Any]) -> bool:
        """Whether a lease belongs to an earlier start of this very job, JOB.NUMBER.

        Slurm starts a job again when it loses its node, and the processes there may live on.
        """
        job, _, number = self.folder.name.rpartition(".")
        other_job, _, other = str(owner.get("nodes")).rpartition(".")
        is_counted = bool(self.start and job) and number.isdigit() and other.isdigit()
        return is_counted and job == other_job and int(other) < int(number)

    def clear(self) -> None:
        """Remove what an earlier leader left. Only the holder of the run's lease may."""
        self._refusal.unlink(missing_ok=True)
        for other in self.folder.parent.glob("*"):
            if other != self.folder:
                shutil.rmtree(other, ignore_errors=True)

    def refuse(self, code: Exit, reasons: Mapping[str, str]) -> None:
        """Let the nodes that wait for an attempt leave: there will be none."""
        if self.count > 1:
            report = {"token": self.token, "code": int(code), "reasons": dict(reasons)}
            seal.write_json(self._refusal, report)

    def refusal(self) -> ExitReport | None:
        """Return the leader's refusal. One from before this process started was for earlier nodes, unless its folder is
        of this very start."""
        refresh(self.folder)
        content = _read(self._refusal)
        if content is None or content.get("token") in (None, self._old_refusal):
            return None
        return _report(content)

    @property
    def _refusal(self) -> Path:
        return self.folder / "refusal.json"

    def _refusal_token(self) -> str | None:
        return (_read(self._refusal) or {}).get("token")

    # --- attempts ---

    def newest_attempt(self) -> Attempt | None:
        refresh(self.run.folder, self.run.attempts)
        number = self._newest_number()
        return Attempt(self.run.attempts / str(number)) if number else None

    def _newest_number(self) -> int:
        numbers = [int(path.name) for path in self.run.attempts.glob("*") if path.name.isdigit()]
        return max(numbers, default=0)

    def concerns(self, attempt: Attempt, report: ExitReport) -> bool:
        """Whether an attempt that ended is this node's: it started after this node did, has the same start id, or its
        leader is still alive."""
        return (
            attempt.number > self._old_attempt
            or (self.start is not None and report.start == self.start)
            or (report.leader is not None and self.is_alive(0, report.leader))
        )

    def enlist(self, attempt: Attempt, members: Mapping[int, Mapping[str, Any]]) -> None:
        nodes = {str(rank): {key: owner[key] for key in ("token", "host", "pid")} for rank, owner in members.items()}
        seal.write_json(attempt.folder / "nodes.json", {"leader": self.token, "nodes": nodes})

    def spent_tokens(self) -> set[str]:
        """Return the tokens of all processes that took part in an attempt."""
        rosters = [roster(attempt) for attempt in self.run.all_attempts()]
        return {member["token"] for each in rosters if each for member in each.members.values()}

    def leave(self, attempt: Attempt, code: Exit, reasons: Mapping[str, str]) -> None:
        """Write this node's exit report."""
        report = {"code": int(code), "reasons": dict(reasons)}
        seal.write_json(attempt.folder / f"node-{self.rank}.json", report)

    def conclude(self, attempt: Attempt, code: Exit, reasons: Mapping[str, str]) -> None:
        """Write the outcome of an attempt for all nodes. Only node 0 does."""
        report = {"code": int(code), "reasons": dict(reasons), "leader": self.token, "start": self.start}
        seal.write_json(attempt.folder / "outcome.json", report)


def roster(attempt: Attempt) -> Roster | None:
    """Read the roster of an attempt, once node 0 has written it."""
    content = _read(attempt.folder / "nodes.json")
    if content is None:
        return None
    try:
        return Roster(content["leader"], {int(rank): dict(content["nodes"][rank]) for rank in content["nodes"]})
    except (KeyError, TypeError, ValueError):
        return None


def node_report(attempt: Attempt, rank: int) -> ExitReport | None:
    content = _read(attempt.folder / f"node-{rank}.json")
    return None if content is None else _report(content)


def outcome(attempt: Attempt) -> ExitReport | None:
    """Read the outcome of an attempt for all nodes, once node 0 has written it."""
    refresh(attempt.folder)
    content = _read(attempt.folder / "outcome.json")
    return None if content is None else _report(content)


def _report(content: dict[str, Any]) -> ExitReport:
    reasons, code = content.get("reasons"), content.get("code")
    return ExitReport(
        combine([code if isinstance(code, int) else 1]),
        {str(name): str(reason) for name, reason in reasons.items()} if isinstance(reasons, dict) else {},
        content.get("leader"),
        content.get("start"),
    )


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None
