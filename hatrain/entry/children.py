"""The children of one attempt on this node: in which surroundings they start, and what their ranks come to. It reads
the word that each rank left, and never decides for other nodes."""

import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import Protocol

from hatrain import doctor
from hatrain.contract.plan import Plan
from hatrain.contract.run import Attempt, Exit, RunDirectory, Stop, combine
from hatrain.entry import process
from hatrain.entry.nodes import look
from hatrain.runtime import orphans

Outcome = tuple[Exit, dict[str, str]]
Command = Callable[[Plan, RunDirectory], Sequence[str]]
Abandon = Callable[[], str | None]


class Signals(Protocol):
    """What has been heard so far: (reason, requeue), or None."""

    stop: tuple[str, bool] | None


class Children:
    """The children of one attempt on one node: started one after the other, in the same surroundings."""

    def __init__(
        self,
        run: RunDirectory,
        plan: Plan,
        attempt: Attempt,
        heard: Signals,
        *,
        node: int,
        grace: float,
    ):
        """`grace` is in seconds, from a stop to the end of patience."""
        self.run, self.plan, self.attempt, self.heard = run, plan, attempt, heard
        self.node, self.grace = node, grace

    @property
    def me(self) -> str:
        """What this process is called among the reasons of an outcome."""
        return "entry" if self.plan.nodes == 1 else f"node {self.node}"

    def heard_stop(self) -> Stop | None:
        """Pass a signal on to the stop file; return what that file says, whoever wrote it."""
        # Another node, or a login node, may have written it; rank 0 on this machine sees it by our looking, too.
        look(self.attempt.folder)
        if self.heard.stop:
            self.attempt.request_stop(Stop(*self.heard.stop))
        return self.attempt.stop()

    def train(self, command: Command, abandon: Abandon) -> Outcome:
        """Run this node's ranks to their end, as `outcome` does; none of them where this machine cannot train."""
        unfit, reasons = doctor.preflight(self.plan)
        if unfit is not None:
            # The others would wait for long after a node that left in order; after a fault they do not.
            fault = unfit is Exit.REQUEUE and self.plan.nodes > 1
            return Exit.FAULT if fault else unfit, {
                f"{self.me}, {what}": why for what, why in reasons.items()
            }
        first = self.node * self.plan.processes_per_node
        ranks = range(first, first + self.plan.processes_per_node)
        return self.outcome(command(self.plan, self.run), ranks, abandon)

    def outcome(self, command: Sequence[str], ranks: Sequence[int | str], abandon: Abandon) -> Outcome:
        """Run a child to its end. Returns what its ranks come to, and the reason of each that is not finished.

        `abandon` says why it must end at once, as soon as it must.
        """
        why: list[str] = []

        def abandoned() -> bool:
            if not why and (reason := abandon()):
                why.append(reason)
            return bool(why)

        end = process.follow(
            command,
            cwd=self.plan.paths.workdir,
            environment=self._environment(),
            log=self.attempt.folder / (f"log-{self.node}.txt" if self.node else "log.txt"),
            stopping=lambda: self.heard_stop() is not None,
            grace=self.grace,
            abandoned=abandoned,
        )
        words = self.attempt.outcomes(ranks)
        if why:
            told = {rank: word for rank, word in words.items() if self.attempt.has_reported(rank)}
            code = combine([Exit.FAULT, *(code for code, _ in told.values())])
            return code, {**_reasons(told), self.me: why[0]}
        code = combine(code for code, _ in words.values())
        reasons = _reasons(words)
        if end is None:
            reasons[self.me] = f"did not leave {self.grace:g} s after the stop, and was killed"
            stop = self.attempt.stop()
            if code is Exit.FAULT and stop and not stop.requeue:
                # It is no rank's fault, and the user wants an end: what was sealed before is what there is.
                code = Exit.STOPPED
        return code, reasons

    def end_orphans(self) -> None:
        """End what an earlier attempt left running on this machine."""
        for pid in orphans.end_orphans(str(self.run.folder), self.attempt.number, self.node):
            say(f"{self.run.name}: ended process {pid}, left over from an earlier attempt")

    def _environment(self) -> dict[str, str]:
        around = {**os.environ, **self.plan.environment}
        share = max(1, _cores() // self.plan.processes_per_node)
        return around | {
            "OMP_NUM_THREADS": around.get("OMP_NUM_THREADS") or str(share),
            **orphans.marks(str(self.run.folder), self.attempt.number, self.node),
            "PYTHONUNBUFFERED": "1",
            # torchrun kills its ranks 30 s after SIGTERM otherwise, in the middle of a checkpoint.
            "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": str(int(self.grace)),
        }


def _reasons(words: dict[int | str, tuple[Exit, str]]) -> dict[str, str]:
    return {
        f"rank {rank}" if isinstance(rank, int) else rank: reason
        for rank, (told, reason) in words.items()
        if told is not Exit.FINISHED
    }


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def say(text: str) -> None:
    """Tell a person something on stderr."""
    with contextlib.suppress(OSError):  # nobody reads stderr any more; the run goes on
        print(f"hatrain: {text}", file=sys.stderr, flush=True)
