"""One line per logged step in the log and in metrics.jsonl, and its values for the trackers."""

import math
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hatrain.contract.run import RunDirectory
from hatrain.runtime import seal
from hatrain.train import trackers
from hatrain.train.trackers import Guarded

_NAMES = {  # transformers' name: ours
    "loss": "loss",
    "eval_loss": "test_loss",
    "eval_accuracy": "test_accuracy",
    "grad_norm": "gradient_norm",
    "learning_rate": "learning_rate",
}


@dataclass
class Counters:
    """Tokens of all ranks since the last logged line, and the seconds spent in steps and in waiting for checkpoints."""

    tokens: int = 0
    supervised: int = 0
    seconds: float = 0.0
    saving: float = 0.0


def peak_memory() -> int:
    """Peak memory of this process in bytes: GPU memory, or resident memory without a GPU."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def log_line(metrics: dict[str, Any]) -> str:
    parts = [f"step {metrics['step']}/{metrics['steps']}", f"epoch {metrics['epoch']:.2f}"]
    for name, form in (
        ("loss", "{:.4f}"),
        ("test_loss", "{:.4f}"),
        ("test_accuracy", "{:.3f}"),
        ("learning_rate", "{:.2e}"),
        ("gradient_norm", "{:.3f}"),
        *((f"{split}rewards/{name}", "{:z.3f}") for split in ("", "test_") for name in ("accuracies", "margins")),
        ("tokens_per_second", "{:,.0f}"),
        ("supervised_tokens_per_second", "{:,.0f}"),
    ):
        if name in metrics:
            parts.append(f"{name.replace('_', ' ')} {form.format(metrics[name])}")
    if "memory" in metrics:
        parts.append(f"memory {metrics['memory'] / 2**30:.2f} GiB")
    return "  ".join(parts)


class MetricsCallback(TrainerCallback):
    """Writes each logged step. Only rank 0 has one. A step that a resumed run repeats counts once: readers of
    metrics.jsonl keep the last line of a step, and TensorBoard purges everything after the step resumed from."""

    def __init__(self, run: RunDirectory, attempt: int, counters: Counters, tracked_by: Sequence[Guarded]):
        self.run, self.attempt, self.counters, self.trackers = run, attempt, counters, tracked_by
        self._step_started = 0.0
        self._tracks = False

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._begin_tracking(args, state, kwargs.get("model"))

    def _begin_tracking(self, args: TrainingArguments, state: TrainerState, model: Any) -> None:
        """Start the trackers, once: the test loss of the step resumed from is logged before training begins."""
        if not self._tracks:
            self._tracks = True
            for tracker in self.trackers:
                tracker.begin(args, state, model)

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._step_started = time.monotonic()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.counters.seconds += time.monotonic() - self._step_started

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        logs = logs or {}
        # A skipped step has a loss or a gradient that is no number: it is left out.
        logs = {key: value for key, value in logs.items() if not isinstance(value, float) or math.isfinite(value)}
        values = {_NAMES[key]: value for key, value in logs.items() if key in _NAMES}
        rewards = {key.replace("eval_", "test_"): value for key, value in logs.items() if "rewards/" in key}
        if not values or "train_runtime" in logs:
            return
        if "loss" in values and self.counters.seconds > 0:
            values["tokens_per_second"] = self.counters.tokens / self.counters.seconds
            values["supervised_tokens_per_second"] = self.counters.supervised / self.counters.seconds
            self.counters.tokens = self.counters.supervised = 0
            self.counters.seconds = 0.0
        if "loss" in values and self.counters.saving > 0:
            values["saving_seconds"] = round(self.counters.saving, 4)
            self.counters.saving = 0.0
        metrics = {
            "attempt": self.attempt,
            "step": state.global_step,
            "steps": state.max_steps,
            "epoch": state.epoch or 0.0,
            **values,
            **rewards,
            "memory": peak_memory(),
        }
        seal.append_line(self.run.metrics, metrics)
        print(log_line(metrics), flush=True)
        self._begin_tracking(args, state, kwargs.get("model"))
        shown = {name: value for name, value in metrics.items() if name not in ("attempt", "step", "steps")}
        for tracker in self.trackers:
            tracker.log(args, state, shown)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        trackers.end(self.trackers, args, state)
