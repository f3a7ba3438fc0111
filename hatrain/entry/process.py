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

from hatrain.contract.plan import Plan
from hatrain.errors import BadInput
from hatrain.runtime.orphans import end_orphans

POLL_SECONDS = 0.2
TERM_SECONDS = 15.0
"""At most this long from asking a child to end (SIGTERM) to ending it (SIGKILL)."""
MEETING_SECONDS = 600
"""How long nodes wait for each other at the rendezvous: they are all here by then, and start Python and torch, which
takes minutes from a slow file server. Meanwhile torchrun tries again where a name or a port does not answer yet."""


def meeting_place(nodes: int) -> tuple[str, str]:
    """Return the address and the port where nodes meet: what the launcher says; one node meets itself, on a port that
    is free now. Raises BadInput when the launcher says nothing."""
    if nodes == 1:
        return "127.0.0.1", str(_free_port())
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        if not os.environ.get(name):
            raise BadInput(f"{name}: not set; {nodes} nodes meet there, and the launcher exports it")
    return os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"]


def torchrun(plan: Plan, module: str, folder: Path, node_rank: int) -> list[str]:
    """Return the command that starts this node's ranks. Every rendezvous setting is on it, and static.

    Raises as `meeting_place` does.
    """
    address, port = meeting_place(plan.nodes)
    return [
        *(sys.executable, "-m", "torch.distributed.run"),
        *("--nnodes", str(plan.nodes), "--nproc-per-node", str(plan.processes_per_node)),
        *("--node-rank", str(node_rank), "--max-restarts", "0"),
        *("--rdzv-backend", "static", "--rdzv-id", plan.job.name),
        *("--rdzv-conf", f"timeout={MEETING_SECONDS}"),
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
        _end_children(environment)
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


def _end_children(around: Mapping[str, str]) -> None:
    end_orphans(around["HATRAIN_RUN"], int(around["HATRAIN_ATTEMPT"]), int(around["HATRAIN_NODE_RANK"]))
