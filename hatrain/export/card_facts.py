"""What a run recorded about itself, as its model card needs it. Nothing is computed anew, and nothing is guessed: what
is not recorded is None or empty."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hatrain.contract.plan import Plan
from hatrain.contract.run import RunDirectory
from hatrain.export.files import REPORT, Report
from hatrain.runtime import seal

Figures = Mapping[str, Any]


@dataclass(frozen=True)
class Facts:
    """A finished run, for its card. Paths are left out: only names of files and folders are in it."""

    name: str
    plan: Plan
    rows: Figures
    """`files`, `languages`, `codes` and `clients`, or `missing`."""
    audit: Figures
    prompt: Figures
    base: Figures
    kept: Figures
    """Which look was kept and why; empty where none was chosen."""
    steps: tuple[int, int] | None
    """The step that the model is of, and all steps of the run."""
    evaluation: Figures
    """`before` and `after`, or `skipped`."""
    others: Mapping[str, Figures]
    """Later evaluations of the model, by the name of their dataset."""
    report: Report | None
    """The export."""
    has_modelfile: bool
    gpu: str | None
    """As the machine names it."""
    attempts: Sequence[Figures]
    """Those that recorded how long they took."""
    begun: Figures
    """The last attempt, as it began."""

    @property
    def client(self) -> str | None:
        return next(iter(self.rows.get("clients") or {}), None)

    def language(self, name: str) -> str:
        """Return the English name of a language, by what the rows call it."""
        return str((self.rows.get("names") or {}).get(name, name))

    @property
    def repository(self) -> str | None:
        """The base on the model hub."""
        return self.base.get("repository")

    @property
    def hours(self) -> float:
        return sum(attempt["seconds"] for attempt in self.attempts) / 3600


def facts_of(run: RunDirectory) -> Facts:
    """Read the facts of a run. Raises BadInput when its plan cannot be read."""
    plan, events = run.plan(), run.events()
    description, evaluation = seal.read_object(run.description), seal.read_object(run.evaluation)
    begun = {event["attempt"]: event for event in events if event["event"] == "attempt begun" and "attempt" in event}
    outcomes = [event for event in events if event["event"] == "outcome" and "seconds" in event]
    model, kept, memory = (_last(events, name) for name in ("model sealed", "kept", "memory"))
    total = kept.get("steps") or (plan.steps.total if plan.steps else None)
    ranks = [begun.get(event.get("attempt", 0), {}).get("ranks", plan.world_size) for event in outcomes]
    return Facts(
        name=run.name.replace("/", "-"),
        plan=plan,
        rows=_part(description, "rows"),
        audit=_part(description, "audit"),
        prompt=_part(description, "prompt"),
        base=_part(description, "base"),
        kept=kept,
        steps=(model["step"], total or model["step"]) if "step" in model else None,
        evaluation=evaluation,
        others=_others(run, plan),
        report=_report(run),
        has_modelfile=(run.export / "Modelfile").is_file(),
        gpu=memory.get("device"),
        attempts=[{**event, "ranks": count} for event, count in zip(outcomes, ranks, strict=True)],
        begun=begun[max(begun)] if begun else {},
    )


def _last(events: Sequence[Figures], name: str) -> Figures:
    return next((event for event in reversed(events) if event["event"] == name), {})


def _part(description: Figures, name: str) -> Figures:
    part = description.get(name)
    return part if isinstance(part, dict) else {"missing": "it was not recorded"}


def _others(run: RunDirectory, plan: Plan) -> dict[str, Figures]:
    """The evaluations that `hatrain evaluate` made of the run's result."""
    result = run.result(plan.job)
    paths = sorted(run.folder.glob("evaluations/*/evaluation.json"))
    found = {path.parent.name: seal.read_object(path) for path in paths}
    return {name: figures for name, figures in found.items() if _is_same(figures.get("model"), result)}


def _is_same(location: Any, result: Path) -> bool:
    return isinstance(location, str) and Path(location).resolve() == result.resolve()


def _report(run: RunDirectory) -> Report | None:
    try:
        return Report.from_dict(json.loads((run.export / REPORT).read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError):
        return None
