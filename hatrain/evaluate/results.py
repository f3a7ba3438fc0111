"""Rates with their intervals, over all requests and by language, device type and kind; and the failures in full."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from hatrain.evaluate.interval import Tally
from hatrain.evaluate.requests import Request
from hatrain.home.calls.answer import Answer
from hatrain.home.judge.judge import AFTER_A_CALL, NO_REFUSAL, Judgement

_COVERAGE = {True: "covered by generated data", False: "not covered"}


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

    all: Tally
    """Requests after which the home is as expected, and whose answer says what is so."""
    with_a_call: Tally
    """Those of them that need a call: without one the home would not end as expected. No other text passes here."""
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
            if not outcome.request.expected.calls
            and not outcome.judgement.questions
            and outcome.request.kind not in NO_REFUSAL
        ]
        return cls(
            all=_tally(outcomes),
            with_a_call=_tally(outcome for outcome in outcomes if outcome.judgement.call_due),
            refusals_due=len(refusals),
            refusals_right=sum(judgement.strict for judgement in refusals),
            **{name: sum(getattr(judgement, name) for judgement in judged) for name in summed},
        )

    @property
    def requests(self) -> int:
        return self.all.total

    @property
    def strict_accuracy(self) -> float | None:
        return self.all.share

    @property
    def call_accuracy(self) -> float | None:
        """The headline: of the requests that need a call, the share that is strictly right."""
        return self.with_a_call.share

    @property
    def no_call_share(self) -> float | None:
        """The most that a model that never calls can have of strict accuracy; its call accuracy is 0."""
        return _share(self.requests - self.with_a_call.total, self.requests)

    def to_dict(self) -> dict[str, Any]:
        """The rates, and the counts behind them."""
        return {
            "requests": self.requests,
            "call_requests": self.with_a_call.total,
            "different_call_requests": self.with_a_call.different,
            "call_accuracy": self.call_accuracy,
            "call_interval": list(self.with_a_call.interval),
            "no_call_share": self.no_call_share,
            "strict_accuracy": self.strict_accuracy,
            "strict_interval": list(self.all.interval),
            "same_calls_accuracy": _share(self.same_calls, self.requests),
            "compatible_accuracy": _share(self.points, self.possible_points),
            "color_mismatches": self.color_mismatches,
            "valid_json_rate": _share(self.valid_lines, self.lines),
            "known_entity_rate": _share(self.known_targets, self.targeted_calls),
            "known_service_rate": _share(self.known_services, self.called_services),
            "executed_rate": _share(self.executed_calls, self.calls),
            "answered_accuracy": _share(self.answered, self.questions),
            "refusal_accuracy": _share(self.refusals_right, self.refusals_due),
            "counts": {"strict": self.all.right, **asdict(self)},
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

    @property
    def call_accuracy(self) -> float | None:
        return self.score.call_accuracy

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


def in_words(score: Score) -> str:
    """Return the headline and what it has to be compared with, in one line."""
    if score.call_accuracy is None:
        return f"no request needs a call; strict accuracy {score.strict_accuracy or 0:.3f} on {score.requests}"
    low, high = score.with_a_call.interval
    return (
        f"accuracy {score.call_accuracy:.3f} on {score.with_a_call.total} requests that need a call "
        f"({score.with_a_call.different} different, 95% {low:.3f}-{high:.3f}); strict accuracy "
        f"{score.strict_accuracy:.3f} on all {score.requests}, at most {score.no_call_share:.3f} without a call"
    )


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


def _tally(outcomes: Iterable[Outcome]) -> Tally:
    return Tally.of((outcome.request.same_as, outcome.judgement.strict) for outcome in outcomes)


def _dicts(groups: dict[str, Score]) -> dict[str, Any]:
    return {group: score.to_dict() for group, score in groups.items()}


def _share(hits: int, total: int) -> float | None:
    return hits / total if total else None
