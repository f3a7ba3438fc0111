"""Being started by somebody's torchrun: rank 0 is entry and makes the attempt, the other ranks train in it when it has
begun. They meet in the store that torchrun keeps for its ranks."""

import os
import sys
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

from hatrain.contract.plan import Plan
from hatrain.contract.run import Exit, RunDirectory
from hatrain.errors import BadInput

_KEY = "hatrain/attempt/{restart}"
_PATIENCE = timedelta(minutes=30)


def enter(plan: Plan, adopt: Callable[[], RunDirectory]) -> int:
    """Take this rank's part in one attempt. Returns the run's code in rank 0, 0 or 1 in the others.

    Raises BadInput for several nodes: a launcher's own node.sh does that.
    """
    if plan.nodes > 1:
        raise BadInput("hardware.nodes: torchrun by hand is for one node; submit the job for several")
    store = _store()
    key = _KEY.format(restart=os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))
    if os.environ["RANK"] != "0":
        told = store.get(key).decode()
        if told == "none":
            return Exit.FAULT
        os.environ["HATRAIN_ATTEMPT"], folder = told.split(" ", 1)
        os.execv(sys.executable, [sys.executable, "-m", "hatrain.train", folder])
    from hatrain import entry

    def train(plan: Plan, run: RunDirectory) -> Sequence[str]:
        store.set(key, f"{run.all_attempts()[-1].number} {run.folder}")
        return [sys.executable, "-m", "hatrain.train", str(run.folder)]

    try:
        return entry.main([str(adopt().folder)], train=train)
    finally:
        if not store.check([key]):
            store.set(key, "none")


def _store() -> Any:
    import torch.distributed as dist

    return dist.TCPStore(
        os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False, timeout=_PATIENCE
    )
