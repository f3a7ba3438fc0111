"""Part 1: can this machine train, and does the GPU compute what the CPU computes?"""

import importlib.util
import json
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import torch
from transformers import TrainerCallback

from bench.gpu import figures
from bench.gpu.inputs import Inputs
from bench.gpu.part import Part
from bench.gpu.trainers import Enough, run_hatrain
from hatrain.model.attention import NAME as PACKED

ATTENTION = (PACKED, "sdpa", "eager", "flex_attention", "flash_attention_2", "flash_attention_3")
"""hatrain's, with packed rows, and those of transformers, with which hatrain finds that rows must be padded."""
NEEDS = {"flash_attention_2": "flash_attn", "flash_attention_3": "flash_attn_interface"}

FP32_TOLERANCE = 1e-4
"""Of the gradients' relative distance: sums in another order."""
BF16_TOLERANCE = 2.0
"""Of the same, as a multiple of what bf16 itself costs on the CPU."""


@dataclass(frozen=True)
class Step:
    loss: float
    gradients: dict[str, torch.Tensor]


class _Gradients(TrainerCallback):
    def __init__(self) -> None:
        self.found: dict[str, torch.Tensor] = {}

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        self.found = {
            name: parameter.grad.detach().float().cpu()
            for name, parameter in model.named_parameters()
            if parameter.grad is not None
        }
        raise Enough


def step(inputs: Inputs, device: str, dtype: str, attention: str) -> Step:
    """The loss and the gradients of the first step of hatrain's trainer."""
    # Rows of a home, so that packs are trees.
    method: dict[str, Any] = {
        "micro_batch_size": 2,
        "batch_size": 8,
        "gradient_clip": 0,
        "gradient_checkpointing": False,
        "train": inputs.homes,
    }
    base = inputs.base("tiny")
    plan = inputs.plan("parity", base, method, device=device, model={"dtype": dtype}, data={"order": "by_prefix"})
    gradients, losses = _Gradients(), []

    def watch(trainer: Any) -> None:
        trainer.model.set_attn_implementation(attention)
        trainer.add_callback(gradients)
        training_step = trainer.training_step

        def kept(*args: Any, **kwargs: Any) -> Any:
            losses.append(training_step(*args, **kwargs))
            return losses[-1]

        trainer.training_step = kept

    run_hatrain(plan, watch)
    return Step(float(losses[0]), gradients.found)


def doctor(part: Part) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "hatrain", "doctor", "--json"], capture_output=True, text=True, timeout=120
    )
    report = json.loads(result.stdout)
    for finding in report["findings"]:
        if finding["state"] != "ok":
            part.record(f"doctor: {finding['check']}", note=f"{finding['state']}: {finding['found']}")
    part.record("hatrain doctor", note="ok" if report["ok"] else "bad")


def measure(part: Part) -> None:
    with part.item("hatrain doctor"):
        doctor(part)
    inputs = Inputs(part.work, part.short)
    cpu = {dtype: step(inputs, "cpu", dtype, "sdpa") for dtype in ("fp32", "bf16")}
    bf16_error = figures.distance(cpu["bf16"].gradients, cpu["fp32"].gradients)
    part.record("CPU bf16 against CPU fp32", loss=cpu["bf16"].loss, gradient_distance=bf16_error)

    def compare(dtype: str, attention: str) -> None:
        found = step(inputs, inputs.device, dtype, attention)
        # In bf16 both sides round: each is compared with the exact gradients.
        gradient = figures.distance(found.gradients, cpu["fp32"].gradients)
        tolerance = FP32_TOLERANCE if dtype == "fp32" else BF16_TOLERANCE * bf16_error
        part.record(
            f"{inputs.device} {dtype} {attention}",
            loss=found.loss,
            loss_difference=abs(found.loss - cpu["fp32"].loss),
            gradient_distance=gradient,
            tolerance=tolerance,
            verdict="equal" if gradient <= tolerance else "DIFFERENT",
        )

    items: dict[str, Any] = {}
    for attention in ATTENTION:
        module = NEEDS.get(attention)
        if module and importlib.util.find_spec(module) is None:
            part.skip(attention, f"{module} is not installed")
        elif attention == "flex_attention" and inputs.device == "cpu":
            part.skip(attention, "needs CUDA: its CPU kernels have no backward pass")
        else:
            for dtype in ("bf16", "fp32"):
                if not (attention.startswith("flash") and dtype == "fp32"):  # its kernels know half precision only
                    items[f"{inputs.device} {dtype} {attention}"] = lambda a=attention, d=dtype: compare(d, a)
    part.each(items, 3)
    if inputs.device == "cpu":
        part.skip("parity of the GPU", "needs CUDA; the rows above compare the CPU with itself")


if __name__ == "__main__":
    measure(Part.of(sys.argv[1:]))
