"""What one real step of the trainer needs on processors: what autograd keeps, and the peak of all that torch's
allocator gave out, kernels' temporaries included."""

import json
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from hatrain.contract.plan import Plan
from hatrain.contract.run import RunDirectory

MEASURED = 2
"""The step that is measured, from 0: optimizer state is there, and nothing is set up any more."""
WORDS = "turn on the light in the kitchen and the fan in the bedroom and close the door "


class Enough(Exception):
    """The step is measured."""


@dataclass
class Step:
    """Bytes of a step, and (tokens, labels) of the micro-batches that they are of: the largest ones."""

    weights: int = 0
    optimizer: int = 0
    kept: int = 0
    """By autograd between the forward and the backward pass, without weights and logits."""
    kept_of: tuple[int, int] = (0, 0)
    temporary: int = 0
    """The peak of what the step allocates: gradients, activations, and what kernels need for a time."""
    temporary_of: tuple[int, int] = (0, 0)

    @property
    def peak(self) -> int:
        return self.weights + self.optimizer + self.temporary


def write_rows(path: Path, count: int) -> None:
    """Rows of nearly the same length, of which a fifth is a reply."""
    rows = (
        {
            "conversations": [
                {"from": "human", "value": WORDS * 12 + "now " * number},
                {"from": "gpt", "value": WORDS * 3},
            ]
        }
        for number in range(count)
    )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def measure(plan: Plan, patch: pytest.MonkeyPatch) -> Step:
    """Run the plan's job in this process until a step is measured."""
    from hatrain.train.flow import train
    from hatrain.train.sft import SftTrainer
    from hatrain.train.trainer import StepTrainer

    step, profile = (
        Step(),
        torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True),
    )
    original, loss_of = StepTrainer.training_step, SftTrainer.micro_batch_loss

    def training_step(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self.state.global_step == MEASURED:
            step.weights = _bytes(self.model.parameters())
            step.optimizer = _bytes(
                value for state in self.optimizer.state.values() for value in state.values() if torch.is_tensor(value)
            )
            profile.start()
        elif self.state.global_step > MEASURED:
            profile.stop()
            step.temporary = _peak(profile)
            raise Enough
        return original(self, *args, **kwargs)

    def micro_batch_loss(self: Any, model: Any, batch: Any) -> Any:
        size = (batch["model"]["input_ids"].numel(), batch["model"]["positions"].numel())
        if self.state.global_step == MEASURED:
            step.temporary_of = max(step.temporary_of, size)
        if self.state.global_step != MEASURED - 1:
            return loss_of(self, model, batch)
        kept: dict[int, tuple[Any, int]] = {}
        with torch.autograd.graph.saved_tensors_hooks(_keep(self.model, kept), lambda tensor: tensor):
            loss = loss_of(self, model, batch)
        step.kept, step.kept_of = max((step.kept, step.kept_of), (sum(size for _, size in kept.values()), size))
        return loss

    run = RunDirectory(Path(plan.paths.run))
    run.adopt(plan, {})
    patch.setattr(StepTrainer, "training_step", training_step)
    patch.setattr(SftTrainer, "micro_batch_loss", micro_batch_loss)
    before = Path.cwd()
    try:
        with pytest.raises(Enough), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            train(plan, run, run.new_attempt())
    finally:
        os.chdir(before)
    return step


def _keep(model: Any, kept: dict[int, tuple[Any, int]]) -> Callable[[Any], Any]:
    """A hook that notes each tensor that autograd saves, by its storage."""
    own = {tensor.untyped_storage()._cdata for tensor in [*model.parameters(), *model.buffers()]}
    vocabulary = model.config.vocab_size

    def keep(tensor: Any) -> Any:
        storage = tensor.untyped_storage()
        if storage._cdata not in own and tensor.shape[-1:] != (vocabulary,):
            kept[storage._cdata] = (tensor, storage.nbytes())
        return tensor

    return keep


def _bytes(tensors: Any) -> int:
    return sum({tensor.untyped_storage()._cdata: tensor.untyped_storage().nbytes() for tensor in tensors}.values())


def _peak(profile: Any) -> int:
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    now = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak
