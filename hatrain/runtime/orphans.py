"""The processes of a run, which know each other by the variables that they carry, and the end of those that were left
behind. It starts none."""

import contextlib
import os
import signal
from pathlib import Path


def marks(folder: str, attempt: int, node: int) -> dict[str, str]:
    """Return the variables that every process of an attempt carries: what it works for, and as whose child."""
    return {"HATRAIN_RUN": folder, "HATRAIN_ATTEMPT": str(attempt), "HATRAIN_NODE_RANK": str(node)}


def end_orphans(folder: str, attempt: int, node: int) -> list[int]:
    """Kill what a run left running on this machine: ranks whose torchrun died, torchruns whose entry did. Spared are
    only other nodes of this attempt. Returns the process ids. Only to be called by who takes part in the attempt."""
    run, number, rank = (f"{name}={value}".encode() for name, value in marks(folder, attempt, node).items())

    def is_left(around: list[bytes]) -> bool:
        return run in around and (rank in around or number not in around)

    ended: list[int] = []
    # A process may start another between our look and its end, so look until none is found.
    while found := [pid for pid in _processes() if pid not in ended and is_left(_environment(pid))]:
        for pid in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        ended += found
    return ended


def _processes() -> list[int]:
    return [int(path.name) for path in Path("/proc").glob("[0-9]*") if int(path.name) != os.getpid()]


def _environment(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []
