"""Brings the results of a run from the cluster. A model or checkpoint is complete or invisible here too: it is copied
aside, compared with its manifest, and renamed."""

import secrets
import shlex
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from hatrain.contract.run import RunDirectory
from hatrain.errors import BadInput
from hatrain.runtime import checkpoints, seal
from launch.backends.slurm.ssh.connection import Connection

MEASURED = ("tensorboard", "evaluations", "trackers.json", "report.html", "evaluation.json", "description.json")
"""What `mirror` does not copy with every look, or not always."""
_SEALED = ("model", "adapter")
_TRIES = 3
"""A checkpoint may be removed, and a model replaced, while it is copied."""


class Pull:
    """The results of one run."""

    def __init__(self, connection: Connection, run: RunDirectory, there: str):
        self._connection, self._run, self._there = connection, run, there

    def measured(self) -> None:
        """Copy the files that belong to no model. Those that are written at this moment are copied as they are."""
        if names := self._files(*MEASURED):
            self._connection.rsync([f":{self._there}/", f"{self._run.folder}/"], names)

    def model(self) -> list[str]:
        """Copy the model and the adapter, or the newest whole checkpoint."""
        brought = [line for name in _SEALED if (line := self._sealed(name))]
        return brought or [self._checkpoint()]

    def export(self) -> list[str]:
        """Copy the exported files, if there are any."""
        line = self._sealed("export")
        return [line] if line else []

    # --- sealed folders ---

    def _sealed(self, name: str) -> str | None:
        for _ in range(_TRIES):
            if not self._files(f"{name}/{seal.MANIFEST}"):
                return None
            if self._copy(name, seal.verify):
                return f"{self._run.name}: {self._run.folder / name}"
        raise BadInput(f"{self._run.name}: {name} changes while it is copied; try again")

    def _checkpoint(self) -> str:
        for _ in range(_TRIES):
            found = self._files(f"checkpoints/checkpoint-*/{seal.MANIFEST}")
            by_step = sorted((checkpoints.step_of(path.split("/")[1]) or 0, path.split("/")[1]) for path in found)
            if not by_step:
                return f"{self._run.name}: has no model and no whole checkpoint yet"
            step, name = by_step[-1]
            why_not = partial(checkpoints.why_not, step=step, identity=self._run.plan().identity)
            if self._copy(f"checkpoints/{name}", why_not):
                here = self._run.checkpoints / name
                return f"{self._run.name}: has no model yet; its checkpoint of step {step}: {here}"
        raise BadInput(f"{self._run.name}: its checkpoints change while they are copied; try again")

    def _copy(self, name: str, damage: Callable[[Path], str | None]) -> bool:
        """Whether it is here, and whole. What was copied of one that is not whole is kept for the next try."""
        final = self._run.folder / name
        aside = final.with_name(f".partial-pulled-{final.name}")
        names = self._files(name)
        manifest = f"{name}/{seal.MANIFEST}"
        if manifest not in names:
            return False
        # The manifest first: it tells whether what is here is the same.
        inside = [path.removeprefix(f"{name}/") for path in names]
        source = f":{self._there}/{name}/"
        aside.mkdir(parents=True, exist_ok=True)
        self._connection.rsync([source, f"{aside}/"], [seal.MANIFEST])
        if _same_manifest(final, aside) and seal.verify(final, checksums=False) is None:
            seal.remove(aside)
            return True
        for stale in [path for path in aside.rglob("*") if path.is_file() and ".hatrain-partial" not in path.parts]:
            if stale.relative_to(aside).as_posix() not in inside:
                stale.unlink()
        with suppress(Vanished):
            self._fetch(source, aside, inside)
        if damage(aside) is not None:
            return False
        old = final.with_name(f".old-{final.name}.{secrets.token_hex(4)}")
        with suppress(FileNotFoundError):
            final.rename(old)
        aside.rename(final)
        with suppress(OSError):
            seal.remove(old)
        return True

    def _fetch(self, source: str, aside: Path, names: list[str]) -> None:
        print(f"{self._run.name}: copying {source.rstrip('/').rpartition('/')[2]}", file=sys.stderr)
        try:
            self._connection.rsync([source, f"{aside}/"], names, progress=True)
        except BadInput as error:
            if "link_stat" in str(error) or "vanished" in str(error):
                raise Vanished from None
            raise

    # --- the cluster's files ---

    def _files(self, *patterns: str) -> list[str]:
        """The files of the run there that these names or patterns find; all files below a folder."""
        lines = [
            f"cd -- {shlex.quote(self._there)} 2> /dev/null || exit 0",
            "shopt -s nullglob",
            f"for path in {' '.join(patterns)}; do",
            '  if [[ -e $path ]]; then find -L "$path" -type f -print0; fi',
            "done",
        ]
        output = self._connection.run("\n".join(lines)).out
        return sorted({entry.decode(errors="surrogateescape") for entry in output.split(b"\0") if entry.strip()})


class Vanished(Exception):
    """A file was removed while it was copied."""


def _same_manifest(one: Path, other: Path) -> bool:
    try:
        return (one / seal.MANIFEST).read_bytes() == (other / seal.MANIFEST).read_bytes()
    except OSError:
        return False
