"""Main memory: how much of it is free for this process, and how often the kernel killed for lack of it."""

from pathlib import Path

from hatrain.runtime import machine

_CGROUPS = Path("/sys/fs/cgroup")
_SELF = Path("/proc/self/cgroup")
_VMSTAT = Path("/proc/vmstat")
_MEMINFO = Path("/proc/meminfo")


def available() -> int:
    """Return the bytes that the machine and this process's control group have left; where the system does not say it,
    as on macOS, half of the machine's memory."""
    left = _table(_MEMINFO).get("MemAvailable:", 0) * 1024 or machine.physical_memory() // 2
    group = _own_group()
    if group is None:
        return left
    limit, used = _number(group / "memory.max"), _number(group / "memory.current")
    return left if limit is None or used is None else min(left, limit - used)


def total() -> int:
    """Return the bytes of the machine's memory and swap, or of this process's control group where it may have less; 0
    where nothing can be read."""
    lines = _table(_MEMINFO)
    machine = (lines.get("MemTotal:", 0) + lines.get("SwapTotal:", 0)) * 1024
    group = _own_group()
    limit = _number(group / "memory.max") if group is not None else None
    return machine if limit is None else min(machine, limit)


def kills() -> int:
    """Return how many processes were killed in this process's control group, or on the whole machine where the group
    does not count them. SIGKILL leaves no other trace; compare two counts."""
    for group, file in (_own_group(), "memory.events"), (_own_group("memory"), "memory.oom_control"):
        if group is not None and (count := _table(group / file).get("oom_kill")) is not None:
            return count
    return _table(_VMSTAT).get("oom_kill", 0)


def _own_group(controller: str = "") -> Path | None:
    """The folder of this process's group in cgroup v2, or of a controller's in v1."""
    try:
        lines = _SELF.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if controllers == controller:
            return _CGROUPS / controller / group.lstrip("/")
    return None


def _table(file: Path) -> dict[str, int]:
    """The numbers of a file of lines `name number`."""
    try:
        lines = [line.split() for line in file.read_text().splitlines()]
    except OSError:
        return {}
    return {line[0]: int(line[1]) for line in lines if len(line) > 1 and line[1].isdigit()}


def _number(file: Path) -> int | None:
    """The number in a file; None for `max`, and where there is none."""
    try:
        text = file.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None
