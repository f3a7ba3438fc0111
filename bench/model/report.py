"""The table of the benchmark, in Markdown, and the same facts as JSON."""

import json
import os
import platform
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench.machine import processor
from bench.model.stages import Stages
from hatrain.contract.run import RunDirectory
from hatrain.report.read import read_metrics
from hatrain.runtime import seal


@dataclass(frozen=True)
class Trained:
    """One run: how many rows, what it took, and its figures before and after (evaluation.json)."""

    rows: int
    seconds: float
    """Of all attempts, with the evaluations before and after."""
    memory: int
    """Bytes, the largest of a training step."""
    tokens_per_second: float
    figures: Mapping[str, Any]

    @classmethod
    def of(cls, run: RunDirectory) -> "Trained":
        logged = read_metrics(run)
        speeds = [line["tokens_per_second"] for line in logged if "tokens_per_second" in line]
        return cls(
            rows=int(run.name.rpartition("-")[2]),
            seconds=sum(event.get("seconds", 0) for event in run.events() if event["event"] == "outcome"),
            memory=max((int(line["memory"]) for line in logged if "memory" in line), default=0),
            tokens_per_second=sum(speeds) / len(speeds) if speeds else 0.0,
            figures=_read(run.evaluation),
        )


@dataclass(frozen=True)
class Facts:
    """What one size measured."""

    size: str
    trained: tuple[Trained, ...]
    export: Mapping[str, Any]
    others: Mapping[str, Mapping[str, Any]]
    """By the name of a test set: the figures before and after training, of the last run."""
    merge_error: float
    tied: bool
    """Whether the merged model has one matrix for embedding and head, as its base has."""


def is_tied(run: RunDirectory) -> bool:
    from safetensors import safe_open

    with safe_open(run.model / "model.safetensors", framework="pt") as file:
        names = set(file.keys())
    config = _read(run.model / "config.json")
    return bool(config.get("tie_word_embeddings")) and "lm_head.weight" not in names


def write(facts: Facts, path: Path) -> None:
    seal.write_json(path, asdict(facts))


def table(facts: Facts, stages: Stages) -> str:
    parts = (_head(facts), _house(facts), _others(facts), _files(facts), _times(facts, stages))
    return "\n\n".join(filter(None, map("\n".join, parts)))


def _head(facts: Facts) -> Iterator[str]:
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "peft"))
    yield (
        f"`make bench-model SIZE={facts.size}` on {processor()}, {len(os.sched_getaffinity(0))} cores (load averages "
        f"at the end {load}), Python {platform.python_version()}, {versions}."
    )


def _house(facts: Facts) -> Iterator[str]:
    base = facts.trained[0].figures["before"]
    columns = [base, *(each.figures["after"] for each in facts.trained)]
    names = ["untrained", *(f"{each.rows} rows" for each in facts.trained)]
    yield f"| demo's house, unseen phrases | {' | '.join(names)} |"
    yield "|---" * (len(names) + 1) + "|"
    yield _row("test loss", (f"{figures['loss']:.3f}" for figures in columns))
    needed = f"{base['call_requests']} requests, {base['different_call_requests']} different"
    yield _row(f"right where a call is needed ({needed})", map(_right, columns))
    yield _row(
        f"strict accuracy ({base['requests']} requests)", (f"{_of(each, 'strict_accuracy')}" for each in columns)
    )
    yield _row("a model that never calls: at most", (_of(figures, "no_call_share") for figures in columns))
    yield _row("valid JSON", (_of(figures, "valid_json_rate") for figures in columns))
    yield _row("seconds", ["", *(f"{each.seconds:,.0f}" for each in facts.trained)])
    yield _row("tokens per second", ["", *(f"{each.tokens_per_second:,.0f}" for each in facts.trained)])
    yield _row("memory", ["", *(f"{each.memory / 2**30:.1f} GiB" for each in facts.trained)])


def _others(facts: Facts) -> Iterator[str]:
    if not facts.others:
        return
    yield "| test set | need a call (different) | untrained | trained | strict | strict, trained | no call needed |"
    yield "|---|---|---|---|---|---|---|"
    for name, each in facts.others.items():
        before, after = each["before"], each["after"]
        needed = f"{after['call_requests']} ({after['different_call_requests']})"
        strict = [_of(figures, "strict_accuracy") for figures in (before, after)]
        yield _row(name, [needed, _right(before), _right(after), *strict, _of(after, "no_call_share")])


def _files(facts: Facts) -> Iterator[str]:
    yield "| file | size | right where a call is needed | same answers |"
    yield "|---|---|---|---|"
    reference = facts.export["reference"]
    for name, size, each in (
        ("the model", None, reference),
        *((file["type"], file["bytes"], file["figures"]) for file in facts.export["files"]),
    ):
        megabytes = f"{size / 1e6:.0f} MB" if size else ""
        same = f"{each['same_answers']} of {each['answers']}"
        yield _row(name, [megabytes, f"{_of(each, 'call_accuracy')} of {each['call_requests']}", same])


def _times(facts: Facts, stages: Stages) -> Iterator[str]:
    yield "| stage | seconds | memory of its process |"
    yield "|---|---|---|"
    for name, took in stages.took.items():
        yield _row(name, [f"{took['seconds']:,.0f}", f"{took['memory'] / 2**30:.1f} GiB"])
    yield ""
    tied = "embedding and head stayed one matrix" if facts.tied else "EMBEDDING AND HEAD ARE TWO MATRICES"
    yield f"Merged and adapter: logits differ by {facts.merge_error:.1g} of the largest; {tied}."


def _read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8")))


def _row(name: str, cells: Any) -> str:
    return f"| {name} | {' | '.join(cells)} |"


def _right(figures: Mapping[str, Any]) -> str:
    if figures["call_accuracy"] is None:
        return "-"
    low, high = figures["call_interval"]
    return f"{_of(figures, 'call_accuracy')} ({100 * low:.0f} to {100 * high:.0f})"


def _of(figures: Mapping[str, Any], key: str) -> str:
    value = figures[key]
    return "-" if value is None else f"{100 * value:.1f} %"
