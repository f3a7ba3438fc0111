"""Main memory and disk that a run needs beside its GPUs."""

import math

from hatrain.contract.checkpoint_size import STATE, checkpoint_bytes
from hatrain.contract.gpus import GIB
from hatrain.contract.spec import JobSpec
from launch.memory.activations import BYTES, FP32
from launch.memory.layout import Layout
from launch.memory.structure import Structure, trained_weights

PROCESS = 6 * GIB
"""Of one rank: Python, its libraries, the rows, and the pinned memory of CUDA."""


def host_bytes(model: Structure, job: JobSpec, layout: Layout) -> int:
    """Bytes of main memory on one node, in whole GiB: of the processes, of offloaded state, and of the weights at the
    moment that needs most.

    Every rank reads the weights, except under FSDP and ZeRO-3, where one rank of a node does; there is also the copy of
    the trained weights that a checkpoint is written from. At the end an adapter is merged into fp32 weights, of which a
    copy is saved in the dtype of the job. An export loads fp32 weights.
    """
    per_node = job.hardware.gpus_per_node
    trained, lora = trained_weights(model, job), job.method.lora
    loaded = model.weights * (FP32 if lora is None else BYTES[job.model.dtype])
    readers = 1 if layout.sharding in ("fsdp", "zero3") else per_node
    offloaded = 0
    if layout.offload != "none":
        # DeepSpeed keeps weights, gradients and both moments in fp32.
        offloaded = 4 * FP32 * trained * per_node // layout.ranks
    if job.method.optimizer == "paged_adamw_8bit":
        offloaded += STATE["adamw_8bit"] * trained * per_node
    weights = max(
        readers * loaded + FP32 * trained,
        (FP32 + BYTES[job.model.dtype]) * model.weights if lora and lora.merge else 0,
        FP32 * model.weights if job.export else 0,
    )
    return math.ceil((per_node * PROCESS + offloaded + weights) / GIB) * GIB


def disk_bytes(model: Structure, job: JobSpec) -> int:
    """Bytes of the checkpoints that are kept, the best one too, of one more while it is written, and of the model."""
    result = FP32 * (trained_weights(model, job) if job.method.lora and not job.method.lora.merge else model.weights)
    kept = job.checkpoints.save_total_limit + (job.evaluation.keep == "best")
    return (kept + 1) * checkpoint_of(model, job) + result


def checkpoint_of(model: Structure, job: JobSpec) -> int:
    """Bytes of one checkpoint."""
    return checkpoint_bytes(trained_weights(model, job), job.method.optimizer)
