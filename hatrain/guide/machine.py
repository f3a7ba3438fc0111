"""Which GPU this machine has, asked of nvidia-smi, so that a command that names none can become a job. It never
imports torch."""

import os
import re
import subprocess

from hatrain.contract.gpus import CPU, GIB, GPUS
from hatrain.contract.spec import HardwareSpec


def this_machine() -> HardwareSpec:
    """Return this machine as a job's hardware: one process on its first GPU, or as many as torchrun started."""
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    world = int(os.environ.get("WORLD_SIZE", "1"))
    return HardwareSpec(nodes=max(world // local, 1), gpus_per_node=local, gpu=first_gpu() or CPU)


def first_gpu() -> str | None:
    """Return the name of the first visible GPU, or None where there is none."""
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
    return known_as(name, int(mebibytes) * 2**20) if mebibytes.strip().isdigit() else None


def known_as(name: str, memory: int) -> str:
    """Return a job's name for a GPU, by what its maker calls it and its memory in bytes.

    One that no job can name goes by the largest known one with bf16 that holds no more than it does.
    """
    letters = re.sub(r"[^a-z0-9]", "", name.lower())
    models = {known.name.rpartition("-")[0] for known in GPUS.values()}
    model = max((model for model in models if model in letters), key=len, default=None)
    if model is not None:
        same = [known for known in GPUS.values() if known.name.rpartition("-")[0] == model]
        return min(same, key=lambda known: abs(known.memory - memory)).name
    by_memory = sorted((known for known in GPUS.values() if known.bf16), key=lambda known: known.memory)
    return next(
        (known.name for known in reversed(by_memory) if known.memory <= memory + GIB), by_memory[0].name
    )
