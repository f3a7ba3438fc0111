"""What to change after a rank was killed for its memory, or could not even report on a full disk: its own words do not
say."""

from pathlib import Path

from hatrain.contract.plan import Plan
from hatrain.doctor.machine import LEAST_DISK
from hatrain.runtime import reserve

_MEMORY = {
    "slurm": "raise memory in the cluster file",
    "kubernetes": "raise memory_per_gpu in the cluster file",
    "local": "end other programs, or train a smaller model",
}


def explained(reason: str, plan: Plan, killed: bool) -> str:
    """Add to the reason of a fault what to change. `killed`: the kernel killed a process for its memory meanwhile."""
    if killed:
        return f"{reason}; the kernel killed a process for lack of main memory: {_MEMORY[plan.launcher]}"
    # A rank that can say that the disk is full ends with 75, not with a fault.
    free = reserve.free_bytes(Path(plan.paths.run))
    if free is not None and free < LEAST_DISK:
        kept = plan.job.checkpoints.save_total_limit
        fewer = f", or keep fewer checkpoints (checkpoints.save_total_limit: {kept})" if kept > 1 else ""
        return f"{reason}; the disk of {plan.paths.run} has {free / 2**30:.1f} GiB free: remove files there{fewer}"
    return reason
