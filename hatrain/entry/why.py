"""What to change after a rank was killed for its memory or met a full disk: its own words do not say."""

import re
import shutil

from hatrain.contract.plan import Plan

_FULL = re.compile(r"No space left on device|Disk quota exceeded|PytorchStreamWriter failed writing", re.IGNORECASE)
_ALMOST_FULL = 64 * 2**20
"""Bytes. A full disk may not even hold an exit report."""
_MEMORY = {
    "slurm": "raise memory in the cluster file",
    "kubernetes": "raise memory_per_gpu in the cluster file",
    "local": "end other programs, or train a smaller model",
}


def explained(reason: str, plan: Plan, killed: bool) -> str:
    """Add to the reason of a fault what to change. `killed`: the kernel killed a process for its memory meanwhile."""
    if killed:
        return f"{reason}; the kernel killed a process for lack of main memory: {_MEMORY[plan.launcher]}"
    try:
        free = shutil.disk_usage(plan.paths.run).free
    except OSError:
        return reason
    if _FULL.search(reason) or free < _ALMOST_FULL:
        kept = plan.job.checkpoints.save_total_limit
        fewer = f", or keep fewer checkpoints (checkpoints.save_total_limit: {kept})" if kept > 1 else ""
        return f"{reason}; the disk of {plan.paths.run} has {free / 2**30:.1f} GiB free: remove files there{fewer}"
    return reason
