"""Run directories as runs leave them, with figures from formulas: finished, interrupted, failed, of one step."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hatrain.contract.run import RunDirectory
from tests.plans import a_plan

HOSTILE = (
    "</script><script>document.title = 'owned'</script><img src=x onerror=\"document.title='owned'\"> & {{ 7 * 7 }}"
)
"""An answer that a page must show and not run."""


def a_run(folder: Path, name: str = "kitchen", **changes: Any) -> RunDirectory:
    """Create the directory of a run that has not started."""
    plan = a_plan(folder, name=name, **changes)
    run = RunDirectory(Path(plan.paths.run))
    run.adopt(plan, {})
    return run


def begin(run: RunDirectory, attempt: int) -> None:
    run.record(
        "attempt begun", attempt=attempt, host="node-7", ranks=2, date="2026-11-28", versions={"torch": "2.13.0"}
    )


def end(run: RunDirectory, attempt: int, code: int = 0, seconds: float = 61.0, **reasons: str) -> None:
    outcome = {0: "finished", 75: "requeue", 78: "fatal", 1: "fault"}[code]
    run.record("outcome", attempt=attempt, code=code, outcome=outcome, reasons=reasons, seconds=seconds)


def log(run: RunDirectory, steps: Sequence[int], of: int, attempt: int = 1, rate: float = 1.0) -> None:
    """Log steps of a run of `of` steps, whose loss falls at a `rate`."""
    lines = []
    for step in steps:
        line = {
            "attempt": attempt,
            "step": step,
            "steps": of,
            "epoch": step / of,
            "loss": 0.2 + 6 * math.exp(-4 * rate * step / of) * (1 + 0.2 * math.sin(step)),
            "learning_rate": 1e-3 * (1 + math.cos(math.pi * step / of)) / 2,
            "gradient_norm": 1 + math.sin(step / 3) / 2,
            "tokens_per_second": 12_000 + 2_000 * math.cos(step / 5),
            "supervised_tokens_per_second": 3_000.0,
            "memory": 7 * 2**30,
        }
        lines.append(json.dumps(line) + "\n")
        if step % max(of // 5, 1) == 0:
            lines.append(
                json.dumps({"attempt": attempt, "step": step, "steps": of, "test_loss": line["loss"] + 0.3}) + "\n"
            )
    with run.metrics.open("a", encoding="utf-8") as file:
        file.writelines(lines)


def score(accuracy: float, requests: int = 60) -> dict[str, Any]:
    reach = 0.1
    return {
        "requests": requests,
        "strict_accuracy": accuracy,
        "strict_interval": [max(0.0, accuracy - reach), min(1.0, accuracy + reach)],
        "answered_accuracy": accuracy,
    }


def evaluate(run: RunDirectory, accuracy: float) -> None:
    """Write an evaluation in three languages, and failures with a hostile answer among them."""
    figures = {}
    for when, share in (("before", 0.05), ("after", accuracy)):
        figures[when] = {
            **score(share, 180),
            "by_language": {"de": score(share), "en": score(min(1.0, share + 0.08)), "pl": score(share - 0.05)},
            "by_device_type": {"light": score(share), "media_player": score(share / 2), "<b>lock</b>": score(share)},
            "by_kind": {"action": score(share), "status": score(share)},
        }
    run.evaluation.write_text(json.dumps(figures), encoding="utf-8")
    failures = [
        {
            "where": "test.jsonl:3",
            "language": "en",
            "kind": "action",
            "request": "turn on the lamp",
            "problems": ["light.lamp: state is off, should be on"] * (1 + number % 3),
            "expected": "Done.",
            "answer": HOSTILE if number == 2 else "No.",
            "prompt": "Devices:\nlight.lamp 'Lamp' = off" + "-" * 300,
        }
        for number in range(25)
    ]
    text = "".join(json.dumps(failure) + "\n" for failure in failures)
    (run.folder / "failures-after.jsonl").write_text(text, encoding="utf-8")


def a_finished_run(
    folder: Path, name: str = "kitchen", accuracy: float = 0.8, rate: float = 1.0, **changes: Any
) -> RunDirectory:
    """A run of 1,000 steps that was stopped once, went on, and was evaluated."""
    run = a_run(folder, name, **changes)
    begin(run, 1)
    run.record("test loss", attempt=1, when="before", loss=6.9)
    log(run, range(10, 510, 10), 1000, 1, rate)
    end(run, 1, 75, entry="stopped after step 500: preempted")
    begin(run, 2)
    log(run, range(510, 1010, 10), 1000, 2, rate)
    run.record("test loss", attempt=2, when="after", loss=1.5 - accuracy)
    evaluate(run, accuracy)
    end(run, 2)
    run.done.write_text("{}", encoding="utf-8")
    return run
