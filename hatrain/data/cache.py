"""Where prepared rows are kept for the next run: one folder for each file, tokenizer and way to label. Without a cache
that can be written, everything goes on as before, and a line says so."""

import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from hatrain.contract.row_lengths import text_of
from hatrain.data.labels import Labeller
from hatrain.data.prepared import Prepared, load, save
from hatrain.runtime import seal

MOST_BYTES = 10 * 2**30
"""Size of the cache. What was used least recently is removed beyond it."""
_ABANDONED_SECONDS = 24 * 3600
"""Age of a file that a process which was killed left."""
_PACKAGES = ("tokenizers", "transformers", "jinja2")

Say = Callable[[str], None]


def key_of(labeller: Labeller, kind: str, digest: str) -> str:
    """Return a digest of all that decides how a file's rows become tokens and labels: its bytes (`digest`), the
    tokenizer, the chat template, its date if it asks for it, the job's prefix and suffix ids, whether rows are pairs,
    and the code: the source of this package, and the versions of the libraries under it."""
    tokenizer, template = labeller.tokenizer, labeller.finder.template
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    parts = {
        "file": digest,
        "kind": kind,
        "tokenizer": hashlib.sha256(backend.to_str().encode()).hexdigest(),
        "special": tokenizer.special_tokens_map,
        "template": tokenizer.chat_template,
        "today": template.today.isoformat() if template.mentions("strftime_now") else None,
        "ids": [labeller.prefix, labeller.suffix],
        "code": _code(),
        "packages": {name: version(name) for name in _PACKAGES},
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def _code() -> str:
    sources = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"\0".join(path.name.encode() + path.read_bytes() for path in sources)).hexdigest()


class Cache:
    """A folder of prepared rows. Several processes may use it at once."""

    def __init__(self, folder: Path, say: Say):
        self._folder, self._say, self._works = folder, say, True

    def find(self, key: str) -> Prepared | None:
        """Return the rows that are kept under a key; None without whole ones."""
        entry = self._folder / key
        with self._going_on():
            if (found := load(entry)) is not None:
                with contextlib.suppress(OSError):  # another user's, perhaps
                    os.utime(entry)
                return found
        return None

    def keep(self, key: str, prepared: Prepared) -> None:
        partial = self._folder / f".partial-{key}-{secrets.token_hex(4)}"
        try:
            with self._going_on():
                save(prepared, partial, self._folder / key)
                self._prune(key)
        finally:
            with contextlib.suppress(OSError):
                seal.remove(partial)

    def keep_lengths(self, name: str, prepared: Prepared) -> None:
        """Write how long the rows are, for plans."""
        with self._going_on():
            seal.write_text(self._folder / name, text_of(prepared.longest.tolist()))

    @contextlib.contextmanager
    def alone(self, key: str, waiting: str) -> Iterator[bool]:
        """Wait while another process prepares the same rows, and say `waiting` then. False where the folder cannot be
        locked.

        The system unlocks it when its owner ends, however it ends.
        """
        with contextlib.ExitStack() as stack:
            is_locked = False
            with self._going_on():
                self._folder.mkdir(parents=True, exist_ok=True)
                handle = stack.enter_context((self._folder / f".lock-{key}").open("w"))
                _lock(handle.fileno(), lambda: self._say(waiting) if waiting else None)
                is_locked = True
            yield is_locked

    @contextlib.contextmanager
    def _going_on(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if self._works:
                self._say(f"{self._folder}: {error.strerror or error}: going on without the cache of prepared rows")
            self._works = False

    def _prune(self, kept: str) -> None:
        """Remove what killed processes left, and what was used least recently beyond MOST_BYTES."""
        now, entries = time.time(), []
        for path in self._folder.iterdir():
            with contextlib.suppress(OSError):  # another process removes it too
                changed = path.stat().st_mtime
                if path.name.startswith("."):
                    if now - changed > _ABANDONED_SECONDS:
                        seal.remove(path)
                elif path.name != kept:
                    files = path.iterdir() if path.is_dir() else [path]
                    entries.append((changed, sum(file.stat().st_size for file in files), path))
        left = MOST_BYTES
        for _, size, path in sorted(entries, reverse=True):
            left -= size
            if left < 0:
                with contextlib.suppress(OSError):
                    seal.remove(path)


def _lock(handle: int, say_that_it_waits: Callable[[], Any], pause: float = 0.1) -> None:
    """Lock a file. Raises OSError where the file system has no locks."""
    said = False
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if not said:
                say_that_it_waits()
            said = True
            time.sleep(pause)
