"""What a report shows of a run, read from its directory. Files that are missing, damaged or still being written leave
gaps; only plan.json is needed. Reading writes nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hatrain.contract.plan import Plan
from hatrain.contract.record import Event
from hatrain.contract.run import Exit, RunDirectory, combine
from hatrain.runtime import seal

Metrics = dict[str, Any]
"""A line of metrics.jsonl."""


@dataclass(frozen=True)
class AttemptFacts:
    """One attempt, from the record."""

    number: int
    began: str
    """Date and time, UTC."""
    host: str
    ranks: int
    outcome: str
    reasons: tuple[str, ...]
    seconds: float | None
    steps: tuple[int, int] | None
    """The first and the last step that it logged."""


@dataclass(frozen=True)
class RunFacts:
    """One run."""

    name: str
    plan: Plan
    state: str
    """finished, running, stopped, failed, lost or not started."""
    reason: str
    """Why it failed or was stopped."""
    metrics: tuple[Metrics, ...]
    """The logged steps in order; of a step that several attempts logged, the last."""
    events: tuple[Event, ...]
    attempts: tuple[AttemptFacts, ...]
    evaluation: Mapping[str, Any]
    """What evaluation.json says, well formed: `before` and `after`, or `skipped`; empty without one."""
    failures: tuple[Mapping[str, Any], ...]
    """The requests that the trained model did not answer strictly right."""

    @property
    def seconds(self) -> float:
        """Of all attempts together that have ended."""
        return sum(attempt.seconds or 0 for attempt in self.attempts)

    def test_loss(self, when: str) -> float | None:
        """The test loss `before` or `after` training."""
        losses = {event["when"]: float(event["loss"]) for event in self.events if event["event"] == "test loss"}
        return finite(losses.get(when))

    def figure(self, when: str, name: str) -> float | None:
        """A figure of the evaluation `before` or `after` training."""
        return finite(self.evaluation.get(when, {}).get(name))

    def last(self, name: str) -> float | None:
        """The newest logged value."""
        return next((line[name] for line in reversed(self.metrics) if name in line), None)


_LARGEST = 1e100


def finite(value: Any) -> float | None:
    """A number, unless the value is none, or larger than a chart can show."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number and abs(value) < _LARGEST else None


def read_run(run: RunDirectory) -> RunFacts:
    """Read a run. Raises BadInput when its plan cannot be read."""
    plan = run.plan()
    events = tuple(_events(run))
    metrics = read_metrics(run)
    state, reason = _state(run, events)
    return RunFacts(
        name=run.name,
        plan=plan,
        state=state,
        reason=reason,
        metrics=tuple(metrics),
        events=events,
        attempts=tuple(_attempts(events, metrics, state)),
        evaluation=read_evaluation(run),
        failures=tuple(_failures(run.folder / "failures-after.jsonl")),
    )


def read_metrics(run: RunDirectory) -> list[Metrics]:
    """The logged steps in order; for a step that several attempts logged, the last."""
    by_step: dict[tuple[int, bool, bool], Metrics] = {}
    for line in seal.read_lines(run.metrics):
        if all(finite(value) is not None for value in line.values()) and isinstance(line.get("step"), int):
            # A step may have a line of training, one of the test loss, and one of the test requests.
            by_step[line["step"], "loss" not in line, "test_loss" in line] = line
    return [by_step[key] for key in sorted(by_step)]


def read_evaluation(run: RunDirectory) -> dict[str, Any]:
    """What evaluation.json says, as far as it is well formed; empty without one."""
    figures = seal.read_object(run.evaluation)
    return {key: value for key, value in figures.items() if isinstance(value, dict if key != "skipped" else str)}


def groups(evaluation: Mapping[str, Any], when: str, by: str) -> dict[str, Mapping[str, Any]]:
    """The figures of each group, such as `by_language`, that has a strict accuracy."""
    found = evaluation.get(when, {}).get(by, {})
    found = found if isinstance(found, dict) else {}
    return {
        str(name): score
        for name, score in found.items()
        if isinstance(score, dict) and finite(score.get("strict_accuracy")) is not None
    }


def interval(score: Mapping[str, Any], name: str = "strict_interval") -> tuple[float, float] | None:
    """The 95% interval of an accuracy, of the strict one unless another is named."""
    bounds = score.get(name)
    if not isinstance(bounds, list) or len(bounds) != 2:
        return None
    low, high = map(finite, bounds)
    return (low, high) if low is not None and high is not None else None


# --- the record ---------------------------------------------------------------------------------------------


def _events(run: RunDirectory) -> list[Event]:
    try:
        return run.events()
    except OSError:
        return []


def _state(run: RunDirectory, events: Sequence[Event]) -> tuple[str, str]:
    """The state of a run, and the reason that its last attempt recorded."""
    last = next((event for event in reversed(events) if event["event"] in ("attempt begun", "outcome")), None)
    if run.done.exists() or (last and last["event"] == "outcome" and last["code"] == Exit.FINISHED):
        return "finished", ""
    try:
        if run.lease.holder():
            return "running", ""
    except OSError:
        pass
    if last is None:
        return "not started", ""
    if last["event"] == "attempt begun":
        return "lost", "its last attempt ended without a word: the process was killed, or its machine was lost"
    return combine([last["code"]]).state, "; ".join(_reasons(last))


def _reasons(outcome: Event) -> list[str]:
    return [f"{name}: {text}" for name, text in outcome.get("reasons", {}).items() if text]


def _attempts(events: Sequence[Event], metrics: Sequence[Metrics], state: str) -> list[AttemptFacts]:
    begun = {event["attempt"]: event for event in events if event["event"] == "attempt begun" and "attempt" in event}
    ended = {event["attempt"]: event for event in events if event["event"] == "outcome" and "attempt" in event}
    steps: dict[int, list[int]] = {}
    for line in metrics:
        if "loss" in line:
            steps.setdefault(int(line.get("attempt", 0)), []).append(line["step"])
    found = []
    for number, event in sorted(begun.items()):
        outcome = ended.get(number)
        if outcome is not None:
            ending = str(outcome.get("outcome", outcome["code"])).replace("_", " ")
        else:
            ending = "running" if state == "running" and number == max(begun) else "ended without a word"
        logged = steps.get(number)
        found.append(
            AttemptFacts(
                number=number,
                began=str(event.get("time", "")),
                host=str(event.get("host", "")),
                ranks=int(finite(event.get("ranks")) or 1),
                outcome=ending,
                reasons=tuple(_reasons(outcome)) if outcome else (),
                seconds=finite(outcome.get("seconds")) if outcome else None,
                steps=(logged[0], logged[-1]) if logged else None,
            )
        )
    return found


# --- failures -----------------------------------------------------------------------------------------------

_TEXTS = ("language", "kind", "request", "expected", "answer", "prompt", "where")


def _failures(path: Path) -> list[dict[str, Any]]:
    """The failures of a file, those with the most problems first."""
    try:
        lines = seal.read_lines(path)
    except OSError:
        return []
    found = []
    for line in lines:
        problems = line.get("problems")
        texts = {name: value if isinstance(value := line.get(name), str) else "" for name in _TEXTS}
        listed = [str(problem) for problem in problems] if isinstance(problems, list) else []
        found.append({**texts, "problems": listed})
    return sorted(found, key=lambda failure: -len(failure["problems"]))
