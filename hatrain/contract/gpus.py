"""The GPUs that a job may name: memory, speed and whether they compute in bf16, from the vendors' data sheets."""

import re
from dataclasses import dataclass

GIB = 2**30


@dataclass(frozen=True)
class Gpu:
    """One GPU model. Memory is what the device reports, in bytes; `bf16` is whether its units compute in it; `tflops`
    are 10¹² operations a second in dense 16-bit matrix products that are summed in fp32."""

    name: str
    memory: int
    bf16: bool
    tflops: float


# Memory in GiB and speed, from the vendors' data sheets; bf16 needs compute capability 8.0 (Ampere).
_TABLE = (
    ("t4-16gb", 15, False, 65),
    ("v100-16gb", 16, False, 125),
    ("v100-32gb", 32, False, 125),
    ("rtx2080ti-11gb", 11, False, 54),
    ("rtx3060-12gb", 12, True, 26),
    ("rtx3090-24gb", 24, True, 71),
    ("rtx4060ti-16gb", 16, True, 44),
    ("rtx4090-24gb", 24, True, 165),
    ("rtx5090-32gb", 32, True, 210),
    ("a10-24gb", 22, True, 125),
    ("l4-24gb", 22, True, 121),
    ("a4000-16gb", 16, True, 77),
    ("a5000-24gb", 24, True, 111),
    ("a6000-48gb", 48, True, 155),
    ("rtx6000ada-48gb", 48, True, 364),
    ("a40-48gb", 45, True, 150),
    ("l40s-48gb", 45, True, 362),
    ("a100-40gb", 40, True, 312),
    ("a100-80gb", 80, True, 312),
    ("h100-80gb", 80, True, 989),
    ("h200-141gb", 140, True, 989),
    ("b200-180gb", 178, True, 2250),
)

GPUS: dict[str, Gpu] = {name: Gpu(name, memory * GIB, bf16, tflops) for name, memory, bf16, tflops in _TABLE}

CPU = "cpu"
"""The name that turns `gpus_per_node` into a number of processes on plain processors."""
MPS = "mps"
"""The name of the GPU of Apple silicon, whose memory is the machine's."""


def job_name(name: str, memory: int) -> str:
    """Return the name that jobs use for a GPU, given NVIDIA's name and the memory in bytes.

    For an unknown GPU it is the largest known one with bf16 that has no more memory.
    """
    letters = re.sub(r"[^a-z0-9]", "", name.lower())
    models = {gpu.name.rpartition("-")[0] for gpu in GPUS.values()}
    model = max((model for model in models if model in letters), key=len, default=None)
    if model is not None:
        same = [gpu for gpu in GPUS.values() if gpu.name.rpartition("-")[0] == model]
        return min(same, key=lambda gpu: abs(gpu.memory - memory)).name
    by_memory = sorted((gpu for gpu in GPUS.values() if gpu.bf16), key=lambda gpu: gpu.memory)
    fitting = (gpu.name for gpu in reversed(by_memory) if gpu.memory <= memory + GIB)
    return next(fitting, by_memory[0].name)
