"""Several runs side by side: in which keys their jobs differ, what each reached, and which is the best."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hatrain.contract.gpus import GIB
from hatrain.contract.spec import JobSpec, leaves
from hatrain.report.read import RunFacts


def different(jobs: Sequence[JobSpec]) -> dict[str, list[Any]]:
    """Return the keys in which jobs differ, beside the name, with the value of each job; None where it has no such
    key."""
    values = [dict(leaves(job.model_dump(mode="json"))) for job in jobs]
    keys = dict.fromkeys(key for each in values for key in each if key != "name")
    columns = {key: [each.get(key) for each in values] for key in keys}
    return {key: column for key, column in columns.items() if any(value != column[0] for value in column)}


def best_first(runs: Sequence[RunFacts]) -> list[RunFacts]:
    """Order runs by accuracy, then by test loss, then by training loss; what is not known comes last."""
    return sorted(runs, key=_rank)


def _rank(run: RunFacts) -> tuple[bool, float, bool, float, bool, float]:
    """Evaluations of earlier releases have strict accuracy alone."""
    needed, strict = run.figure("after", "call_accuracy"), run.figure("after", "strict_accuracy")
    accuracy, test_loss, loss = strict if needed is None else needed, newest_test_loss(run), run.last("loss")
    return (
        accuracy is None,
        -(accuracy or 0.0),
        test_loss is None,
        test_loss or 0.0,
        loss is None,
        loss or 0.0,
    )


def newest_test_loss(run: RunFacts) -> float | None:
    """Return the test loss after training, or the newest one during it."""
    after = run.test_loss("after")
    return after if after is not None else run.last("test_loss")


def speed(run: RunFacts) -> float | None:
    """Return tokens per second, the mean of the logged steps."""
    speeds = [line["tokens_per_second"] for line in run.metrics if "tokens_per_second" in line]
    return sum(speeds) / len(speeds) if speeds else None


def peak_memory(run: RunFacts) -> int | None:
    """Return the peak memory of one rank in bytes."""
    return max((line["memory"] for line in run.metrics if "memory" in line), default=None)


def clock(seconds: float) -> str:
    """Return hours, minutes and seconds."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


@dataclass(frozen=True)
class Result:
    """A result of a run: its name on a page and in a narrow table, its value, and how that is written."""

    title: str
    short: str
    value: Callable[[RunFacts], Any]
    form: Callable[[Any], str]

    def text(self, run: RunFacts) -> str:
        """Return it as text; empty where it is not known."""
        value = self.value(run)
        return "" if value is None else self.form(value)


RESULTS: Mapping[str, Result] = {
    "call_accuracy": Result(
        "right where a call is needed", "RIGHT", lambda run: run.figure("after", "call_accuracy"), "{:.1%}".format
    ),
    "strict_accuracy": Result(
        "strict accuracy", "STRICT", lambda run: run.figure("after", "strict_accuracy"), "{:.1%}".format
    ),
    "test_loss": Result("test loss", "TEST LOSS", newest_test_loss, "{:.3f}".format),
    "loss": Result("training loss", "LOSS", lambda run: run.last("loss"), "{:.4f}".format),
    "step": Result("step", "STEP", lambda run: run.metrics[-1]["step"] if run.metrics else None, "{:,}".format),
    "tokens_per_second": Result("tokens per second", "TOKENS/S", speed, "{:,.0f}".format),
    "memory": Result("memory", "MEMORY", peak_memory, lambda size: f"{size / GIB:.2f} GiB"),
    "seconds": Result("time", "TIME", lambda run: run.seconds or None, clock),
}
"""The results by their names in JSON, the most telling first."""


def results(run: RunFacts) -> dict[str, Any]:
    """Return all results as numbers; None where one is not known. Accuracies are shares, memory is in bytes."""
    return {name: result.value(run) for name, result in RESULTS.items()}


def shown(value: object) -> str:
    """Return a job's value as text; empty for none. A dataset is its path, with its weight if that is not 1."""
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(shown, value))
    if isinstance(value, dict) and "path" in value:
        return value["path"] + (f" × {value['weight']:g}" if value.get("weight", 1) != 1 else "")
    return "" if value is None else str(value)
