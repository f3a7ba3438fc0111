"""What a run needs around it on this machine: shared memory, folders to write to, disk, a clock, and the way to the
other nodes. It looks, and leaves nothing behind."""

import errno
import os
import shutil
import socket
import tempfile
import time
from pathlib import Path

from hatrain.contract.run import Exit, RunDirectory
from hatrain.doctor.finding import GIB, MIB, Finding, State, size

SHARED_MEMORY = Path("/dev/shm")
SHARED_PER_RANK = 20 * MIB
"""Below it NCCL cannot even begin where GPUs do not reach each other directly: its segments in /dev/shm are 9.6 MB
each, and a rank has two or more."""
SHARED_ADVICE = GIB
LEAST_DISK = 64 * MIB
CLOCK_SECONDS = 5.0
CONNECT_SECONDS = 5.0


def shared_memory(ranks: int) -> Finding:
    """Judge /dev/shm for `ranks` GPU ranks on this machine; NCCL meets there when there are two or more."""
    try:
        there = os.statvfs(SHARED_MEMORY)
    except OSError as error:
        state: State = "bad" if ranks > 1 else "note"
        return Finding("/dev/shm", state, f"not here: {error.strerror}", "mount a tmpfs there", Exit.FATAL)
    total, free = there.f_blocks * there.f_frsize, there.f_bavail * there.f_frsize
    found = f"{size(free)} free of {size(total)}"
    remedy = "docker and podman: --shm-size=8g; Kubernetes: an emptyDir of medium Memory there"
    if ranks > 1 and total < ranks * SHARED_PER_RANK:
        return Finding("/dev/shm", "bad", f"{found}, too little for {ranks} ranks", remedy, Exit.FATAL)
    if ranks > 1 and free < ranks * SHARED_PER_RANK:
        return Finding(
            "/dev/shm",
            "bad",
            f"{found}, too little for {ranks} ranks",
            "somebody else fills it",
            Exit.REQUEUE,
        )
    if ranks > 1 and total < SHARED_ADVICE:
        return Finding("/dev/shm", "note", found, remedy)
    return Finding("/dev/shm", "ok", found)


def writable(check: str, folder: Path, *, local: bool) -> Finding:
    """Judge whether files can be made in a folder, or in the nearest one above it that exists."""
    try:
        there = next(path for path in (folder, *folder.parents) if path.exists())
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(b"hatrain")
            file.flush()
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        denied = error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR)
        remedy = "free some space" if full else f"mount something there that uid {os.getuid()} may write to"
        code = Exit.REQUEUE if full or not (denied or local) else Exit.FATAL
        return Finding(check, "bad", f"{folder}: not writable: {error.strerror}", remedy, code)
    return Finding(check, "ok", f"{folder}: writable" if there == folder else f"{folder}: can be made")


def disk(check: str, folder: Path, needed: int) -> Finding:
    """Judge the free space where a folder lies, or will; `needed` bytes are what comes next, 0 if that is unknown."""
    try:
        there = next(path for path in (folder, *folder.parents) if path.exists())
        free = shutil.disk_usage(there).free
    except OSError as error:
        return Finding(check, "bad", f"{folder}: {error.strerror}", code=Exit.FATAL)
    least = max(needed, LEAST_DISK)
    if free < least:
        return Finding(
            check,
            "bad",
            f"{size(free)} free, and {size(least)} wanted"
            + (" for the next checkpoint, before the oldest goes" if needed > LEAST_DISK else ""),
            "free some space, or lower checkpoints.save_total_limit",
            Exit.REQUEUE,
        )
    return Finding(check, "ok", f"{size(free)} free")


def clock(folder: Path) -> Finding:
    """Compare this machine's clock with the file server's, by the date of a file made now."""
    try:
        there = next(path for path in (folder, *folder.parents) if path.exists())
        with tempfile.NamedTemporaryFile(dir=there) as file:
            before = time.time()
            os.utime(file.name)
            ahead = (before + time.time()) / 2 - Path(file.name).stat().st_mtime
    except OSError:
        return Finding("clock", "note", f"not compared: {folder} is not writable")
    if abs(ahead) > CLOCK_SECONDS:
        side = "ahead of" if ahead > 0 else "behind"
        return Finding("clock", "note", f"{abs(ahead):.0f} s {side} the file server's", "let NTP set both")
    return Finding("clock", "ok", f"the file server's, within {CLOCK_SECONDS:g} s")


def hub_cache(local: bool) -> Finding:
    """Judge the model hub's cache; what is in it can be used even where nothing can be added."""
    told = os.environ.get("HF_HOME")
    around = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    folder = Path(told or f"{around}/huggingface").expanduser()
    finding = writable("hub cache", folder, local=local)
    if finding.state == "ok":
        return finding
    return Finding(
        "hub cache", "note", finding.found, "only models that are in it can be used; HF_HOME moves it"
    )


def temporary() -> Path:
    """Return the folder of temporary files: the one in use, or the one that was asked for and cannot be."""
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError:
        return Path(os.environ.get("TMPDIR") or "/tmp")


def checkpoint_bytes(run: Path) -> int:
    """Return how large the newest checkpoint of a run is, in bytes; 0 when there is none."""
    folders = [path for path in RunDirectory(run).checkpoints.glob("checkpoint-*") if path.is_dir()]
    newest = max(folders, key=lambda path: path.stat().st_mtime, default=None)
    return sum(path.stat().st_size for path in newest.rglob("*") if path.is_file()) if newest else 0


def rendezvous(host: str | None, port: int | None, patience: float) -> Finding:
    """Judge the way to where the nodes meet: whether the name is known within `patience` seconds, and, with a port,
    whether somebody there answers."""
    check = "rendezvous"
    if not host:
        return Finding(check, "bad", "MASTER_ADDR is not set", "start the run with its node.sh", Exit.FATAL)
    deadline = time.monotonic() + patience
    while True:
        try:
            address = socket.getaddrinfo(host, port or 0, type=socket.SOCK_STREAM)[0][4]
            break
        except OSError as error:
            if time.monotonic() >= deadline:
                return Finding(
                    check,
                    "bad",
                    f"{host}: {error.strerror}",
                    "is the first node up, and the name right?",
                    Exit.REQUEUE,
                )
            time.sleep(min(1.0, patience))
    if port is None:
        return Finding(check, "ok", f"{host} is {address[0]}")
    try:
        socket.create_connection((str(address[0]), port), timeout=CONNECT_SECONDS).close()
    except ConnectionRefusedError:
        return Finding(check, "ok", f"{host}:{port} is reached; nobody listens there yet")
    except OSError as error:
        why = error.strerror or f"no answer in {CONNECT_SECONDS:g} s"
        return Finding(
            check, "bad", f"{host}:{port}: {why}", "a firewall, or the wrong network", Exit.REQUEUE
        )
    return Finding(check, "ok", f"{host}:{port} answers")
