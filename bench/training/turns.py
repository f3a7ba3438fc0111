"""One side's process: it loads, then trains some steps each time that it is told to. It runs in a peer's environment
too, so that it imports nothing of hatrain."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback


class Turns(TrainerCallback):
    """Waits for a line on stdin before each turn of `steps` steps, and answers with a line of JSON on stdout after it.
    Seconds are the processor's: each side has one thread, and other work on the machine is not its own.
    The end of stdin ends the process."""

    def __init__(self, steps: int):
        self.steps, self.done = steps, 0
        self.started = 0.0
        self.logged: list[dict[str, float]] = []
        self.first: float | None = None
        """Seconds from the start of the process to the end of the first step: imports, loading, and what is computed of
        all rows before. Waiting for the first turn is no work."""
        self.supervised = 0
        """Supervised tokens of a turn, where a side counts them."""

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.done % self.steps == 0:
            self.say(self.answer())
            if not sys.stdin.readline():
                raise SystemExit(0)
            self.started = time.process_time()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.done += 1
        if self.first is None:
            self.first = time.process_time()
        if self.done % self.steps == 0:
            self.seconds = time.process_time() - self.started

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        if logs and "loss" in logs and "grad_norm" in logs:
            self.logged.append({"loss": float(logs["loss"]), "gradient_norm": float(logs["grad_norm"])})

    def answer(self) -> dict[str, Any]:
        """The turn that has ended: seconds, those to the first step, supervised tokens, and loss and gradient norm of
        each step."""
        answer = {
            "seconds": self.seconds if self.done else None,
            "first": self.first,
            "supervised": self.supervised,
            "steps": self.logged,
        }
        self.logged, self.supervised = [], 0
        return answer

    def say(self, answer: dict[str, Any]) -> None:
        print("turn " + json.dumps(answer), flush=True)


def settings(folder: Path) -> dict[str, Any]:
    """What all sides train: `rows_per_step`, `steps` of a turn, `base`, `kind`, `beta`, `learning_rate`. One thread, so
    that a busy machine slows all sides alike."""
    torch.set_num_threads(1)
    found: dict[str, Any] = json.loads((folder / "settings.json").read_text())
    return found
