"""Finds out this machine's GPU with nvidia-smi, for commands that name none. It never imports torch."""

import os
import re
import subprocess

from hatrain.contract.gpus import CPU, GIB, GPUS
from hatrain.contract.spec import HardwareSpec


def this_machine() -> HardwareSpec:
    """Describe this machine as a job's hardware: one process on its first GPU, or as many as torchrun started."""
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    world = int(os.environ.get("WORLD_SIZE", "1"))
    return HardwareSpec(nodes=max(world // local, 1), gpus_per_node=local, gpu=first_gpu() or CPU)


def first_gpu() -> str | None:
    """Return the name of the first visible GPU, as jobs use it; None if there is none."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and visible.strip() in ("", "-1"):
        return None
    command = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    if visible:
        command.append(f"--id={visible.split(',')[0].strip()}")
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    name, _, mebibytes = answer.partition("\n")[0].rpartition(",")
    return job_name(name, int(mebibytes) * 2**20) if mebibytes.strip().isdigit() else None


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
