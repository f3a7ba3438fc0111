"""Copies what runs have written on the cluster into their directories here: small files as a whole, and what was
appended to the others. Each look lists the files first, and fetches only what is new."""

import base64
import contextlib
import fcntl
import gzip
import hashlib
import json
import os
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hatrain.contract.run import RunDirectory
from hatrain.errors import BadInput
from hatrain.runtime import seal
from launch.backends.slurm.ssh.connection import Connection, private_folder

PLAN, RECORD, LEASE, METRICS = "plan.json", "record.jsonl", "lease.json", "metrics.jsonl"
_WHOLE = (PLAN, "DONE", LEASE, "evaluation.json", "description.json", "attempts/*/STOP", "attempts/*/rank-*.json")
_LOGS = ("launch/slurm-*.log", "attempts/*/log.txt")
RECORD_THERE = "launch/record-there.jsonl"
"""The cluster's record as far as it was read. Its lines are also in record.jsonl, between those of this machine."""
_PART_BYTES = 32 * 2**20
"""Of one file, in one answer."""


@dataclass(frozen=True)
class Copy:
    """A run directory here, and the one on the cluster that it is a copy of."""

    run: RunDirectory
    there: str


@dataclass(frozen=True)
class _File:
    size: int
    modified: float
    """Seconds since 1970, by the cluster's clock."""
    inode: int


@dataclass(frozen=True)
class _Part:
    copy: Copy
    path: str
    file: _File
    offset: int
    length: int

    @property
    def is_all(self) -> bool:
        return self.offset + self.length == self.file.size


def refresh(connection: Connection, copies: Sequence[Copy], *, logs: bool = False) -> None:
    """Bring the directories of runs up to date, with one look for all of them. Raises BadInput where there is no
    connection."""
    if not copies:
        return
    with _locked(copies[0].run.root):
        while True:
            now, listed = _listed(connection, copies, logs=logs)
            for copy, files in listed.items():
                _refuse_same(connection, copy, files)
            parts = [part for copy in copies for part in _wanted(copy, listed.get(copy, {}))]
            is_complete = True
            for part, content in zip(parts, _fetched(connection, parts), strict=True):
                if content is not None:
                    _keep(part, content, age=now - part.file.modified)
                    is_complete = is_complete and part.is_all
            if is_complete:
                return


@contextlib.contextmanager
def _locked(root: Path) -> Iterator[None]:
    """Two commands that append to the same files would append the same bytes twice."""
    name = hashlib.sha256(os.fsencode(root)).hexdigest()[:16]
    with (private_folder() / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _listed(
    connection: Connection, copies: Sequence[Copy], *, logs: bool
) -> tuple[float, dict[Copy, dict[str, _File]]]:
    """(the cluster's time, the files of each run)."""
    patterns = " ".join((*_WHOLE, RECORD, METRICS, "attempts/*", *(_LOGS if logs else ())))
    lines = [
        "shopt -s nullglob",
        "date +%s.%N",
        "look() { # NUMBER FOLDER PATTERN…",
        "  local number=$1",
        '  cd -- "$2" 2> /dev/null || return 0',
        "  shift 2",
        f'  stat --dereference --printf "$number %s %.9Y %i %F/%n\\0" -- {patterns} $* 2> /dev/null || true',
        "}",
        *(f"look {number} {shlex.quote(copy.there)}{_batch_logs(copy, logs)}" for number, copy in enumerate(copies)),
    ]
    output = connection.run("\n".join(lines))
    clock, _, rest = output.out.partition(b"\n")
    listed: dict[Copy, dict[str, _File]] = {}
    try:
        now = float(clock)
        for entry in rest.split(b"\0")[:-1]:
            number, size, modified, inode, named = entry.decode(errors="surrogateescape").split(" ", 4)
            kind, _, path = named.partition("/")
            copy = copies[int(number)]
            if kind.startswith("regular"):
                listed.setdefault(copy, {})[path] = _File(int(size), float(modified), int(inode))
            elif kind == "directory" and path.rpartition("/")[2].isdigit():
                (copy.run.folder / path).mkdir(parents=True, exist_ok=True)
                listed.setdefault(copy, {})
    except (ValueError, IndexError):
        raise BadInput(f"{connection.host}: its answer about the runs is not in the expected format") from None
    return now, listed


def _batch_logs(copy: Copy, logs: bool) -> str:
    """The batch script of an array logs to the folder of its sweep."""
    return f" '../../launch/slurm-*_{copy.run.folder.name}.log'" if logs and copy.run.in_sweep else ""


def _refuse_same(connection: Connection, copy: Copy, there: Mapping[str, _File]) -> None:
    """Raise BadInput where the directory here is the cluster's own, which this would change."""
    plan = copy.run.plan_file
    if PLAN in there and plan.is_file():
        found, file = plan.stat(), there[PLAN]
        if (found.st_ino, found.st_size, round(found.st_mtime, 3)) == (file.inode, *_stamp(file)):
            raise BadInput(
                f"{copy.run.name}: {connection.host} sees the files of this machine in {copy.run.folder}; use a "
                "cluster file without ssh here, or another ssh.workdir"
            )


def _wanted(copy: Copy, there: Mapping[str, _File]) -> Iterator[_Part]:
    folder = copy.run.folder
    if there and LEASE not in there:
        (folder / LEASE).unlink(missing_ok=True)
    for path, file in there.items():
        here = folder / (RECORD_THERE if path == RECORD else path)
        found = here.stat() if here.is_file() else None
        if _is_appended(path):
            offset = found.st_size if found and found.st_size <= file.size else 0
            if file.size > offset:
                yield _Part(copy, path, file, offset, min(file.size - offset, _PART_BYTES))
        elif path == PLAN:
            # What was submitted from here stays; a run that came from another machine becomes known.
            if found is None:
                yield _Part(copy, path, file, 0, file.size)
        elif found is None or path == LEASE or (found.st_size, round(found.st_mtime, 3)) != _stamp(file):
            yield _Part(copy, path, file, 0, file.size)


def _is_appended(path: str) -> bool:
    return path in (RECORD, METRICS) or path.endswith((".log", ".txt"))


def _stamp(file: _File) -> tuple[int, float]:
    return file.size, round(file.modified, 3)


def _fetched(connection: Connection, parts: Sequence[_Part]) -> list[bytes | None]:
    """The content of each part; None where the file has changed or gone meanwhile."""
    if not parts:
        return []
    lines = [
        "part() { # FILE OFFSET LENGTH",
        '  tail --bytes="+$(($2 + 1))" -- "$1" 2> /dev/null | head --bytes="$3" | gzip | base64 --wrap=0; echo',
        "}",
        *(f"part {shlex.quote(f'{part.copy.there}/{part.path}')} {part.offset} {part.length}" for part in parts),
    ]
    answers = connection.run("\n".join(lines)).out.split(b"\n")[:-1]
    if len(answers) != len(parts):
        raise BadInput(f"{connection.host}: its answer about the runs is not in the expected format")
    contents: list[bytes | None] = []
    for part, answer in zip(parts, answers, strict=True):
        try:
            content = gzip.decompress(base64.b64decode(answer, validate=True))
        except (ValueError, OSError, EOFError):
            content = b""
        contents.append(content if len(content) == part.length else None)
    return contents


def _keep(part: _Part, content: bytes, *, age: float) -> None:
    folder = part.copy.run.folder
    if part.path == RECORD:
        _merge(part, content)
    elif _is_appended(part.path):
        _append(folder / part.path, content, part.offset)
    else:
        seal.write_bytes(folder / part.path, content)
        # A lease tells by its age whether its holder lives: by this machine's clock here.
        stamp = time.time() - age if part.path == LEASE else part.file.modified
        os.utime(folder / part.path, (stamp, stamp))


def _append(path: Path, content: bytes, offset: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab" if offset else "wb") as file:
        file.write(content)


def _merge(part: _Part, content: bytes) -> None:
    """Append the new whole lines of the cluster's record to that of this machine, in the order in which they arrive. A
    submission that this machine recorded as well is left out."""
    run = part.copy.run
    whole = content[: content.rfind(b"\n") + 1]
    known = {event.get("job") for event in run.events() if event.get("event") == "submitted"}
    for line in whole.split(b"\n"):
        with contextlib.suppress(ValueError, RecursionError):
            event = json.loads(line)
            if isinstance(event, dict) and not (event.get("event") == "submitted" and event.get("job") in known):
                seal.append_line(run.record_file, event)
    _append(run.folder / RECORD_THERE, whole, part.offset)
