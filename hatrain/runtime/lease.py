"""The lease of a run: one live attempt at a time, on machines that share a file system. It never waits."""

import contextlib
import fcntl
import json
import os
import secrets
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hatrain.runtime import seal

BEAT_SECONDS = 10.0
"""Between two heartbeats."""
STALE_SECONDS = 90.0
"""A holder on another machine is dead after this long without a heartbeat: nine of them, since file servers stall."""


class LeaseHeld(Exception):
    """A live attempt holds the lease."""


def process_start(pid: int) -> str | None:
    """Return when a live process of this machine started (clock ticks since boot); None when there is none."""
    try:
        # The command name, in parentheses, may contain spaces.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]


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
        """Return the content of the lease file while its holder is alive."""
        try:
            owner = json.loads(self.path.read_text(encoding="utf-8"))
            age = self._now() - self.path.stat().st_mtime
        except (FileNotFoundError, ValueError):
            return None
        if not isinstance(owner, dict) or not {"host", "pid"} <= set(owner):
            return None
        same_machine = (owner.get("host"), owner.get("namespace")) == (socket.gethostname(), _namespace())
        if same_machine and owner.get("started"):
            return owner if process_start(int(owner["pid"])) == owner["started"] else None
        return owner if age < STALE_SECONDS else None

    def _now(self) -> float:
        """Return the file server's time: its time stamps cannot be compared with this machine's clock."""
        probe = self.path.with_name(f".clock.{secrets.token_hex(8)}")
        try:
            probe.touch()
            return probe.stat().st_mtime
        finally:
            probe.unlink(missing_ok=True)

    def is_taken(self, token: str) -> bool:
        """Whether the lease file names another holder than the one with this token. A file that cannot be read names
        nobody."""
        try:
            owner = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        return isinstance(owner, dict) and owner.get("token") != token

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
            if (owner := self.holder()) and not supersedes(owner):
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
        return bool(json.loads(self.path.read_text(encoding="utf-8")) == owner)
