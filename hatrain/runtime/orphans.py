"""Finds and kills processes that an attempt left behind, by the environment variables that all its processes carry."""

import contextlib
import os
import signal
from collections.abc import Callable, Iterable, Sequence

from hatrain.runtime import machine


def marks(folder: str, attempt: int, node: int) -> dict[str, str]:
    """Return the variables that mark every process of an attempt on a node."""
    return {"HATRAIN_RUN": folder, "HATRAIN_ATTEMPT": str(attempt), "HATRAIN_NODE_RANK": str(node)}


def end_orphans(folder: str, attempt: int, node: int) -> list[int]:
    """Kill the processes of a run on this machine, except those of other nodes in this attempt. Returns their ids.

    Only a process that takes part in the attempt may call it.
    """
    run, number, rank = (f"{name}={value}".encode() for name, value in marks(folder, attempt, node).items())

    def is_orphan(variables: Sequence[bytes]) -> bool:
        return run in variables and (rank in variables or number not in variables)

    return _end(is_orphan)


def end_descendants(folder: str, attempt: int, node: int) -> list[int]:
    """Kill what an attempt's processes on a node started and left, nothing of a later attempt. Returns their ids."""
    wanted = {f"{name}={value}".encode() for name, value in marks(folder, attempt, node).items()}
    return _end(lambda variables: wanted <= set(variables))


def _end(is_wanted: Callable[[Sequence[bytes]], bool]) -> list[int]:
    killed: list[int] = []
    # A process may start another before it is killed: repeat until none is found.
    while found := [pid for pid in processes_with(is_wanted) if pid not in killed]:
        kill(found)
        killed += found
    return killed


def processes_with(is_wanted: Callable[[Sequence[bytes]], bool]) -> list[int]:
    """Find this machine's other processes by their environment variables, each `b"NAME=value"`."""
    return [pid for pid, variables in machine.environments() if is_wanted(variables)]


def kill(pids: Iterable[int]) -> None:
    """Kill processes. One that has ended, or is another user's, is left out."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
