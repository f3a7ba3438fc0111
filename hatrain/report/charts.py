"""The charts of a report as data: curves over steps, and bars of accuracy by group. page.js draws them with plotly, in
the colours of light or dark."""

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hatrain.contract.gpus import GIB
from hatrain.report.read import RunFacts, groups, interval
from hatrain.report.thin import thinned

POINTS = 2000
"""At most, of a curve."""
POINTS_OF_A_CHART = 24_000
"""At most, of all curves of a chart together."""
COLORS = 6
"""Colours of the palette; further curves repeat them in other dashes."""
DASHES = ("solid", "dash", "dot", "dashdot")
RUNS_WITH_BARS = 8
"""Up to so many runs are compared by bars: more cannot be read."""
GROUPS = {"by_language": "By language", "by_device_type": "By device type", "by_kind": "By kind of request"}
"""The groups of an evaluation that are drawn, with their titles."""


@dataclass(frozen=True)
class Curve:
    """Values over steps."""

    name: str
    steps: Sequence[int]
    values: Sequence[float]


@dataclass(frozen=True)
class Chart:
    """A chart as page.js reads it."""

    id: str
    title: str
    spec: Mapping[str, Any]
    is_thinned: bool = False
    note: str = ""


@dataclass(frozen=True)
class _Figure:
    """What a chart of curves shows: of one run these names of metrics, of several runs the first."""

    id: str
    title: str
    unit: str
    metrics: Mapping[str, str]
    """Name in metrics.jsonl → name in the legend."""
    scale: float = 1.0
    from_zero: bool = False
    may_be_logarithmic: bool = False
    note: str = ""


_FIGURES = (
    _Figure("loss", "Loss", "loss", {"loss": "training", "test_loss": "test"}, may_be_logarithmic=True),
    _Figure("accuracy", "Accuracy of test requests", "share", {"test_accuracy": "test requests"}, from_zero=True),
    _Figure(
        "rewards",
        "Accuracy of the rewards",
        "share",
        {"rewards/accuracies": "training", "test_rewards/accuracies": "test"},
    ),
    _Figure(
        "margins", "Margin of the rewards", "reward", {"rewards/margins": "training", "test_rewards/margins": "test"}
    ),
    _Figure("learning-rate", "Learning rate", "learning rate", {"learning_rate": "learning rate"}),
    _Figure("gradient", "Gradient norm", "norm", {"gradient_norm": "gradient norm"}, may_be_logarithmic=True),
    _Figure(
        "throughput",
        "Throughput",
        "tokens per second",
        {"tokens_per_second": "all tokens", "supervised_tokens_per_second": "tokens trained on"},
        from_zero=True,
        note="Of all ranks together, without evaluations and checkpoints.",
    ),
    _Figure(
        "memory",
        "Memory",
        "GiB",
        {"memory": "peak so far"},
        scale=1 / GIB,
        from_zero=True,
        note="Of the first rank: memory of its GPU that torch has allocated, or of its process where there is no GPU.",
    ),
)
_TEST_LOSS = _Figure("test-loss", "Test loss", "loss", {"test_loss": "test"}, may_be_logarithmic=True)


def of_one_run(run: RunFacts) -> list[Chart]:
    """The curves of a run. Where another attempt went on is marked."""
    marks = [[attempt.steps[0], f"attempt {attempt.number}"] for attempt in run.attempts[1:] if attempt.steps]
    charts = []
    for figure in _FIGURES:
        curves = [_curve(run, metric, name, figure.scale) for metric, name in figure.metrics.items()]
        charts += _chart(figure, curves, marks)
    return charts


def of_several_runs(runs: Sequence[RunFacts]) -> list[Chart]:
    """The curves of several runs, one over the other. A run has the same colour in each chart."""
    charts = []
    for figure in (_FIGURES[0], _TEST_LOSS, *_FIGURES[1:]):
        metric = next(iter(figure.metrics))
        charts += _chart(figure, [_curve(run, metric, run.name, figure.scale) for run in runs], [])
    return charts


def accuracy_of_one_run(run: RunFacts) -> list[Chart]:
    """Bars of strict accuracy by language, device type and kind, before and after training."""
    evaluations = {
        f"{when} training": (run.evaluation, when)
        for when in ("before", "after")
        if isinstance(run.evaluation.get(when), dict)
    }
    return _bars(evaluations, first_color=2 - len(evaluations))


def accuracy_of_several_runs(runs: Sequence[RunFacts]) -> list[Chart]:
    """Bars of strict accuracy after training, by language, device type and kind, for each run."""
    evaluations = {run.name: (run.evaluation, "after") for run in runs if isinstance(run.evaluation.get("after"), dict)}
    return _bars(evaluations) if 0 < len(evaluations) <= RUNS_WITH_BARS else []


# --- curves -------------------------------------------------------------------------------------------------


def _curve(run: RunFacts, metric: str, name: str, scale: float) -> Curve:
    points = {line["step"]: line[metric] * scale for line in run.metrics if metric in line}
    if metric == "test_loss":
        ends = {"before": 0, "after": run.metrics[-1]["step"] if run.metrics else 0}
        known = {step: run.test_loss(when) for when, step in ends.items()}
        points = {**points, **{step: loss for step, loss in known.items() if loss is not None}}
    order = sorted(points)
    return Curve(name, order, [points[step] for step in order])


def _chart(figure: _Figure, curves: Sequence[Curve], marks: Sequence[Sequence[Any]]) -> list[Chart]:
    """One chart, or none where nothing was logged."""
    drawn = [(number, curve) for number, curve in enumerate(curves) if curve.steps]
    if not drawn:
        return []
    most = max(20, min(POINTS, POINTS_OF_A_CHART // len(drawn)))
    values = [value for _, curve in drawn for value in curve.values]
    is_logarithmic = figure.may_be_logarithmic and min(values) > 0 and max(values) > 10 * min(values)
    traces = []
    for number, curve in drawn:
        steps, kept = thinned(curve.steps, curve.values, most)
        style = {"color": number % COLORS, "dash": DASHES[number // COLORS % len(DASHES)]}
        traces.append({"name": plain(curve.name), "x": steps, "y": [_short(value) for value in kept], **style})
    spec = {
        "kind": "lines",
        "unit": figure.unit,
        "log": is_logarithmic,
        "zero": figure.from_zero,
        "traces": traces,
        "marks": marks,
    }
    return [Chart(figure.id, figure.title, spec, any(len(curve.steps) > most for _, curve in drawn), figure.note)]


def _short(value: float) -> float:
    """Five digits: more cannot be seen, and make the page twice as large."""
    return float(f"{value:.5g}")


# --- bars ---------------------------------------------------------------------------------------------------


def _bars(evaluations: Mapping[str, tuple[Mapping[str, Any], str]], first_color: int = 0) -> list[Chart]:
    """Bars for each evaluation, at the time of training that is given with it."""
    charts = []
    for by, title in GROUPS.items():
        found = {name: groups(evaluation, when, by) for name, (evaluation, when) in evaluations.items()}
        labels = sorted({label for scores in found.values() for label in scores})
        if not labels:
            continue
        traces = []
        for number, (name, scores) in enumerate(found.items(), start=first_color):
            shares = [scores[label]["strict_accuracy"] if label in scores else None for label in labels]
            bounds = [interval(scores[label]) if label in scores else None for label in labels]
            reach = [
                (max(0.0, share - low), max(0.0, high - share))
                for share, (low, high) in (
                    (share or 0.0, bound or (share or 0.0, share or 0.0))
                    for share, bound in zip(shares, bounds, strict=True)
                )
            ]
            counts = [_requests(scores.get(label)) for label in labels]
            traces.append(
                {
                    "name": plain(name),
                    "x": shares,
                    "y": [plain(label) for label in labels],
                    "low": [below for below, _ in reach],
                    "high": [above for _, above in reach],
                    "counts": counts,
                    "color": number % COLORS,
                }
            )
        spec = {"kind": "bars", "traces": traces}
        charts.append(Chart(by.replace("_", "-"), title, spec))
    return charts


def _requests(score: Mapping[str, Any] | None) -> str:
    counted = score.get("requests") if score else None
    return f"{counted:,} requests" if isinstance(counted, int) else ""


def plain(text: str) -> str:
    """A text for plotly, which reads some HTML in names: no tag is left, and nothing that it would link."""
    return html.escape(text, quote=False)
