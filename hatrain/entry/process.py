"""Runs one child process to its end: passes its output on, gives it time after a stop, and kills what stays."""

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
from hatrain.runtime import credentials
from hatrain.runtime.orphans import end_descendants

POLL_SECONDS = 0.2
LONGEST_LINE = 2**20
"""Bytes of output without a line's end that are held back."""
TERM_SECONDS = 15.0
"""The longest wait between SIGTERM and SIGKILL."""
RENDEZVOUS_SECONDS = 600
"""How long the nodes' torchruns wait for each other. All nodes are here by then, but starting Python and torch takes
minutes from a slow file server; meanwhile torchrun retries a name or a port that does not answer."""


def rendezvous(nodes: int) -> tuple[str, str]:
    """Return the address and the port where the ranks meet: the launcher's, or for one node a free local port.

    Raises BadInput when the launcher of several nodes has not exported them.
    """
    if nodes == 1:
        return "127.0.0.1", str(_free_port())
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        if not os.environ.get(name):
            raise BadInput(f"{name}: not set; the launcher exports where the {nodes} nodes meet")
    return os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"]


def torchrun(plan: Plan, module: str, folder: Path, node_rank: int) -> list[str]:
    """Return the command that starts this node's ranks, with every rendezvous setting given and static.

    Raises as `rendezvous` does.
    """
    address, port = rendezvous(plan.nodes)
    return [
        *(sys.executable, "-m", "hatrain.train.torchrun"),
        *("--nnodes", str(plan.nodes), "--nproc-per-node", str(plan.processes_per_node)),
        *("--node-rank", str(node_rank), "--max-restarts", "0"),
        *("--rdzv-backend", "static", "--rdzv-id", plan.job.name),
        *("--rdzv-conf", f"timeout={RENDEZVOUS_SECONDS}"),
        *("--master-addr", address, "--master-port", port),
        *("-m", module, str(folder)),
    ]


def seconds(variable: str, default: float) -> float:
    """Read a number of seconds from the environment. Raises BadInput when it is none."""
    value = os.environ.get(variable) or default
    try:
        return float(value)
    except ValueError:
        raise BadInput(f"{variable}: found {value!r}; accepted: a number of seconds") from None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def run(
    command: Sequence[str],
    *,
    cwd: str,
    environment: Mapping[str, str],
    log: Path,
    stopping: Callable[[], bool],
    grace: float,
    abandoned: Callable[[], bool] = lambda: False,
) -> int | None:
    """Run a command to its end in a session of its own, its output in `log` and on stdout.

    From when `stopping` is true it has `grace` seconds to leave; then it is terminated, then killed. Once `abandoned`
    is true it is killed at once. Returns the exit code, or None when the command had to be killed.
    """
    with log.open("ab") as file:
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
        copier = threading.Thread(target=_copy, args=(child.stdout.fileno(), file.fileno(), environment), daemon=True)
        copier.start()
        killed = _wait(child, stopping, grace, abandoned)
        _end_descendants(environment)
        copier.join(TERM_SECONDS)
    return None if killed else child.returncode


def _wait(
    child: subprocess.Popen[bytes],
    stopping: Callable[[], bool],
    grace: float,
    abandoned: Callable[[], bool],
) -> bool:
    """Wait for a child. Returns whether it had to be terminated or killed."""
    deadline: float | None = None
    while not abandoned():
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(POLL_SECONDS)
            return False
        # Called at every poll, for it also passes signals on: a user's stop may follow a scheduler's.
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


def _copy(source: int, log: int, environment: Mapping[str, str]) -> None:
    """Copy bytes to the log and to stdout, without the credentials of the child's environment. A target that fails
    (disk full, pipe closed) is dropped and the others go on: the child must never block on its output."""

    def hidden(data: bytes) -> bytes:
        text = data.decode(errors="surrogateescape")
        return credentials.hide(text, environment).encode(errors="surrogateescape")

    targets, tail = [log, 1], b""
    while data := os.read(source, 65536):
        # By whole lines: a credential may lie across two reads.
        lines, end, tail = (tail + data).rpartition(b"\n")
        if len(tail) > LONGEST_LINE:
            lines, end, tail = lines + end + tail, b"", b""
        _pass_on(hidden(lines + end), targets)
    _pass_on(hidden(tail), targets)


def _pass_on(data: bytes, targets: list[int]) -> None:
    """Write output to each target. One that fails is removed."""
    for target in list(targets):
        try:
            _write_all(target, data)
        except OSError:
            targets.remove(target)


def _write_all(target: int, data: bytes) -> None:
    while data:
        data = data[os.write(target, data) :]


def _end_descendants(environment: Mapping[str, str]) -> None:
    attempt, node = int(environment["HATRAIN_ATTEMPT"]), int(environment["HATRAIN_NODE_RANK"])
    end_descendants(environment["HATRAIN_RUN"], attempt, node)
