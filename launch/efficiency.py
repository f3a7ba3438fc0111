"""The share of a GPU's speed that this trainer reaches, as bench/gpu.sh measured it. `make bench-gpu` renews the
table."""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from hatrain.contract.spec import Dpo, JobSpec

TABLE = Path(__file__).with_name("efficiency.json")
ASSUMED = 0.25
"""The share on a GPU on which nothing was measured."""


@dataclass(frozen=True)
class Efficiency:
    """A share of `Gpu.tflops`."""

    gpu: str
    training: str
    """As `training_of` names it."""
    compiled: bool
    share: float


@cache
def measured() -> tuple[Efficiency, ...]:
    return tuple(Efficiency(**entry) for entry in json.loads(TABLE.read_text(encoding="utf-8")))


def training_of(job: JobSpec) -> str:
    """What a job trains, as far as the share depends on it: `all weights`, `lora`, `dpo lora 4bit`, …"""
    kind = "dpo " if isinstance(job.method, Dpo) else ""
    base = f" {job.model.quantization.kind}" if job.model.quantization else ""
    return f"{kind}{'lora' if job.method.lora else 'all weights'}{base}"


def of(job: JobSpec) -> tuple[float, bool]:
    """Return the share that a job reaches on its GPU, and whether it was measured. If it was not, the share is that of
    other training on the GPU, or ASSUMED."""
    gpu, training, compiled = job.hardware.gpu, training_of(job), job.hardware.compile
    here = [entry for entry in measured() if entry.gpu == gpu]
    for entry in here:
        if (entry.training, entry.compiled) == (training, compiled):
            return entry.share, True
    similar = [entry for entry in here if entry.training == training] or [entry for entry in here if not entry.compiled]
    return (min(entry.share for entry in similar) if similar else ASSUMED), False
