"""Checks what a run needs of this machine besides GPUs: shared memory, folders, disk, clock, network."""

import errno
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from hatrain.contract.gpus import GIB
from hatrain.contract.paths import hub_home
from hatrain.contract.run import Exit
from hatrain.doctor.finding import MIB, Finding, State, size

SHARED_MEMORY = Path("/dev/shm")
SHARED_PER_RANK = 20 * MIB
"""Where GPUs have no peer-to-peer access, NCCL cannot start with less: a rank has at least two segments of 9.6 MB."""
SHARED_ADVICE = GIB
LEAST_DISK = 64 * MIB
CLOCK_SECONDS = 5.0
CONNECT_SECONDS = 5.0
TOOLS_SECONDS = 60.0


def shared_memory(ranks: int) -> Finding:
    """Check /dev/shm for `ranks` GPU ranks on this machine. NCCL uses it from two ranks on."""
    check = "/dev/shm"
    try:
        stat = os.statvfs(SHARED_MEMORY)
    except OSError as error:
        state: State = "bad" if ranks > 1 else "note"
        return Finding(check, state, f"not available: {error.strerror}", "mount a tmpfs there", Exit.FATAL)
    total, free = stat.f_blocks * stat.f_frsize, stat.f_bavail * stat.f_frsize
    found = f"{size(free)} free of {size(total)}"
    remedy = "docker and podman: --shm-size=8g; Kubernetes: mount an emptyDir of medium Memory there"
    too_little = f"{found}, too little for {ranks} ranks"
    if ranks > 1 and total < ranks * SHARED_PER_RANK:
        return Finding(check, "bad", too_little, remedy, Exit.FATAL)
    if ranks > 1 and free < ranks * SHARED_PER_RANK:
        return Finding(check, "bad", too_little, "another process fills it", Exit.REQUEUE)
    if ranks > 1 and total < SHARED_ADVICE:
        return Finding(check, "note", found, remedy)
    return Finding(check, "ok", found)


def export_tools(*, wanted: bool) -> Finding:
    """Check llama.cpp and its converter, in a process of its own: the library takes hold of a GPU."""
    check = "export tools"
    try:
        command = [sys.executable, "-m", "hatrain.export.tools"]
        ended = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=TOOLS_SECONDS)
    except subprocess.TimeoutExpired:
        return Finding(check, "note", f"libllama did not load within {TOOLS_SECONDS:g} s")
    found = "; ".join(line.removeprefix("export: ") for line in ended.stdout.splitlines())
    if ended.returncode == 0:
        return Finding(check, "ok", found)
    found = found or (ended.stderr.strip().splitlines() or [f"libllama ends with code {ended.returncode}"])[-1]
    if not wanted:
        return Finding(check, "note", found, "only hatrain export and export: in a job need them")
    return Finding(check, "bad", found, "without export: the run only trains", Exit.FATAL)


def writable(check: str, folder: Path, *, only_machine: bool) -> Finding:
    """Check that files can be created in a folder, or in its nearest parent that exists."""
    try:
        existing = _nearest_existing(folder)
        with tempfile.TemporaryFile(dir=existing) as file:
            file.write(b"hatrain")
            file.flush()
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        denied = error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR)
        remedy = "free some space" if full else f"mount a folder there that uid {os.getuid()} can write to"
        code = Exit.REQUEUE if full or not (denied or only_machine) else Exit.FATAL
        return Finding(check, "bad", f"{folder}: not writable: {error.strerror}", remedy, code)
    return Finding(check, "ok", f"{folder}: writable" if existing == folder else f"{folder}: can be created")


def disk(check: str, folder: Path, needed: int) -> Finding:
    """Check for `needed` bytes of free space where a folder is, or will be; 0 if the number is not known."""
    try:
        free = shutil.disk_usage(_nearest_existing(folder)).free
    except OSError as error:
        return Finding(check, "bad", f"{folder}: {error.strerror}", code=Exit.FATAL)
    least = max(needed, LEAST_DISK)
    if free >= least:
        return Finding(check, "ok", f"{size(free)} free")
    purpose = " for the next checkpoint, which is written before the oldest is deleted" if needed > LEAST_DISK else ""
    return Finding(
        check,
        "bad",
        f"{size(free)} free, needs {size(least)}{purpose}",
        "free some space, or lower checkpoints.save_total_limit",
        Exit.REQUEUE,
    )


def clock(folder: Path) -> Finding:
    """Compare this machine's clock with the file server's, by the timestamp of a new file."""
    try:
        with tempfile.NamedTemporaryFile(dir=_nearest_existing(folder)) as file:
            before = time.time()
            os.utime(file.name)
            ahead = (before + time.time()) / 2 - Path(file.name).stat().st_mtime
    except OSError:
        return Finding("clock", "note", f"not compared: {folder} is not writable")
    if abs(ahead) > CLOCK_SECONDS:
        side = "ahead of" if ahead > 0 else "behind"
        return Finding("clock", "note", f"{abs(ahead):.0f} s {side} the file server's", "synchronize both with NTP")
    return Finding("clock", "ok", f"within {CLOCK_SECONDS:g} s of the file server's")


def hub_cache() -> Finding:
    """Check the model hub's cache. Models in it can be used even if it is read-only."""
    finding = writable("hub cache", hub_home(), only_machine=True)
    if finding.state == "ok":
        return finding
    remedy = "only models that are in it can be used; set HF_HOME to another folder"
    return Finding("hub cache", "note", finding.found, remedy)


def temporary() -> Path:
    """Return the folder of temporary files; if none is usable, the one that was configured."""
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError:
        return Path(os.environ.get("TMPDIR") or "/tmp")


def rendezvous(host: str | None, port: int | None, resolve_seconds: float) -> Finding:
    """Check that the rendezvous host's name resolves in time and, given a port, that the host is reachable."""
    check = "rendezvous"
    if not host:
        return Finding(check, "bad", "MASTER_ADDR is not set", "start the run with its node.sh", Exit.FATAL)
    deadline = time.monotonic() + resolve_seconds
    while True:
        try:
            address = socket.getaddrinfo(host, port or 0, type=socket.SOCK_STREAM)[0][4]
            break
        except OSError as error:
            if time.monotonic() >= deadline:
                remedy = "check that the first node is up and the name is right"
                return Finding(check, "bad", f"{host}: {error.strerror}", remedy, Exit.REQUEUE)
            time.sleep(min(1.0, resolve_seconds))
    if port is None:
        return Finding(check, "ok", f"{host} is {address[0]}")
    try:
        socket.create_connection((str(address[0]), port), timeout=CONNECT_SECONDS).close()
    except ConnectionRefusedError:
        return Finding(check, "ok", f"{host}:{port} is reachable; nothing listens there yet")
    except OSError as error:
        reason = error.strerror or f"no answer in {CONNECT_SECONDS:g} s"
        remedy = "check the firewall and NCCL_SOCKET_IFNAME"
        return Finding(check, "bad", f"{host}:{port}: {reason}", remedy, Exit.REQUEUE)
    return Finding(check, "ok", f"{host}:{port} answers")


def _nearest_existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.parents) if path.exists())
