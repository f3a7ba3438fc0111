"""Runs the stages of an attempt as child processes on this node, and reads the exit reports that their ranks leave."""

import contextlib
import os
import sys
from collections.abc import Callable, Sequence

from hatrain import doctor
from hatrain.contract import variables
from hatrain.contract.plan import Plan
from hatrain.contract.run import Attempt, Exit, RunDirectory, combine
from hatrain.entry import process, why
from hatrain.entry.nodes import refresh
from hatrain.entry.stages import Stage
from hatrain.entry.watchdog import Watchdog
from hatrain.runtime import machine, memory, orphans
from hatrain.runtime.stop import SignalListener, Stop

Outcome = tuple[Exit, dict[str, str]]
"""The exit code, and a reason for each rank, node or stage that did not finish."""
Outcomes = dict[int | str, tuple[Exit, str]]
"""Exit code and reason by rank or stage."""
WhyAbandon = Callable[[], str | None]
"""Returns why a child must end at once, as soon as it must."""


class Children:
    """The child processes of one attempt on one node, one after another."""

    def __init__(
        self,
        run: RunDirectory,
        plan: Plan,
        attempt: Attempt,
        signals: SignalListener,
        *,
        node: int,
        grace: float,
        lease: str = "",
    ):
        """`grace`: seconds from a stop to killing what has not left. `lease`: the token of the run's lease, which rank
        0 looks at after each step; empty on nodes that do not hold it."""
        self.run, self.plan, self.attempt, self.signals = run, plan, attempt, signals
        self.node, self.grace, self.lease = node, grace, lease

    @property
    def name(self) -> str:
        """The name of this process among the reasons of an outcome."""
        return "entry" if self.plan.nodes == 1 else f"node {self.node}"

    def requested_stop(self) -> Stop | None:
        """Write a stop that came as a signal to the stop file, and return what that file says."""
        # Another node or a login node may have written it.
        refresh(self.attempt.folder)
        if self.signals.stop:
            self.attempt.request_stop(self.signals.stop)
        return self.attempt.stop()

    def run_ranks(self, stage: Stage, why_abandon: WhyAbandon) -> Outcome:
        """Run this node's ranks of a stage to their end; none where this machine cannot train."""
        unfit, reasons = doctor.preflight(self.plan, exports=self.node == 0)
        if unfit is not None:
            # After a fault of one node the others end soon; after an orderly end they wait for all ranks.
            fault = unfit is Exit.REQUEUE and self.plan.nodes > 1
            problems = {f"{self.name}, {check}": reason for check, reason in reasons.items()}
            return Exit.FAULT if fault else unfit, problems
        first = self.node * self.plan.processes_per_node
        ranks = range(first, first + self.plan.processes_per_node)
        watchdog = Watchdog.of(self.attempt, self.plan, ranks)
        return self._run(stage, ranks, lambda: why_abandon() or watchdog.why_hung())

    def run_alone(self, stage: Stage, why_abandon: WhyAbandon) -> Outcome:
        return self._run(stage, [stage.name], why_abandon)

    def _run(self, stage: Stage, ranks: Sequence[int | str], why_abandon: WhyAbandon) -> Outcome:
        reasons: list[str] = []

        def abandoned() -> bool:
            if not reasons and (reason := why_abandon()):
                reasons.append(reason)
            return bool(reasons)

        kills = memory.kills()
        exit_code = process.run(
            stage.command(self.plan, self.run),
            cwd=self.plan.paths.workdir,
            environment=self._environment(),
            log=self.attempt.folder / (f"log-{self.node}.txt" if self.node else "log.txt"),
            stopping=lambda: self.requested_stop() is not None,
            grace=self.grace,
            abandoned=abandoned,
        )
        killed = memory.kills() > kills
        outcomes = {
            rank: (code, why.explained(reason, self.plan, killed) if code is Exit.FAULT else reason)
            for rank, (code, reason) in self.attempt.outcomes(ranks).items()
        }
        if reasons:
            reported = {rank: end for rank, end in outcomes.items() if self.attempt.has_reported(rank)}
            code = combine([Exit.FAULT, *(code for code, _ in reported.values())])
            return code, {**_unfinished(reported), self.name: reasons[0]}
        code = combine(code for code, _ in outcomes.values())
        unfinished = _unfinished(outcomes)
        if exit_code is None:
            unfinished[self.name] = f"did not leave {self.grace:g} s after the stop, and was killed"
            faults = [
                rank for rank, end in outcomes.items() if end[0] is Exit.FAULT and self.attempt.has_reported(rank)
            ]
            if (stop := self.attempt.stop()) and not faults and code is Exit.FAULT:
                # The kill is no fault of a rank, which may not even have loaded its model yet: the newest sealed
                # checkpoint stands.
                code = Exit.REQUEUE if stop.requeue else Exit.STOPPED
        return code, unfinished

    def end_orphans(self) -> None:
        """Kill processes that an earlier attempt left on this machine."""
        for pid in orphans.end_orphans(str(self.run.folder), self.attempt.number, self.node):
            log(f"{self.run.name}: killed process {pid} of an earlier attempt")

    def _environment(self) -> dict[str, str]:
        environment = dict(os.environ)
        if "HATRAIN_NODES" not in environment:  # node.sh has exported the rest too
            for name, value in self.plan.environment.items():
                environment[name] = variables.expand(f"environment.{name}", value, environment)
        threads = max(1, machine.cores() // self.plan.processes_per_node)
        return environment | {
            "OMP_NUM_THREADS": environment.get("OMP_NUM_THREADS") or str(threads),
            **orphans.marks(str(self.run.folder), self.attempt.number, self.node),
            "HATRAIN_LEASE": self.lease,
            "PYTHONUNBUFFERED": "1",
            # Without it torchrun kills its ranks 30 s after SIGTERM, in the middle of a checkpoint.
            "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": str(int(self.grace)),
        }


def _unfinished(outcomes: Outcomes) -> dict[str, str]:
    return {
        f"rank {rank}" if isinstance(rank, int) else rank: reason
        for rank, (code, reason) in outcomes.items()
        if code is not Exit.FINISHED
    }


def log(text: str) -> None:
    """Print a line to stderr. A closed stderr does not end the run."""
    with contextlib.suppress(OSError):
        print(f"hatrain: {text}", file=sys.stderr, flush=True)
