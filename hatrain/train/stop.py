"""Hearing a request to stop, and agreeing on it over all ranks. It never ends a process itself."""

import os
import signal
from types import FrameType

from hatrain.contract.run import Attempt
from hatrain.runtime.stop import Stop


def listen(attempt: Attempt) -> None:
    """Turn signals that reach this process into the attempt's stop file. Call it before the slow imports."""

    def heard(number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        attempt.request_stop(Stop(f"{name} reached the trainer", requeue=number != signal.SIGINT))

    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
        signal.signal(number, heard)


class StopWatch:
    """What the ranks know about a stop. Rank 0 looks at the file, and what it saw holds for all."""

    def __init__(self, attempt: Attempt):
        self.attempt = attempt
        self.agreed = False

    def look(self) -> bool:
        """Return whether to stop now: the same answer on every rank. A collective call, once a step or a batch."""
        import torch.distributed as dist

        if self.agreed:
            return True
        rank = int(os.environ.get("RANK", "0"))
        seen = rank == 0 and self.attempt.stop() is not None
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            told = [seen]
            dist.broadcast_object_list(told, src=0)
            seen = told[0]
        self.agreed = seen
        return seen
