"""Writes that are complete or invisible: files are replaced by one rename, folders are sealed with a manifest of
sizes and checksums. Everything that a later attempt may read is written here."""

import contextlib
import hashlib
import json
import math
import os
import secrets
import shutil
from pathlib import Path, PurePosixPath
from typing import Any

MANIFEST = "manifest.json"


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to disk, where the file system can."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_text(path: Path, text: str, mode: int = 0o644) -> None:
    """Write UTF-8 text as `write_bytes` does."""
    write_bytes(path, text.encode(), mode)


def write_bytes(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Write a file so that a reader sees the old content or the new, never a part. Creates its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with aside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        aside.chmod(mode)
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON as `write_bytes` does."""
    write_text(path, as_json(value, indent=2) + "\n")


def as_json(value: Any, indent: int | None = None) -> str:
    """Return JSON text. A float that is not finite becomes null: JSON has no NaN and no Infinity."""
    try:
        return json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(value), indent=indent, ensure_ascii=False, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def append_line(path: Path, value: Any) -> None:
    """Append one JSON line and flush it. A line that a crash cut off is ended first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    line = (as_json(value) + "\n").encode()
    with path.open("ab+") as file:
        if end := file.seek(0, os.SEEK_END):
            file.seek(end - 1)
            if file.read(1) != b"\n":
                line = b"\n" + line
        file.write(line)
        file.flush()
        os.fsync(file.fileno())


def read_object(path: Path) -> dict[str, Any]:
    """Return the JSON object of a file; empty where there is none that can be read."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read the JSON objects of a file of lines. Lines that are none, such as one cut off by a crash, are skipped; a
    missing file has none."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    lines = []
    for line in text.split("\n"):
        with contextlib.suppress(ValueError, RecursionError):
            if isinstance(value := json.loads(line), dict):
                lines.append(value)
    return lines


def digest(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / MANIFEST)


def share(folder: Path) -> None:
    """Give a folder's files the mode that the umask allows: some libraries write files for their owner alone."""
    os.umask(umask := os.umask(0))
    for path in _files(folder):
        path.chmod(0o666 & ~umask)


def remove(path: Path) -> None:
    """Remove a folder, a file or a link, dangling or not. Nothing happens where there is none. Raises OSError."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def seal(partial: Path, final: Path, **facts: Any) -> None:
    """Flush the folder `partial`, write its manifest with `facts` in it, and rename it to `final`, which it
    replaces."""
    entries = {}
    share(partial)
    for path in _files(partial):
        with path.open("rb") as file:
            os.fsync(file.fileno())
        entries[path.relative_to(partial).as_posix()] = {"size": path.stat().st_size, "sha256": digest(path)}
    for folder in [path for path in partial.rglob("*") if path.is_dir()]:
        sync_folder(folder)
    content = {**facts, "files": entries}
    write_json(partial / MANIFEST, {"sha256": _checksum(content), "content": content})
    final.parent.mkdir(parents=True, exist_ok=True)
    old = final.with_name(f".old-{final.name}.{secrets.token_hex(4)}")
    with contextlib.suppress(FileNotFoundError):
        final.rename(old)
    partial.rename(final)
    sync_folder(final.parent)
    with contextlib.suppress(OSError):
        remove(old)


def verify(folder: Path, *, checksums: bool = True) -> str | None:
    """Return what is wrong with a sealed folder, whatever it is; None when it is whole."""
    try:
        entries = _content(folder)["files"]
        for name, entry in entries.items():
            path = folder / name
            if not path.is_file():
                return f"{name} is missing"
            if (size := path.stat().st_size) != entry["size"]:
                return f"{name} has {size} bytes of {entry['size']}"
            if checksums and digest(path) != entry["sha256"]:
                return f"{name} has another checksum"
    except Damaged as damage:
        return str(damage)
    except OSError as error:
        name = Path(error.filename).name if error.filename else "a file"
        return f"{name} cannot be read: {error.strerror}"
    return None


def facts(folder: Path) -> dict[str, Any]:
    """Return what `seal` was given. Raises Damaged when the manifest cannot be read."""
    return {key: value for key, value in _content(folder).items() if key != "files"}


def names(folder: Path) -> list[str]:
    """Return the files that a sealed folder holds, relative to it. Raises Damaged when its manifest cannot be read."""
    return sorted(_content(folder)["files"])


class Damaged(Exception):
    """A manifest that cannot be read, and why."""


def _content(folder: Path) -> dict[str, Any]:
    """Return what a manifest says: its facts, and under `files` the size and the checksum of each file.

    A manifest of an earlier version is that content itself, without a checksum. Raises Damaged.
    """
    try:
        if not folder.is_dir():
            raise Damaged("not there")
        if not (folder / MANIFEST).exists():
            raise Damaged("no manifest: its writing was not finished")
        text = (folder / MANIFEST).read_bytes() if (folder / MANIFEST).is_file() else b""
    except OSError as error:
        raise Damaged(f"its manifest cannot be read: {error.strerror}") from None
    try:
        content = json.loads(text)
        if isinstance(content, dict) and content.keys() == {"sha256", "content"}:
            if _checksum(content["content"]) != content["sha256"]:
                raise Damaged("its manifest has another checksum")
            content = content["content"]
    except (ValueError, RecursionError):
        raise Damaged("its manifest is not JSON") from None
    if not isinstance(content, dict) or not _is_entries(content.get("files")):
        raise Damaged("its manifest does not list its files")
    return content


def _checksum(content: Any) -> str:
    """The SHA-256 of a manifest's content, however it is laid out as JSON."""
    text = json.dumps(content, ensure_ascii=True, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _is_entries(files: Any) -> bool:
    return isinstance(files, dict) and all(
        isinstance(entry, dict)
        and isinstance(entry.get("size"), int)
        and isinstance(entry.get("sha256"), str)
        and _is_inside(name)
        for name, entry in files.items()
    )


def _is_inside(name: str) -> bool:
    """Whether a manifest's name is that of a file in its folder."""
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts and "\0" not in name
