"""Agreeing over all ranks on a stop, and on the loss of the run's lease."""

import os

from hatrain.contract.run import Attempt
from hatrain.runtime.lease import Lease
from hatrain.train.collectives import from_rank_zero


class Superseded(Exception):
    """Another start of the job holds the run's lease: this one must write nothing more."""

    def __init__(self) -> None:
        super().__init__("superseded: another start of this job holds the run's lease")


class StopFlag:
    """Whether the ranks agreed to stop. Rank 0 reads the attempt's stop file and the lease, and all ranks follow it."""

    def __init__(self, attempt: Attempt, lease: Lease):
        self.attempt, self.lease = attempt, lease
        # Only node 0 has the token. An attempt without one, as in tests, is alone.
        self.token = os.environ.get("HATRAIN_LEASE")
        self.is_set = False

    def poll(self) -> bool:
        """Return the same answer on every rank. A collective call: once per step, or per micro-batch of a test.

        Raises Superseded, on every rank.
        """
        if not self.is_set:
            rank = int(os.environ.get("RANK", "0"))
            answer = (rank == 0 and self.attempt.stop() is not None, rank == 0 and self._is_superseded())
            self.is_set, is_superseded = from_rank_zero(answer)
            if is_superseded:
                raise Superseded
        return self.is_set

    def check_lease(self) -> None:
        """Called by rank 0 alone, before it seals something. Raises Superseded."""
        if self._is_superseded():
            raise Superseded

    def _is_superseded(self) -> bool:
        return bool(self.token) and self.lease.is_taken(str(self.token))
