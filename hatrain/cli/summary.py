"""The results of a run, read from its directory."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hatrain.contract.run import RunDirectory
from hatrain.errors import BadInput
from hatrain.report.read import read_evaluation, read_metrics


def rows(run: RunDirectory) -> Iterator[tuple[str, str, str]]:
    """(name, value before training, value after)."""
    losses = {event["when"]: event["loss"] for event in run.events() if event.get("event") == "test loss"}
    if losses:
        before, after = (_number(losses.get(when), "{:.3f}") for when in ("before", "after"))
        yield "test loss", before, after
    evaluation = read_evaluation(run)
    if "after" in evaluation:
        figures = [evaluation.get(when, {}) for when in ("before", "after")]
        yield from _accuracies(*figures)
    elif "skipped" in evaluation:
        yield "strict accuracy", "not evaluated", evaluation["skipped"]
    kept = next((event for event in reversed(run.events()) if event["event"] == "kept"), None)
    if kept and kept["keep"] == "best":
        yield "kept", "", f"step {kept['step']:,} of {kept['trained']:,}"
    speeds = [line["tokens_per_second"] for line in read_metrics(run) if "tokens_per_second" in line]
    if speeds:
        yield "tokens per second", "", f"{sum(speeds) / len(speeds):,.0f}"


def _accuracies(before: dict[str, Any], after: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """The headline and what it has to be compared with. Runs of earlier releases have strict accuracy alone."""

    def both(name: str, key: str) -> tuple[str, str, str]:
        return name, _number(before.get(key), "{:.1%}"), _number(after.get(key), "{:.1%}")

    if needed := after.get("call_requests"):
        yield both("right where a call is needed", "call_accuracy")
        counts = f"  95%, of {needed} requests, {after.get('different_call_requests')} different"
        yield counts, _interval(before.get("call_interval")), _interval(after.get("call_interval"))
    yield both(f"strict accuracy ({after.get('requests')} requests)", "strict_accuracy")
    if after.get("no_call_share"):
        yield both("  a model that never calls has at most", "no_call_share")


def results(run: RunDirectory) -> dict[str, str]:
    """Values for a comparison, by name."""
    events, logged = run.events(), read_metrics(run)
    steps = [line for line in logged if "loss" in line]
    seconds = int(sum(event.get("seconds", 0) for event in events if event["event"] == "outcome"))
    values = {
        "attempts": str(len(run.all_attempts())),
        "steps": f"{steps[-1]['step']:,}/{steps[-1].get('steps', 0):,}" if steps else "",
        "loss, last step": _number(steps[-1]["loss"] if steps else None, "{:.4f}"),
        **{f"{name}, after" if before else name: after for name, before, after in rows(run)},
        **{f"{name}, after": share for name, share in _answers(run).items()},
        "memory": _number(
            max((line["memory"] / 2**30 for line in logged if "memory" in line), default=None), "{:.2f} GiB"
        ),
        "time": f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}" if seconds else "",
    }
    return {name: value for name, value in values.items() if value}


def _answers(run: RunDirectory) -> dict[str, str]:
    """What is reported beside strict accuracy, of the trained model."""
    after = read_evaluation(run).get("after", {})
    figures = {
        "questions answered": "answered_accuracy",
        "refusals": "refusal_accuracy",
        "calls executed": "executed_rate",
        "the same calls": "same_calls_accuracy",
    }
    return {name: _number(after.get(key), "{:.1%}") for name, key in figures.items()}


def table(run: RunDirectory) -> Any:
    from rich.table import Table

    drawn = Table(title=run.name, title_justify="left")
    drawn.add_column("")
    drawn.add_column("before", justify="right")
    drawn.add_column("after", justify="right")
    for row in rows(run):
        drawn.add_row(*row)
    return drawn


def paths(run: RunDirectory, workdir: Path | None = None) -> list[tuple[str, str]]:
    """(name, path) of the files that a user looks for after a run, relative to `workdir` where possible. Empty for a
    run whose plan this version cannot read."""
    attempts = run.all_attempts()
    try:
        result = run.result(run.job())
    except BadInput:
        return []
    named = [
        ("model", result),
        ("checkpoints", None if result.is_dir() else run.checkpoints),
        ("log", attempts[-1].folder / "log.txt" if attempts else None),
        ("TensorBoard", run.tensorboard),
        ("evaluation", run.evaluation),
        ("export", run.export),
        ("report", run.report),
        ("record", run.record_file),
    ]
    return [(name, _relative(path, workdir)) for name, path in named if path is not None and path.exists()]


def _relative(path: Path, workdir: Path | None) -> str:
    return str(path.relative_to(workdir)) if workdir and path.is_relative_to(workdir) else str(path)


def _interval(value: Any) -> str:
    ends = [_number(end, "{:.1%}") for end in value] if isinstance(value, list) else []
    return " - ".join(ends)


def _number(value: Any, form: str) -> str:
    return form.format(value) if isinstance(value, int | float) else ""
