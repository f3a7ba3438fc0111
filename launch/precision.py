"""What `model.dtype` costs where a job runs."""

import re
from collections.abc import Iterator
from pathlib import Path

from hatrain.contract.gpus import GPUS
from hatrain.contract.plan import Plan
from hatrain.contract.spec import JobSpec
from launch.backends.protocol import Reason

CPU_INFO = Path("/proc/cpuinfo")
BF16_FLAGS = {"avx512_bf16", "amx_bf16", "avx_ne_convert", "bf16"}
"""Names of bf16 arithmetic among the flags of a processor, on x86 and on Arm."""


def refusals(job: JobSpec) -> Iterator[Reason]:
    gpu = GPUS.get(job.hardware.gpu)
    if gpu and job.model.dtype == "bf16" and not gpu.bf16:
        capable = ", ".join(name for name, other in GPUS.items() if other.bf16 and other.memory >= gpu.memory)
        yield (
            "model.dtype",
            f"found bf16, which {gpu.name} does not support; write fp16 or fp32, or one of these GPUs: {capable}",
        )


def notes(made: Plan) -> Iterator[str]:
    dtype, gpu = made.job.model.dtype, GPUS.get(made.job.hardware.gpu)
    if dtype == "bf16" and made.device == "cpu" and made.cluster_spec.single_machine and not processor_has_bf16():
        yield "model.dtype: bf16, which this processor lacks: training takes about eight times as long as with fp32"
    if dtype == "fp32" and gpu and not gpu.bf16:
        yield f"model.dtype: fp32, because {gpu.name} has no bf16; fp16 takes less memory and time"


def processor_has_bf16(info: Path = CPU_INFO) -> bool:
    """Whether the flags of this machine's processor name bf16; true where they cannot be read."""
    try:
        flags = re.findall(r"^(?:flags|Features)\s*:(.*)$", info.read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        return True
    return not flags or bool(BF16_FLAGS & set(flags[0].split()))
