"""Agreeing on a stop over all ranks."""

import os

import torch.distributed as dist

from hatrain.contract.run import Attempt


class StopFlag:
    """Whether the ranks agreed to stop. Rank 0 reads the attempt's stop file, and all ranks follow it."""

    def __init__(self, attempt: Attempt):
        self.attempt = attempt
        self.is_set = False

    def poll(self) -> bool:
        """Return the same answer on every rank. A collective call: once per step, or per micro-batch of a test."""
        if not self.is_set:
            rank = int(os.environ.get("RANK", "0"))
            answer = [rank == 0 and self.attempt.stop() is not None]
            if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
                dist.broadcast_object_list(answer, src=0)
            self.is_set = answer[0]
        return self.is_set
