"""The files of a base model that a run stands on, recorded by its first attempt: a later attempt on other weights,
another tokenizer or another configuration is refused. A hub model is pinned by its commit (`revision.py`)."""

import hashlib
from pathlib import Path
from typing import Any

from hatrain.contract.run import RunDirectory
from hatrain.contract.spec import ModelSpec
from hatrain.errors import BadInput

EVENT = "base files"
SUFFIXES = {".json", ".jinja", ".model", ".txt", ".tiktoken", ".safetensors", ".bin", ".py"}
WHOLE = 4 * 2**20
"""Bytes up to which a file is read whole. Of a larger one its size, its first MiB and `BLOCKS` blocks are."""
HEAD, BLOCK, BLOCKS = 2**20, 4096, 256


def check(model: ModelSpec, run: RunDirectory, trained: str | None) -> None:
    """Compare the base's files with those recorded, and record them. `trained` names what the run already holds that
    was made with them, such as a checkpoint; None if nothing.

    `model.base` is a folder or a hub id, as `from_pretrained` takes it. Raises BadInput for files that changed.
    """
    recorded = [event for event in run.events() if event["event"] == EVENT]
    before: dict[str, Any] = recorded[-1]["files"] if recorded else {}
    now = files_of(model, before)
    if before and trained:
        changed = [name for name in sorted(before.keys() | now.keys()) if _content(before, name) != _content(now, name)]
        if changed:
            raise BadInput(
                f"model.base: {name}: {_change(before, now, name)} since {trained} was made with it; restore the old "
                "file, or start over with --fresh"
                for name in changed
            )
    if now != before:
        run.record(EVENT, files=now)


def files_of(model: ModelSpec, known: dict[str, Any]) -> dict[str, Any]:
    """Return size, time and digest of each file by its path. A file of the same size and time as in `known` is not
    read again."""
    folder = Path(model.base)
    paths = sorted(path for path in folder.glob("*") if path.suffix in SUFFIXES and path.is_file())
    if model.chat_template:
        paths.append(Path(model.chat_template))
    found: dict[str, Any] = {}
    for path in paths:
        try:
            stat = path.stat()
            same = known.get(str(path), {})
            if (same.get("size"), same.get("time")) == (stat.st_size, stat.st_mtime_ns):
                found[str(path)] = same
            else:
                found[str(path)] = {"size": stat.st_size, "time": stat.st_mtime_ns, "digest": sampled_digest(path)}
        except OSError as error:
            raise BadInput(f"model.base: {path}: cannot be read: {error.strerror}") from None
    return found


def sampled_digest(path: Path) -> str:
    """Return the SHA-256 of a small file, or of evenly spaced samples of a large one."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        size = path.stat().st_size
        if size <= WHOLE:
            digest.update(file.read())
        else:
            digest.update(file.read(HEAD))
            for number in range(BLOCKS):
                file.seek(HEAD + (size - HEAD - BLOCK) * number // (BLOCKS - 1))
                digest.update(file.read(BLOCK))
    return digest.hexdigest()


def _content(files: dict[str, Any], name: str) -> tuple[Any, ...]:
    return (files[name]["size"], files[name]["digest"]) if name in files else ()


def _change(before: dict[str, Any], now: dict[str, Any], name: str) -> str:
    if name not in now:
        return "is gone"
    return "has changed" if name in before else "is new"
