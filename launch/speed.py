"""How long a run takes: the operations of its steps, and the share of a GPU's speed that the trainer reaches."""

from pathlib import Path

from hatrain.contract.gpus import GPUS
from hatrain.contract.paths import expanded
from hatrain.contract.plan import Steps
from hatrain.contract.spec import Dpo, JobSpec
from hatrain.contract.steps import weighted_rows
from launch import efficiency
from launch.memory.layout import Layout
from launch.memory.structure import Structure

BYTES_PER_TOKEN = 4.0
"""Of a row's JSON, so that the tokens of a file are known before there is a tokenizer."""
HALF_SPEED = 256
"""Tokens of a micro-batch at which half of the time is spent outside of large products."""
SHARDING = {"none": 1.0, "ddp": 0.97, "fsdp": 0.9, "zero1": 0.93, "zero2": 0.9, "zero3": 0.8}
"""Speed with each strategy, compared with one rank: assumed, for it depends on the links between the GPUs."""
OFFLOAD = {"none": 1.0, "optimizer": 0.6, "all": 0.3}
"""Speed with state in main memory: assumed, for it depends on the processors and their link to the GPU."""
PACKING = {"tree": 1.0, "plain": 1.0, "off": 0.8}
"""Speed of a layout: a fifth of padded rows of usual lengths is padding. What rows share saves more, and is not known
without them."""


def relative(job: JobSpec, layout: Layout) -> float:
    """Speed of a way of running a job, compared with others of the same job."""
    tokens = layout.micro_batch * job.method.ctx_size
    return _share(layout) * tokens / (tokens + HALF_SPEED) / _operations(job, layout)


def _operations(job: JobSpec, layout: Layout) -> int:
    """Operations for each weight and token: two forward, two for the gradients of activations, two for those of
    weights, and two where the forward pass is computed again. LoRA leaves out the gradients of the base's weights."""
    return (4 if job.method.lora else 6) + (2 if layout.checkpointing else 0)


def _share(layout: Layout) -> float:
    """Speed of a layout, compared with packed rows on one GPU that holds everything."""
    return SHARDING[layout.sharding] * OFFLOAD[layout.offload] * PACKING[layout.packing]


def seconds(job: JobSpec, layout: Layout, model: Structure, workdir: Path, steps: Steps | None) -> int | None:
    """Estimated seconds of all steps of a job; None where its rows are not on this machine. Without `steps`, where the
    rows cannot be counted, all epochs are taken to be trained."""
    tokens = _tokens(job, workdir)
    if tokens is None:
        return None
    gpu = GPUS[job.hardware.gpu]
    epochs = steps.total / steps.per_epoch if steps and job.method.max_steps else job.method.epochs
    reached = gpu.tflops * 1e12 * efficiency.of(job)[0] * _share(layout) * layout.ranks
    return max(1, round(tokens * epochs * _operations(job, layout) * model.weights / reached))


def _tokens(job: JobSpec, workdir: Path) -> float | None:
    """About as many tokens as an epoch has. Both sides of a pair are in its row."""
    total = 0.0
    for dataset in job.data.train:
        path = workdir / expanded(dataset.path)
        try:
            size = path.stat().st_size
        except OSError:
            return None
        if path.suffix == ".parquet" or path.name.endswith(".gz"):
            size *= 4  # compressed
        total += weighted_rows(size, dataset.weight) / BYTES_PER_TOKEN
    return total * (1.5 if isinstance(job.method, Dpo) else 1.0)
