"""A full disk: how it is recognised, and a reserve that is freed to write the last words of an attempt."""

import contextlib
import errno
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

BYTES = 2**20
"""Exit reports and record lines are short; the rest is for the blocks of their files."""
_FULL = (errno.ENOSPC, errno.EDQUOT)
_SAID = re.compile(r"no space left on device|disk quota exceeded|os error (28|122)\b", re.IGNORECASE)
_TORCH = re.compile(r"PytorchStreamWriter failed|inline_container|unexpected pos", re.IGNORECASE)
"""How torch.save ends on a full disk: it names no reason."""


def path(folder: Path) -> Path:
    return folder / ".reserve"


def make(folder: Path) -> None:
    """Write the reserve of a run, unless it is there. Without room there is none."""
    with contextlib.suppress(OSError):
        if path(folder).stat().st_size == BYTES:
            return
    try:
        with path(folder).open("wb") as file:
            file.write(os.urandom(BYTES))  # some file systems store no zeros
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        free(folder)


def free(folder: Path) -> None:
    with contextlib.suppress(OSError):
        path(folder).unlink()


def with_room(folder: Path, write: Callable[[], None]) -> None:
    """Call `write`; on a full disk free the reserve of the run and call it again."""
    try:
        write()
    except OSError as error:
        if error.errno not in _FULL:
            raise
        free(folder)
        write()


def is_full(error: BaseException) -> bool:
    """Whether an error, or one that it came from, says that a disk is full or a quota used up."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        if (isinstance(cause, OSError) and cause.errno in _FULL) or _SAID.search(str(cause)):
            return True
        if isinstance(cause, RuntimeError) and _TORCH.search(str(cause)):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def free_bytes(folder: Path) -> int | None:
    """The bytes that this user can still write where a folder is; None where it cannot be asked."""
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None
