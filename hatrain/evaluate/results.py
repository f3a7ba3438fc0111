"""Rates with their intervals, over all requests and by language, device type and kind; and the failures in full."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from hatrain.evaluate.requests import Request
from hatrain.home.calls.answer import Answer
from hatrain.home.judge.judge import AFTER_A_CALL, NO_REFUSAL, Judgement

_Z = 1.959963984540054
"""The 97.5th percentile of the standard normal distribution."""
_COVERAGE = {True: "covered by generated data", False: "not covered"}


def wilson_interval(hits: int, total: int) -> tuple[float, float]:
    """Return the 95% score interval of a share, hits of total.

    (p + z²/2n ± z √(p(1-p)/n + z²/4n²)) / (1 + z²/n), from E. B. Wilson, "Probable inference, the law of
    succession, and statistical inference", JASA 22 (1927). Unlike p ± z √(p(1-p)/n) it stays within 0..1 and has a
    width at 0 and at 1. With a total of 0 it is (0, 1).
    """
    if total == 0:
        return 0.0, 1.0
    share, z_squared = hits / total, _Z * _Z
    centre = share + z_squared / (2 * total)
    reach = _Z * math.sqrt(share * (1 - share) / total + z_squared / (4 * total * total))
    scale = 1 + z_squared / total
    low = 0.0 if hits == 0 else (centre - reach) / scale
    high = 1.0 if hits == total else (centre + reach) / scale
    return low, high


@dataclass(frozen=True)
class Outcome:
    """One request, the model's answer and the verdict."""

    request: Request
    text: str
    """The answer, unparsed."""
    answer: Answer
    tokens: int
    """Tokens generated."""
    judgement: Judgement


@dataclass(frozen=True)
class Score:
    """The figures of a group of outcomes. A rate over no cases is None."""

    requests: int
    strict: int
    """Requests after which the home is as expected, and whose answer says what is so."""
    same_calls: int
    """Requests that got exactly the expected calls, compared as they are written."""
    points: int
    possible_points: int
    color_mismatches: int
    lines: int
    valid_lines: int
    targeted_calls: int
    known_targets: int
    called_services: int
    known_services: int
    calls: int
    executed_calls: int
    """Calls that the client carries out."""
    questions: int
    answered: int
    """Questions whose answer says the value that is asked for, and no other."""
    refusals_due: int
    """Requests that cannot be met: no call is expected, nothing is asked, and the kind is not in NO_REFUSAL."""
    refusals_right: int
    """Those answered in text that claims nothing, without a call that does something."""

    @classmethod
    def of(cls, outcomes: Iterable["Outcome"]) -> "Score":
        outcomes = list(outcomes)
        judged = [outcome.judgement for outcome in outcomes]
        summed = {field.name for field in fields(cls)} & {field.name for field in fields(Judgement)}
        refusals = [
            outcome.judgement
            for outcome in outcomes
            if not outcome.judgement.call_due
            and not outcome.judgement.questions
            and outcome.request.kind not in NO_REFUSAL
        ]
        return cls(
            requests=len(judged),
            refusals_due=len(refusals),
            refusals_right=sum(judgement.strict for judgement in refusals),
            **{name: sum(getattr(judgement, name) for judgement in judged) for name in summed},
        )

    @property
    def strict_accuracy(self) -> float | None:
        return _share(self.strict, self.requests)

    def to_dict(self) -> dict[str, Any]:
        """The rates, and the counts behind them."""
        return {
            "requests": self.requests,
            "strict_accuracy": self.strict_accuracy,
            "strict_interval": list(wilson_interval(self.strict, self.requests)),
            "same_calls_accuracy": _share(self.same_calls, self.requests),
            "compatible_accuracy": _share(self.points, self.possible_points),
            "color_mismatches": self.color_mismatches,
            "valid_json_rate": _share(self.valid_lines, self.lines),
            "known_entity_rate": _share(self.known_targets, self.targeted_calls),
            "known_service_rate": _share(self.known_services, self.called_services),
            "executed_rate": _share(self.executed_calls, self.calls),
            "answered_accuracy": _share(self.answered, self.questions),
            "refusal_accuracy": _share(self.refusals_right, self.refusals_due),
            "counts": {name: count for name, count in asdict(self).items() if name != "requests"},
        }


@dataclass(frozen=True)
class Evaluation:
    """The outcomes of a set of requests, in the set's order."""

    outcomes: tuple[Outcome, ...]
    requests: int
    """Requests of the set; more than outcomes if it was stopped."""
    seconds: float
    """Wall time of generation."""

    @property
    def complete(self) -> bool:
        """Whether every request was answered. The longest come first, so a part is not a random sample."""
        return len(self.outcomes) == self.requests

    @property
    def cut_answers(self) -> int:
        """Answers that were cut at the limit of tokens, before their end. They are wrong."""
        return sum(not outcome.answer.ended for outcome in self.outcomes)

    @property
    def answers(self) -> tuple[Outcome, ...]:
        """The outcomes that answer a user, which all figures are computed from.

        A turn after a tool's result is easy: it needs no call. It is one of the kinds, and in no other figure.
        """
        return tuple(outcome for outcome in self.outcomes if outcome.request.kind != AFTER_A_CALL)

    @property
    def score(self) -> Score:
        return Score.of(self.answers)

    @property
    def strict_accuracy(self) -> float | None:
        return self.score.strict_accuracy

    def by_language(self) -> dict[str, Score]:
        return _by(self.answers, lambda request: [request.language])

    def by_device_type(self) -> dict[str, Score]:
        """A request about several device types counts for each of them."""
        return _by(self.answers, lambda request: request.device_types)

    def by_kind(self) -> dict[str, Score]:
        return _by(self.outcomes, lambda request: [request.kind])

    def by_coverage(self) -> dict[str, Score]:
        """Kinds of request that generated data has, and those that it lacks; empty where the rows do not say."""
        return _by(self.answers, lambda request: [] if request.covered is None else [_COVERAGE[request.covered]])

    def to_dict(self) -> dict[str, Any]:
        """Everything but the outcomes, for evaluation.json."""
        tokens = sum(outcome.tokens for outcome in self.outcomes)
        return {
            **self.score.to_dict(),
            "complete": self.complete,
            "cut_answers": self.cut_answers,
            "seconds": round(self.seconds, 3),
            "generated_tokens": tokens,
            "generated_tokens_per_second": round(tokens / self.seconds, 1) if self.seconds else None,
            "by_language": _dicts(self.by_language()),
            "by_device_type": _dicts(self.by_device_type()),
            "by_kind": _dicts(self.by_kind()),
            "by_coverage": _dicts(self.by_coverage()),
        }

    def failures(self) -> list[dict[str, Any]]:
        """Each outcome that is not strictly right, for failures.jsonl."""
        return [_failure(outcome) for outcome in self.outcomes if not outcome.judgement.strict]


def _by(outcomes: Iterable[Outcome], groups_of: Callable[[Request], Sequence[str]]) -> dict[str, Score]:
    groups: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        for group in groups_of(outcome.request):
            groups.setdefault(group, []).append(outcome)
    return {group: Score.of(groups[group]) for group in sorted(groups)}


def _failure(outcome: Outcome) -> dict[str, Any]:
    request = outcome.request
    return {
        "where": request.where,
        "turn": request.turn,
        "language": request.language,
        "kind": request.kind,
        "device_types": list(request.device_types),
        "request": request.user_text,
        "problems": list(outcome.judgement.problems),
        "expected": request.reply,
        "answer": outcome.text,
        "prompt": request.prompt,
    }


def _dicts(groups: dict[str, Score]) -> dict[str, Any]:
    return {group: score.to_dict() for group, score in groups.items()}


def _share(hits: int, total: int) -> float | None:
    return hits / total if total else None
