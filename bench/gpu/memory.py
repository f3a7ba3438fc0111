"""Part 6: peak memory of twelve configurations, to hold the planner's estimate against."""

import itertools
import sys
from functools import partial
from typing import Any

import torch
from transformers import TrainerCallback

from bench.gpu.inputs import Inputs
from bench.gpu.part import Part
from bench.gpu.speed import LORA
from bench.gpu.trainers import Enough, base_weights, run_hatrain, synchronize

MODELS = (("1.1b", False), ("1.1b", True), ("3b", True))
"""(shape, LoRA)."""
CHECKPOINTING = (True, False)
MICRO_BATCHES = (2, 8)
STEPS = 2
"""The optimizer's state is allocated at the end of the first step; the second holds all."""


class _Steps(TrainerCallback):
    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == STEPS:
            synchronize()
            raise Enough


def configurations() -> list[tuple[str, bool, bool, int]]:
    """(shape, LoRA, checkpointing, micro-batch), the smallest first."""
    return [
        (shape, lora, checkpointing, micro)
        for (shape, lora), checkpointing, micro in itertools.product(MODELS, CHECKPOINTING, MICRO_BATCHES)
    ]


def measure(part: Part) -> None:
    inputs = Inputs(part.work, part.short)

    def peak(shape: str, lora: bool, checkpointing: bool, micro: int) -> None:
        method: dict[str, Any] = {
            "micro_batch_size": micro,
            # Two micro-batches: in the second one the gradients of the first are held too.
            "batch_size": 2 * micro,
            "gradient_checkpointing": checkpointing,
            "train": inputs.longest(2 * micro * (STEPS + 1)),
        }
        if lora:
            method["lora"] = LORA
        figures: dict[str, Any] = {}

        def watch(trainer: Any) -> None:
            figures["weights"] = base_weights(trainer.model)
            figures["trained"] = sum(p.numel() for p in trainer.model.parameters() if p.requires_grad)
            figures["row_tokens"] = int(trainer.train_rows.lengths.max())
            trainer.add_callback(_Steps())

        run_hatrain(inputs.plan("memory", inputs.base(inputs.shape(shape)), method), watch)
        if inputs.device == "cuda":
            figures["peak_memory"] = torch.cuda.max_memory_allocated()
            figures["peak_reserved"] = torch.cuda.max_memory_reserved()
        else:
            figures["note"] = "ran; the peak needs CUDA"
        part.record(name(shape, lora, checkpointing, micro), **figures)

    items = {name(*configuration): partial(peak, *configuration) for configuration in configurations()}
    part.each(items, 5)


def name(shape: str, lora: bool, checkpointing: bool, micro: int) -> str:
    return (
        f"{shape}, {'LoRA' if lora else 'all weights'}, {'checkpointing' if checkpointing else 'no checkpointing'}, "
        f"micro-batch {micro}"
    )


if __name__ == "__main__":
    measure(Part.of(sys.argv[1:]))
