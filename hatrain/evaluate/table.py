"""An evaluation as tables on a terminal."""

from collections.abc import Iterator, Mapping

from rich.console import Console
from rich.table import Table

from hatrain.evaluate.results import Evaluation, Score, wilson_interval
from hatrain.text import count

_WIDTH = 110
"""Characters per line, where the output is not a terminal."""

_RATES = {
    "answered": "answered_accuracy",
    "refusal": "refusal_accuracy",
    "executed": "executed_rate",
    "same calls": "same_calls_accuracy",
    "compatible": "compatible_accuracy",
    "JSON": "valid_json_rate",
    "entity": "known_entity_rate",
}
"""Columns: heading and the key of the figure."""


def show(evaluations: Mapping[str, Evaluation]) -> None:
    """Print a line for each evaluation, and the groups of the last one."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH)
    console.print(_table("", {name: evaluation.score for name, evaluation in evaluations.items()}))
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
    unanswered = sum(outcome.tokens == 0 for outcome in evaluation.outcomes)
    if unanswered:
        yield f"{count(unanswered, 'request')} longer than the model's context: counted as unanswered"
    if evaluation.cut_answers:
        yield f"{count(evaluation.cut_answers, 'answer')} cut at the limit of tokens: counted as wrong"
    if mismatches := evaluation.score.color_mismatches:
        yield f"{count(mismatches, 'compatible point')} given despite another colour"
    if not evaluation.complete:
        yield f"stopped after {len(evaluation.outcomes)} of {evaluation.requests} requests, the longest first"


def _table(title: str, scores: Mapping[str, Score]) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    table.add_column("")
    for column in ("requests", "strict", "95%", *_RATES):
        table.add_column(column, justify="right")
    for name, score in scores.items():
        rates = score.to_dict()
        low, high = wilson_interval(score.strict, score.requests)
        table.add_row(
            name,
            str(score.requests),
            _percent(rates["strict_accuracy"]),
            f"{low:.3f}-{high:.3f}",
            *(_percent(rates[key]) for key in _RATES.values()),
        )
    return table


def _percent(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:.3f}"
