"""Starting a child of entry, passing on what it says, and seeing that it ends. It knows nothing of training."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from hatrain.errors import BadInput
from hatrain.plan import Plan

POLL_SECONDS = 0.2
TERM_SECONDS = 15.0
"""At most this long from asking a child to end (SIGTERM) to ending it (SIGKILL)."""
MARK = "HATRAIN_RUN"
"""The variable that every process of an attempt carries: the run directory that it works for."""


def torchrun(plan: Plan, module: str, folder: Path, node_rank: int) -> list[str]:
    """Return the command that starts this node's ranks. Every rendezvous setting is on it, and static.

    Several nodes meet at $MASTER_ADDR:$MASTER_PORT; one node meets itself, on a port that is free now.
    """
    several = plan.nodes > 1
    try:
        address = os.environ["MASTER_ADDR"] if several else "127.0.0.1"
        port = os.environ["MASTER_PORT"] if several else str(_free_port())
    except KeyError as error:
        raise BadInput(
            f"{error.args[0]}: not set; {plan.nodes} nodes meet there, and node.sh exports it"
        ) from None
    return [
        *(sys.executable, "-m", "torch.distributed.run"),
        *("--nnodes", str(plan.nodes), "--nproc-per-node", str(plan.processes_per_node)),
        *("--node-rank", str(node_rank), "--max-restarts", "0"),
        *("--rdzv-backend", "static", "--rdzv-id", plan.job.name),
        *("--master-addr", address, "--master-port", port),
        *("-m", module, str(folder)),
    ]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def follow(
    command: Sequence[str],
    *,
    cwd: str,
    environment: Mapping[str, str],
    log: Path,
    stopping: Callable[[], bool],
    grace: float,
    abandoned: Callable[[], bool] = lambda: False,
) -> int | None:
    """Run a command in a session of its own to its end, its output in `log` and on our own stdout.

    Once `stopping` says so it has `grace` seconds to leave; then it is terminated, then killed. Once `abandoned` says
    so it is killed at once. Returns its exit code, or None when it had to be made to leave.
    """
    with log.open("ab") as kept:
        child = subprocess.Popen(
            command,
            cwd=cwd,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        assert child.stdout is not None
        passing = threading.Thread(target=_pass_on, args=(child.stdout.fileno(), kept.fileno()), daemon=True)
        passing.start()
        forced = _wait(child, stopping, grace, abandoned)
        end_leftovers(environment[MARK])
        passing.join(TERM_SECONDS)
    return None if forced else child.returncode


def _wait(
    child: subprocess.Popen[bytes],
    stopping: Callable[[], bool],
    grace: float,
    abandoned: Callable[[], bool],
) -> bool:
    """Wait for a child. Returns whether it had to be made to leave."""
    deadline: float | None = None
    while not abandoned():
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(POLL_SECONDS)
            return False
        # Asked each time: a user's word may follow a scheduler's, and is passed on by asking.
        if stopping() and deadline is None:
            deadline = time.monotonic() + grace
        if deadline is not None and time.monotonic() > deadline:
            break
    if not abandoned():
        os.killpg(child.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(min(TERM_SECONDS, grace))
            return True
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    return True


def _pass_on(source: int, log: int) -> None:
    """Copy bytes to the log and to stdout, and to what is left of them when one is full or nobody reads it: a child
    must never wait for us."""
    targets = [log, 1]
    while data := os.read(source, 65536):
        for target in list(targets):
            try:
                _write_all(target, data)
            except OSError:
                targets.remove(target)


def _write_all(target: int, data: bytes) -> None:
    while data:
        data = data[os.write(target, data) :]


def end_leftovers(folder: str) -> list[int]:
    """Kill what an ended attempt left running on this machine: ranks whose torchrun died, torchruns whose entry
    did. Returns their process ids. Only to be called where the lease is held, so that nobody else's are among them.
    """
    mark = f"{MARK}={folder}".encode()
    ended: list[int] = []
    # A process may start another between our look and its end, so look until none is found.
    while found := [pid for pid in _processes() if pid not in ended and mark in _environment(pid)]:
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
