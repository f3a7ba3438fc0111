"""`torchrun … -m hatrain train JOB`: rank 0 makes the attempt as entry does, and the other ranks wait for it in
torchrun's own store, then train."""

import os
import sys
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

from hatrain.contract.plan import Plan
from hatrain.contract.run import Exit, RunDirectory
from hatrain.errors import BadInput

_KEY = "hatrain/attempt/{restart}"
_NONE = "none"
_PATIENCE = timedelta(minutes=30)


def enter(plan: Plan, adopt: Callable[[], RunDirectory]) -> int:
    """Run this rank's part of one attempt. Returns the run's exit code in rank 0, and 0 or 1 in the others.

    Raises BadInput for several nodes, which a launcher's node.sh starts.
    """
    if plan.nodes > 1:
        raise BadInput("hardware.nodes: torchrun by hand is for one node; submit the job for several")
    store = _store()
    key = _KEY.format(restart=os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))
    if os.environ["RANK"] != "0":
        attempt = store.get(key).decode()
        if attempt == _NONE:
            return Exit.FAULT
        os.environ["HATRAIN_ATTEMPT"], folder = attempt.split(" ", 1)
        os.execv(sys.executable, [sys.executable, "-m", "hatrain.train", folder])
    from hatrain import entry

    def train(plan: Plan, run: RunDirectory) -> Sequence[str]:
        store.set(key, f"{run.all_attempts()[-1].number} {run.folder}")
        return [sys.executable, "-m", "hatrain.train", str(run.folder)]

    try:
        return entry.main([str(adopt().folder)], commands={"training": train})
    finally:
        if not store.check([key]):
            store.set(key, _NONE)


def _store() -> Any:
    import torch.distributed as dist

    return dist.TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False, timeout=_PATIENCE)
