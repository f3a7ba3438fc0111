"""An evaluation as tables on a terminal."""

from collections.abc import Iterable, Iterator, Mapping

from rich.console import Console
from rich.table import Table

from hatrain.evaluate.results import Evaluation, Score
from hatrain.text import count

_WIDTH = 110
"""Characters per line, where the output is not a terminal."""

_HEADLINE = ("need\na call", "right", "95%", "requests", "strict")
_RATES = {
    "answered": "answered_accuracy",
    "refusal": "refusal_accuracy",
    "executed": "executed_rate",
    "JSON": "valid_json_rate",
}
_BESIDE = {
    "same calls": "same_calls_accuracy",
    "compatible": "compatible_accuracy",
    "entity": "known_entity_rate",
}
"""Columns: heading and the key of the figure."""


def show(evaluations: Mapping[str, Evaluation]) -> None:
    """Print a line for each evaluation, and the groups of the last one."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH)
    scores = {name: evaluation.score for name, evaluation in evaluations.items()}
    console.print(_table("", scores))
    console.print(_rates("", scores))
    *_, last = evaluations.values()
    for title, groups in (
        ("by language", last.by_language()),
        ("by device type", last.by_device_type()),
        ("by kind of request", last.by_kind()),
        ("by coverage", last.by_coverage()),
    ):
        if len(groups) > 1:
            console.print(_table(title, groups))
    for note in notes(last):
        console.print(note)


def notes(evaluation: Evaluation) -> Iterator[str]:
    """Yield what qualifies the figures, a line each."""
    score = evaluation.score
    needed = score.with_a_call
    if needed.different < needed.total:
        yield f"{needed.total} requests that need a call, {needed.different} different: the interval counts those"
    if score.no_call_share:
        yield f"a model that never calls: strict at most {score.no_call_share:.3f}, and 0 where a call is needed"
    unanswered = sum(outcome.tokens == 0 for outcome in evaluation.outcomes)
    if unanswered:
        yield f"{count(unanswered, 'request')} longer than the model's context: counted as unanswered"
    if evaluation.cut_answers:
        yield f"{count(evaluation.cut_answers, 'answer')} cut at the limit of tokens: counted as wrong"
    if mismatches := score.color_mismatches:
        yield f"{count(mismatches, 'compatible point')} given despite another colour"
    if not evaluation.complete:
        yield f"stopped after {len(evaluation.outcomes)} of {evaluation.requests} requests, the longest first"


def _table(title: str, scores: Mapping[str, Score]) -> Table:
    """The headline, strict accuracy over all requests, and rates beside them."""
    table = _drawn(title, (*_HEADLINE, *_RATES))
    for name, score in scores.items():
        low, high = score.with_a_call.interval
        rates = score.to_dict()
        table.add_row(
            name,
            str(score.with_a_call.total),
            _percent(score.call_accuracy),
            f"{low:.3f}-{high:.3f}" if score.with_a_call.total else "-",
            str(score.requests),
            _percent(score.strict_accuracy),
            *(_percent(rates[key]) for key in _RATES.values()),
        )
    return table


def _rates(title: str, scores: Mapping[str, Score]) -> Table:
    table = _drawn(title, tuple(_BESIDE))
    for name, score in scores.items():
        rates = score.to_dict()
        table.add_row(name, *(_percent(rates[key]) for key in _BESIDE.values()))
    return table


def _drawn(title: str, columns: Iterable[str]) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    table.add_column("")
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _percent(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:.3f}"
