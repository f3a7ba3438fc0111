"""Collective calls: every rank makes them, in the same order. A run of one process needs no process group."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist


def on_any_rank(flags: Sequence[bool], device: torch.device) -> list[bool]:
    """Return for each flag whether it is set on any rank."""
    if not _has_ranks():
        return list(flags)
    shared = torch.tensor(flags, dtype=torch.int32, device=device)
    dist.all_reduce(shared, op=dist.ReduceOp.MAX)
    return [bool(flag) for flag in shared.tolist()]


def over_all_ranks(sums: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return the sum of every rank's tensor, on `device`."""
    shared = sums.to(device)
    if _has_ranks():
        dist.all_reduce(shared)
    return shared


def from_all_ranks(value: Any) -> list[Any]:
    """Return every rank's value, on every rank."""
    if not _has_ranks():
        return [value]
    values = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def from_rank_zero(value: Any) -> Any:
    """Return rank 0's value, on every rank."""
    if not _has_ranks():
        return value
    values = [value]
    dist.broadcast_object_list(values, src=0)
    return values[0]


def barrier() -> None:
    """Wait for every rank."""
    if _has_ranks():
        dist.barrier()


def _has_ranks() -> bool:
    return bool(dist.is_available() and dist.is_initialized())
