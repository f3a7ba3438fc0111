"""The lease of a run: one live attempt at a time, on machines that share a file system. It never waits, and looking at
it writes nothing."""

import contextlib
import fcntl
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hatrain.runtime import seal
from hatrain.runtime.machine import process_start

BEAT_SECONDS = 10.0
"""Between two heartbeats."""
STALE_SECONDS = 90.0
"""A holder on another machine is dead after this long without a heartbeat: nine of them, since file servers stall."""
SKEW_SECONDS = 60.0
"""How far the clocks of this machine and of the file server may differ, for one who only looks."""


class LeaseHeld(Exception):
    """A live attempt holds the lease."""


def _namespace() -> str:
    """Return the boot id and the PID namespace in which this process's id is valid.

    The host name alone does not tell: a pod replaced on another machine has the same name, and often the same PID
    namespace number.
    """
    boot = pids = ""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    with contextlib.suppress(OSError):
        pids = str(Path("/proc/self/ns/pid").readlink())
    return f"{boot} {pids}"


def _this_process() -> dict[str, Any]:
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "started": process_start(os.getpid()),
        "namespace": _namespace(),
    }


class Lease:
    """The lease file of one run."""

    def __init__(self, path: Path):
        self.path = path

    def holder(self) -> dict[str, Any] | None:
        """Return the content of the lease file while its holder seems to be alive. It writes nothing, and so compares
        with this machine's clock. Raises OSError when the file cannot be read."""
        return self._live(time.time, STALE_SECONDS + SKEW_SECONDS)

    def contender(self) -> dict[str, Any] | None:
        """Return the content of the lease file while its holder is alive, for one who may write beside it: the time
        stamp of a new file tells the file server's time. Raises OSError."""
        return self._live(self._server_time, STALE_SECONDS)

    def _live(self, clock: Callable[[], float], patience: float) -> dict[str, Any] | None:
        try:
            # Opening the file makes NFS ask for its newest time stamp.
            with self.path.open("rb") as file:
                owner, beat = json.loads(file.read()), os.fstat(file.fileno()).st_mtime
        except (FileNotFoundError, NotADirectoryError, ValueError, RecursionError):
            return None
        if not isinstance(owner, dict) or not isinstance(owner.get("host"), str) or type(owner.get("pid")) is not int:
            return None
        same_machine = (owner["host"], owner.get("namespace")) == (socket.gethostname(), _namespace())
        if same_machine and owner.get("started"):
            return owner if process_start(owner["pid"]) == owner["started"] else None
        # A live holder renews a stamp from the future, which a wrong clock has left, at its next heartbeat.
        return owner if abs(clock() - beat) < patience else None

    def _server_time(self) -> float:
        probe = self.path.with_name(f".clock.{secrets.token_hex(8)}")
        try:
            probe.touch()
            return probe.stat().st_mtime
        finally:
            probe.unlink(missing_ok=True)

    def is_taken(self, token: str) -> bool:
        """Whether another than the holder with this token has the lease, or had it: only a holder removes the file. A
        file that cannot be read tells nothing."""
        try:
            owner = self._owner()
        except (OSError, ValueError):
            return False
        return owner is None or (isinstance(owner, dict) and owner.get("token") != token)

    @contextlib.contextmanager
    def held(
        self, supersedes: Callable[[dict[str, Any]], bool] = lambda owner: False, **facts: Any
    ) -> Iterator[threading.Event]:
        """Hold the lease during a `with` block, with `facts` in its file. Raises LeaseHeld while another holder lives,
        unless it is one that this process `supersedes`.

        The event is set once the lease is lost: another process took it, because it supersedes this one, or because
        this machine was suspended for too long.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if (owner := self.contender()) and not supersedes(owner):
                raise LeaseHeld(f"process {owner['pid']} on {owner['host']}")
            mine = {**_this_process(), **facts}
            seal.write_json(self.path, mine)
        ended, lost = threading.Event(), threading.Event()
        beating = threading.Thread(target=self._beat, args=(mine, ended, lost), name="lease", daemon=True)
        beating.start()
        try:
            yield lost
        finally:
            ended.set()
            beating.join()
            with contextlib.suppress(OSError, ValueError):
                if self._is(mine):
                    self.path.unlink()

    def _beat(self, mine: dict[str, Any], ended: threading.Event, lost: threading.Event) -> None:
        while not ended.wait(BEAT_SECONDS):
            # A file server that does not answer for a moment must not end the attempt.
            with contextlib.suppress(OSError, ValueError):
                if not self._is(mine):
                    lost.set()
                    return
                os.utime(self.path)

    def _is(self, owner: dict[str, Any]) -> bool:
        return bool(self._owner() == owner)

    def _owner(self) -> Any:
        """What the lease file holds; None without a file. Raises OSError and ValueError where it cannot be read."""
        try:
            return json.loads(self.path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
