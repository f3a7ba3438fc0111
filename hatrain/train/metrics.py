"""What training says of itself: one line per logged step in the log, metrics.jsonl and TensorBoard."""

import resource
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.tensorboard import SummaryWriter
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hatrain.contract.run import RunDirectory
from hatrain.runtime import seal

# transformers' name → ours
_NAMES = {
    "loss": "loss",
    "eval_loss": "test_loss",
    "grad_norm": "gradient_norm",
    "learning_rate": "learning_rate",
}


@dataclass
class Counters:
    """What went through the model since the last logged line, over all ranks; seconds are spent in steps alone."""

    tokens: int = 0
    supervised: int = 0
    seconds: float = 0.0


def peak_memory() -> int:
    """Return the largest memory of this process so far in bytes: the GPU's, or resident memory without one."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def line(metrics: dict[str, Any]) -> str:
    """Return a logged step as one line for the log."""
    parts = [f"step {metrics['step']}/{metrics['steps']}", f"epoch {metrics['epoch']:.2f}"]
    for name, form in (
        ("loss", "{:.4f}"),
        ("test_loss", "{:.4f}"),
        ("learning_rate", "{:.2e}"),
        ("gradient_norm", "{:.3f}"),
        *((f"{of}rewards/{name}", "{:z.3f}") for of in ("", "test_") for name in ("accuracies", "margins")),
        ("tokens_per_second", "{:,.0f}"),
        ("supervised_tokens_per_second", "{:,.0f}"),
    ):
        if name in metrics:
            parts.append(f"{name.replace('_', ' ')} {form.format(metrics[name])}")
    if "memory" in metrics:
        parts.append(f"memory {metrics['memory'] / 2**30:.2f} GiB")
    return "  ".join(parts)


class MetricsCallback(TrainerCallback):
    """Writes each logged step. Only rank 0 has one. Steps that an earlier attempt logged and this one repeats count
    once: readers of metrics.jsonl keep the last, and TensorBoard is told to purge from where this attempt starts."""

    def __init__(self, run: RunDirectory, attempt: int, counters: Counters):
        self.run, self.attempt, self.counters = run, attempt, counters
        self.board: SummaryWriter | None = None
        self._began = 0.0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.board = SummaryWriter(str(self.run.tensorboard), purge_step=state.global_step + 1)

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._began = time.monotonic()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.counters.seconds += time.monotonic() - self._began

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        known = {_NAMES[key]: value for key, value in (logs or {}).items() if key in _NAMES}
        extra = {
            key.replace("eval_", "test_"): value for key, value in (logs or {}).items() if "rewards/" in key
        }
        if not known or "train_runtime" in (logs or {}):
            return
        if "loss" in known and self.counters.seconds > 0:
            known["tokens_per_second"] = self.counters.tokens / self.counters.seconds
            known["supervised_tokens_per_second"] = self.counters.supervised / self.counters.seconds
            self.counters.tokens = self.counters.supervised = 0
            self.counters.seconds = 0.0
        metrics = {
            "attempt": self.attempt,
            "step": state.global_step,
            "steps": state.max_steps,
            "epoch": state.epoch or 0.0,
            **known,
            **extra,
            "memory": peak_memory(),
        }
        seal.append_line(self.run.metrics, metrics)
        print(line(metrics), flush=True)
        if self.board:
            for name, value in metrics.items():
                if name not in ("attempt", "step", "steps"):
                    tag = f"test/{name[5:]}" if name.startswith("test_") else f"train/{name}"
                    self.board.add_scalar(tag, value, state.global_step)
            self.board.flush()

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self.board:
            self.board.close()
