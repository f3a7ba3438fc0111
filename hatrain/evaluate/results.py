"""Sums judgements up: rates with their intervals, over all requests and by language, device type and kind; and the
failures in full. It knows neither models nor files."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from hatrain.evaluate.requests import AFTER_A_CALL, Request
from hatrain.home.calls.judge import Answer, Judgement

_Z = 1.959963984540054
"""The 97.5th percentile of the standard normal distribution."""

NO_REFUSAL = (AFTER_A_CALL, "status")
"""Kinds to which words alone are the answer, though nothing is refused."""


def wilson_interval(hits: int, total: int) -> tuple[float, float]:
    """Return the 95% score interval of a share, hits of total.

    (p + z²/2n ± z √(p(1-p)/n + z²/4n²)) / (1 + z²/n), from E. B. Wilson, "Probable inference, the law of
    succession, and statistical inference", JASA 22 (1927). It stays within 0..1 and has a width at 0 and at 1,
    where the textbook's p ± z √(p(1-p)/n) has none. Nothing is known of a share of nothing: (0, 1).
    """
    if total == 0:
        return 0.0, 1.0
    share, z_squared = hits / total, _Z * _Z
    middle = share + z_squared / (2 * total)
    reach = _Z * math.sqrt(share * (1 - share) / total + z_squared / (4 * total * total))
    scale = 1 + z_squared / total
    low = 0.0 if hits == 0 else (middle - reach) / scale
    high = 1.0 if hits == total else (middle + reach) / scale
    return low, high


@dataclass(frozen=True)
class Outcome:
    """One request, what the model said to it, and the verdict."""

    request: Request
    text: str
    """What the model said, as it stood."""
    answer: Answer
    tokens: int
    """Tokens generated."""
    judgement: Judgement


@dataclass(frozen=True)
class Score:
    """The figures of a group of outcomes. A rate over nothing is None."""

    requests: int
    strict: int
    """Requests of which exactly the due calls were made."""
    points: int
    possible_points: int
    color_mismatches: int
    lines: int
    valid_lines: int
    targeted_calls: int
    known_targets: int
    called_services: int
    known_services: int
    refusals_due: int
    """Requests that cannot be met: no call was due, and the row does not say that it only asks."""
    refusals_right: int
    """Those that were answered so: in words, and without a call."""

    @classmethod
    def of(cls, outcomes: Iterable["Outcome"]) -> "Score":
        """Sum the judgements of outcomes up."""
        outcomes = list(outcomes)
        judged = [outcome.judgement for outcome in outcomes]
        summed = {field.name for field in fields(cls)} & {field.name for field in fields(Judgement)}
        refusals = [
            outcome.judgement
            for outcome in outcomes
            if not outcome.judgement.call_due and outcome.request.kind not in NO_REFUSAL
        ]
        return cls(
            requests=len(judged),
            refusals_due=len(refusals),
            refusals_right=sum(judgement.strict for judgement in refusals),
            **{name: sum(getattr(judgement, name) for judgement in judged) for name in summed},
        )

    @property
    def strict_accuracy(self) -> float | None:
        """Share of requests of which exactly the due calls were made."""
        return _share(self.strict, self.requests)

    def to_dict(self) -> dict[str, Any]:
        """Return the rates and the counts they are made of, for JSON."""
        return {
            "requests": self.requests,
            "strict_accuracy": self.strict_accuracy,
            "strict_interval": list(wilson_interval(self.strict, self.requests)),
            "compatible_accuracy": _share(self.points, self.possible_points),
            "color_mismatches": self.color_mismatches,
            "valid_json_rate": _share(self.valid_lines, self.lines),
            "known_entity_rate": _share(self.known_targets, self.targeted_calls),
            "known_service_rate": _share(self.known_services, self.called_services),
            "refusal_accuracy": _share(self.refusals_right, self.refusals_due),
            "counts": {name: count for name, count in asdict(self).items() if name != "requests"},
        }


@dataclass(frozen=True)
class Evaluation:
    """What a model did with a set of requests, in the set's order."""

    outcomes: tuple[Outcome, ...]
    requests: int
    """Requests of the set; more than there are outcomes if it was stopped."""
    seconds: float
    """Wall time of the answers."""

    @property
    def complete(self) -> bool:
        """Whether every request was asked. The longest are asked first, so a part is no sample."""
        return len(self.outcomes) == self.requests

    @property
    def answers(self) -> tuple[Outcome, ...]:
        """The outcomes that answer a user, which every figure is made of.

        The word after a tool's result asks for nothing new, and a model is right there without thinking: it has
        a line among the kinds and is left out of all else, where it would flatter.
        """
        return tuple(outcome for outcome in self.outcomes if outcome.request.kind != AFTER_A_CALL)

    @property
    def score(self) -> Score:
        """The figures over all answers."""
        return Score.of(self.answers)

    @property
    def strict_accuracy(self) -> float | None:
        """Share of answers that made exactly the due calls."""
        return self.score.strict_accuracy

    def by_language(self) -> dict[str, Score]:
        """Return the figures of each language."""
        return _by(self.answers, lambda request: [request.language])

    def by_device_type(self) -> dict[str, Score]:
        """Return the figures of each device type; a request about several counts for each of them."""
        return _by(self.answers, lambda request: request.device_types)

    def by_kind(self) -> dict[str, Score]:
        """Return the figures of each kind of request."""
        return _by(self.outcomes, lambda request: [request.kind])

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the outcomes, for evaluation.json."""
        tokens = sum(outcome.tokens for outcome in self.outcomes)
        return {
            **self.score.to_dict(),
            "complete": self.complete,
            "seconds": round(self.seconds, 3),
            "generated_tokens": tokens,
            "generated_tokens_per_second": round(tokens / self.seconds, 1) if self.seconds else None,
            "by_language": _dicts(self.by_language()),
            "by_device_type": _dicts(self.by_device_type()),
            "by_kind": _dicts(self.by_kind()),
        }

    def failures(self) -> list[dict[str, Any]]:
        """Return each outcome that is not strictly right, in full, for JSON lines."""
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
        "request": request.said,
        "problems": list(outcome.judgement.problems),
        "expected": request.reply,
        "answer": outcome.text,
        "prompt": request.prompt,
    }


def _dicts(groups: dict[str, Score]) -> dict[str, Any]:
    return {group: score.to_dict() for group, score in groups.items()}


def _share(hits: int, total: int) -> float | None:
    return hits / total if total else None
