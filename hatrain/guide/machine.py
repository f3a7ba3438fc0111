"""Finds out this machine's GPU with nvidia-smi, for commands that name none. It never imports torch."""

import os
import subprocess

from hatrain.contract.gpus import CPU, job_name
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
