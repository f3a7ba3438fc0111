"""What a report says, as plain data: of one run, or of several side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from hatrain.contract.gpus import GIB
from hatrain.report import charts
from hatrain.report.charts import Chart
from hatrain.report.read import RunFacts, interval
from hatrain.report.several import RESULTS, best_first, clock, different, newest_test_loss, shown
from hatrain.text import count

WORST = 20
"""Failures that are shown in full."""


@dataclass(frozen=True)
class Tile:
    """One result, large."""

    name: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Table:
    """A table of texts."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Section:
    """A part of the page with its heading."""

    title: str
    text: str = ""
    table: Table | None = None
    charts: Sequence[Chart] = ()
    failures: Sequence[Mapping[str, Any]] = ()
    summary: str = ""
    code: str = ""
    """Text that is folded away under `summary`."""


@dataclass(frozen=True)
class Page:
    """A whole report."""

    title: str
    lead: str
    sections: Sequence[Section]
    state: str = ""
    reason: str = ""
    tiles: Sequence[Tile] = ()
    footer: str = ""


def of_one_run(run: RunFacts) -> Page:
    """The page of one run."""
    job = run.plan.job
    how = {"sft": "supervised fine-tuning", "dpo": "direct preference optimization"}[job.method.kind]
    what = f"LoRA of rank {job.method.lora.rank}" if job.method.lora else "all weights"
    sections = [
        _training(run),
        *_evaluation(run),
        *_failures(run),
        Section("Plan and measurement", table=_plan_and_measured(run)),
        _attempts(run),
        Section("Job", summary="The job, with every default", code=_job_yaml(run)),
    ]
    return Page(
        title=run.name,
        lead=f"{job.model.base}, {how}, {what}, {_hardware(run)}.",
        state=run.state,
        reason=run.reason,
        tiles=_tiles(run),
        sections=sections,
        footer=_footer([run]),
    )


def of_several_runs(runs: Sequence[RunFacts], title: str) -> Page:
    """The page of several runs, the best first."""
    ordered = best_first(runs)
    drawn = charts.of_several_runs(ordered)
    accuracy = charts.accuracy_of_several_runs(ordered)
    sections = [
        Section("Runs", _how_ordered(ordered), table=_comparison(ordered)),
        Section("Training", "" if drawn else "No step has been logged yet.", charts=drawn),
    ]
    if accuracy:
        sections.append(Section("Strict accuracy after training", _ACCURACY, charts=accuracy))
    return Page(
        title=title,
        lead=f"{count(len(runs), 'run')} side by side, the best first.",
        sections=sections,
        footer=_footer(ordered),
    )


# --- one run ------------------------------------------------------------------------------------------------


def _tiles(run: RunFacts) -> list[Tile]:
    tiles = [*_accuracy(run, "Right where a call is needed", "call_accuracy", "call_interval")]
    tiles += _accuracy(run, "Strict accuracy", "strict_accuracy", "strict_interval")
    before_loss = run.test_loss("before")
    if (test_loss := newest_test_loss(run)) is not None:
        note = f"before training {before_loss:.3f}" if before_loss is not None else ""
        tiles.append(Tile("Test loss", f"{test_loss:.3f}", note))
    if (loss := run.last("loss")) is not None:
        tiles.append(Tile("Training loss", f"{loss:.4f}", "of the last logged step"))
    if run.metrics:
        step, steps = run.metrics[-1]["step"], run.metrics[-1].get("steps", 0)
        tiles.append(Tile("Step", f"{step:,}", f"of {steps:,}"))
    if tokens := RESULTS["tokens_per_second"].text(run):
        tiles.append(Tile("Tokens per second", tokens, "mean of the logged steps"))
    if run.seconds:
        tiles.append(Tile("Time", clock(run.seconds), f"in {count(len(run.attempts), 'attempt')}"))
    return tiles


def _accuracy(run: RunFacts, title: str, name: str, name_of_interval: str) -> list[Tile]:
    """An accuracy after training with its interval, where it was measured."""
    accuracy, before = run.figure("after", name), run.figure("before", name)
    if accuracy is None:
        return []
    bounds = interval(run.evaluation["after"], name_of_interval)
    notes = [f"{bounds[0]:.1%} to {bounds[1]:.1%}"] if bounds else []
    notes += [f"before training {before:.1%}"] if before is not None else []
    return [Tile(title, f"{accuracy:.1%}", ", ".join(notes))]


def _training(run: RunFacts) -> Section:
    drawn = charts.of_one_run(run)
    skipped = [event for event in run.events if event["event"] == "step skipped"]
    text = "" if drawn else "No step has been logged yet."
    if skipped:
        steps = ", ".join(str(event["step"]) for event in skipped[:20])
        text = f"{count(len(skipped), 'step')} skipped, for the loss or the gradient was no finite number: {steps}."
    return Section("Training", text, charts=drawn)


_ACCURACY = (
    "The share of requests after which the home is exactly as the user wanted. The thin lines are 95% intervals."
)
_SHARES = {
    "call_accuracy": "right where a call is needed",
    "strict_accuracy": "strict accuracy",
    "no_call_share": "what a model that never calls has at most",
    "answered_accuracy": "questions answered",
    "refusal_accuracy": "refusals",
    "executed_rate": "calls executed",
    "same_calls_accuracy": "the same calls",
    "valid_json_rate": "calls in valid JSON",
}


def _evaluation(run: RunFacts) -> list[Section]:
    if "skipped" in run.evaluation:
        return [Section("Evaluation", f"Not evaluated: {run.evaluation['skipped']}.")]
    if not run.evaluation:
        return [Section("Evaluation", "Not evaluated.")]
    rows = []
    for key, name in _SHARES.items():
        values = [run.figure(when, key) for when in ("before", "after")]
        if any(value is not None for value in values):
            rows.append([name, *("" if value is None else f"{value:.1%}" for value in values)])
    requests = [run.figure(when, "requests") for when in ("before", "after")]
    rows.append(["requests", *("" if value is None else f"{value:,}" for value in requests)])
    table = Table(["figure", "before training", "after training"], rows)
    return [Section("Evaluation", _ACCURACY, table=table, charts=charts.accuracy_of_one_run(run))]


def _failures(run: RunFacts) -> list[Section]:
    if not run.failures:
        return []
    kinds: dict[str, int] = {}
    for failure in run.failures:
        kind = failure["kind"] or "of no kind"
        kinds[kind] = kinds.get(kind, 0) + 1
    shown = ", ".join(f"{kind} {number}" for kind, number in sorted(kinds.items(), key=lambda item: -item[1]))
    total = len(run.failures)
    worst = f"The {WORST} with the most problems are shown" if total > WORST else "Those with the most problems first"
    return [
        Section(
            "Failures",
            f"{count(total, 'request')} not answered strictly right after training: {shown}. {worst}; all are in "
            "failures-after.jsonl.",
            failures=run.failures[:WORST],
        )
    ]


def _attempts(run: RunFacts) -> Section:
    rows = [
        [
            str(attempt.number),
            attempt.began.replace("T", " ").removesuffix("+00:00"),
            attempt.host,
            str(attempt.ranks),
            f"{attempt.steps[0]:,} to {attempt.steps[1]:,}" if attempt.steps else "",
            clock(attempt.seconds) if attempt.seconds is not None else "",
            attempt.outcome + "".join(f"; {reason}" for reason in attempt.reasons),
        ]
        for attempt in run.attempts
    ]
    if not rows:
        return Section("Attempts", "None has begun.")
    header = ["attempt", "began (UTC)", "host", "ranks", "logged steps", "time", "outcome"]
    passed = [event for event in run.events if event["event"] == "checkpoint passed over"]
    lines = [f"{event.get('checkpoint')} was not whole and was passed over: {event.get('reason')}" for event in passed]
    failed = [event for event in run.events if event["event"] == "tracker failed"]
    lines += [f"{event.get('tracker')} could not go on tracking: {event.get('reason')}" for event in failed]
    text = " ".join(f"{line.rstrip('.')}." for line in lines)
    return Section("Attempts", text, table=Table(header, rows))


def _plan_and_measured(run: RunFacts) -> Table:
    """What the plan said beside what was measured; a cell is empty where one of them is not known."""
    plan, rows = run.plan, []
    last = run.metrics[-1] if run.metrics else {}
    planned_steps = f"{plan.steps.total:,}" if plan.steps else ""
    measured = f"{last['step']:,} of {last.get('steps', 0):,}" if last else ""
    rows.append(["optimizer steps", planned_steps, measured])
    batch = plan.batch
    rows.append(
        [
            "rows in a step",
            f"{batch.rows_per_step} = {batch.micro_batch_size} × {batch.accumulation} × {count(batch.ranks, 'rank')}",
            "",
        ]
    )
    rows.append(["time", clock(plan.seconds) if plan.seconds else "", clock(run.seconds) if run.seconds else ""])
    rows.append(["tokens per second", "", RESULTS["tokens_per_second"].text(run)])
    rows.append(["peak memory", *_memory(run)])
    tensors = [event for event in run.events if event["event"] == "memory"]
    if tensors:
        predicted = tensors[-1].get("predicted")
        rows.append(
            [
                f"memory of torch on {tensors[-1]['device']}",
                f"{predicted / GIB:.2f} GiB" if predicted else "",
                f"{max(event['allocated'] for event in tensors) / GIB:.2f} GiB allocated, "
                f"{max(event['reserved'] for event in tensors) / GIB:.2f} GiB reserved",
            ]
        )
    return Table(["", "planned", "measured"], [row for row in rows if any(row[1:])])


def _memory(run: RunFacts) -> tuple[str, str]:
    memory = run.plan.memory
    planned = f"{memory.total / GIB:.2f} of {memory.gpu / GIB:.0f} GiB" if memory else ""
    return planned, RESULTS["memory"].text(run)


def _job_yaml(run: RunFacts) -> str:
    return yaml.safe_dump(run.plan.job.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=100)


def _hardware(run: RunFacts) -> str:
    plan, gpu = run.plan, run.plan.job.hardware.gpu
    if plan.device == "cpu":
        return f"{count(plan.world_size, 'process', 'processes')} without a GPU"
    nodes = f" on {plan.nodes} nodes" if plan.nodes > 1 else ""
    sharding = f", {plan.sharding}" if plan.world_size > 1 else ""
    return f"{plan.world_size} × {gpu}{nodes}{sharding}"


def _footer(runs: Sequence[RunFacts]) -> str:
    versions: dict[str, None] = {}
    for run in runs:
        for event in run.events:
            if event["event"] == "attempt begun" and isinstance(event.get("versions"), dict):
                versions |= {f"{name} {version}": None for name, version in event["versions"].items()}
    return f"Written by hatrain. Trained with {', '.join(versions)}." if versions else "Written by hatrain."


# --- several runs -------------------------------------------------------------------------------------------


_DIFFERENT = "After the name come the keys in which their jobs differ."


def _how_ordered(runs: Sequence[RunFacts]) -> str:
    if any(run.figure("after", "strict_accuracy") is not None for run in runs):
        return f"Ordered by accuracy, then by test loss. {_DIFFERENT}"
    return f"Ordered by test loss, then by training loss. {_DIFFERENT}"


def _comparison(runs: Sequence[RunFacts]) -> Table:
    columns: dict[str, list[str]] = {
        "run": [run.name for run in runs],
        **{key: [*map(shown, values)] for key, values in different([run.plan.job for run in runs]).items()},
        "state": [run.state for run in runs],
        **{result.title: [*map(result.text, runs)] for result in RESULTS.values()},
    }
    filled = {name: cells for name, cells in columns.items() if any(cells)}
    return Table([*filled], [*zip(*filled.values(), strict=True)])
