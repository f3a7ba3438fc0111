"""The stages of an attempt, in order. One that is done is skipped, so that a later stage that fails never trains again.
No setting of a stage after training is part of a run's identity."""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hatrain.contract import extras
from hatrain.contract.plan import Plan
from hatrain.contract.run import RunDirectory
from hatrain.entry import process
from hatrain.entry.nodes import Nodes
from hatrain.errors import BadInput
from hatrain.runtime import seal

Command = Callable[[Plan, RunDirectory], Sequence[str]]


@dataclass(frozen=True)
class Stage:
    """One step of an attempt, run as a process of its own."""

    name: str
    """Also what its exit report is called, where the stage is one process."""
    command: Command
    is_wanted: Callable[[Plan], bool]
    unfinished: Callable[[Plan, RunDirectory, bool], str | None]
    """(plan, run, whether to compare checksums) → why the stage is not done; None once it is."""
    on_all_ranks: bool
    """Whether it runs on every rank of every node. If not, it is one process on node 0, and the other nodes leave."""


def _train(plan: Plan, run: RunDirectory) -> Sequence[str]:
    if problems := extras.problems("train", "training"):
        raise BadInput(problems)
    return process.torchrun(plan, "hatrain.train", run.folder, Nodes.of(run, plan).rank)


def _untrained(plan: Plan, run: RunDirectory, checksums: bool) -> str | None:
    result = run.result(plan.job)
    damage = seal.verify(result, checksums=checksums)
    return damage and f"{result}: {damage}"


def _evaluate(plan: Plan, run: RunDirectory) -> Sequence[str]:
    return [sys.executable, "-m", "hatrain.evaluate.run", str(run.folder)]


def _unevaluated(plan: Plan, run: RunDirectory, checksums: bool) -> str | None:
    try:
        figures = json.loads(run.evaluation.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return f"{run.evaluation}: cannot be read: {type(error).__name__}"
    if isinstance(figures, dict) and ("skipped" in figures or {"before", "after"} <= set(figures)):
        return None
    return f"{run.evaluation}: not complete"


def _has_requests(plan: Plan) -> bool:
    return bool(plan.job.data.test and plan.job.evaluation.requests)


def _export(plan: Plan, run: RunDirectory) -> Sequence[str]:
    return [sys.executable, "-m", "hatrain.export.run", str(run.folder)]


def _unexported(plan: Plan, run: RunDirectory, checksums: bool) -> str | None:
    if damage := seal.verify(run.export, checksums=False):
        return f"{run.export}: {damage}"
    found, wanted = seal.facts(run.export), plan.job.export
    if wanted and [found.get("gguf"), found.get("ollama")] != [list(wanted.gguf), wanted.ollama]:
        return f"{run.export}: holds other files than the job asks for"
    if found.get("model") != seal.digest(run.result(plan.job) / seal.MANIFEST):
        return f"{run.export}: is of another model"
    return None


TRAINING = Stage("training", _train, lambda plan: True, _untrained, on_all_ranks=True)
EVALUATION = Stage("evaluation", _evaluate, _has_requests, _unevaluated, on_all_ranks=False)
EXPORT = Stage("export", _export, lambda plan: plan.job.export is not None, _unexported, on_all_ranks=False)

STAGES = (TRAINING, EVALUATION, EXPORT)
