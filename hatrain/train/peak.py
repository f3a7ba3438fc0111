"""What a run needed of its GPU, beside what was predicted: in the record, and in the message when it ran out."""

import torch

from hatrain.contract.gpus import GIB
from hatrain.contract.plan import NOT_TENSORS, Plan
from hatrain.contract.run import Attempt, RunDirectory


def record(plan: Plan, run: RunDirectory, attempt: Attempt, *, ended: str) -> None:
    """Record the peak of this rank, in bytes, and how the attempt ended. Nothing is recorded without a GPU."""
    if plan.device != "cuda" or not torch.cuda.is_available():
        return
    run.record(
        "memory",
        attempt=attempt.number,
        ended=ended,
        device=torch.cuda.get_device_name(),
        predicted=sum(tensors(plan).values()) or None,
        allocated=int(torch.cuda.max_memory_allocated()),
        reserved=int(torch.cuda.max_memory_reserved()),
    )


def tensors(plan: Plan) -> dict[str, int]:
    """The parts of a prediction that torch counts."""
    parts = plan.memory.parts if plan.memory else {}
    return {name: size for name, size in parts.items() if name not in NOT_TENSORS}


def out_of_memory(plan: Plan, error: BaseException) -> str:
    """One line: the prediction by part, the peak, and the smallest change that needs less."""
    said = (str(error).splitlines() or [""])[0]
    peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    measured = f"; the peak was {peak / GIB:.1f} GiB" if peak else ""
    if plan.memory is None:
        return (
            f"out of GPU memory{measured}; lower method.micro_batch_size or ctx_size, set gradient_checkpointing: "
            f"true, or use lora ({said})"
        )
    memory = plan.memory
    parts = ", ".join(f"{name} {size / GIB:.1f}" for name, size in memory.parts.items() if size >= GIB / 20)
    change = f"; add {memory.remedies[0]}" if memory.remedies else ""
    return (
        f"out of GPU memory: predicted were {memory.total / GIB:.1f} of {memory.gpu / GIB:.0f} GiB ({parts}){measured}"
        f"{change} ({said})"
    )
