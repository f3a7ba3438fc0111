"""What the system says about this machine and its processes: from /proc where there is one, as on Linux, else from the
calls and programs that macOS has as well."""

import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

PROC = Path("/proc")


def cores() -> int:
    """Return the processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def process_start(pid: int) -> str | None:
    """Return when a live process of this machine started, in words that differ for another process of its id; None
    when there is none."""
    if not PROC.is_dir():
        state, _, started = _ps("-o", "stat=,lstart=", "-p", str(pid)).strip().partition(" ")
        return None if not state or state.startswith("Z") else "-".join(started.split())
    fields = _stat(pid)
    return None if fields is None or fields[0] == "Z" else fields[19]


def process_state(pid: int) -> str | None:
    """Return the letter that the kernel has for what a process does, such as T for stopped; None when there is none."""
    if not PROC.is_dir():
        return _ps("-o", "stat=", "-p", str(pid)).strip()[:1] or None
    fields = _stat(pid)
    return None if fields is None else fields[0]


def environments() -> Iterator[tuple[int, Sequence[bytes]]]:
    """Yield the process id and the variables, each `b"NAME=value"`, of this machine's other processes, as far as this
    user may read them."""
    own = os.getpid()
    if not PROC.is_dir():
        yield from ((pid, found) for pid, found in in_listing(_ps("-axEww", "-o", "pid=,command=")) if pid != own)
        return
    for path in PROC.glob("[0-9]*"):
        if int(path.name) == own:
            continue
        try:
            content = (path / "environ").read_bytes()
        except OSError:
            continue
        yield int(path.name), content.split(b"\0")


def in_listing(listing: str) -> Iterator[tuple[int, Sequence[bytes]]]:
    """Yield process id and variables of each line of ps, which writes the command and then the variables."""
    for line in listing.splitlines():
        pid, _, rest = line.strip().partition(" ")
        if pid.isdecimal():
            yield int(pid), [part.encode() for part in re.split(r" (?=[A-Za-z_][A-Za-z0-9_]*=)", rest)]


def physical_memory() -> int:
    """Return the bytes of main memory; 0 where the system does not say."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return 0


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat from the state on."""
    try:
        # The command name, in parentheses, may contain spaces.
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def _ps(*arguments: str) -> str:
    try:
        ended = subprocess.run(["ps", *arguments], capture_output=True, text=True, errors="replace", timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return ended.stdout
