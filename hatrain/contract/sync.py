"""Copies of checkpoints, of the model and of exported files at `checkpoints.sync_to`: a folder, or anything that fsspec
reaches (s3://, gs://). A thread copies: what is slow, fails or never answers stops no training. A copy of a checkpoint
that failed is tried again with the next one."""

import queue
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
from fsspec.core import split_protocol, url_to_fs

from hatrain.contract.run import RunDirectory
from hatrain.errors import BadInput
from hatrain.runtime import checkpoints, credentials, seal

PATIENCE_SECONDS = 600.0
"""How long the end of training waits for the copies."""
PATIENCE_AT_STOP_SECONDS = 30.0


class SyncTarget:
    """A folder of the run's name at `checkpoints.sync_to`. Only rank 0 has one. It connects when it first copies."""

    def __init__(self, target: str, run: RunDirectory):
        """Raises BadInput for a protocol that this installation cannot write to."""
        self.run, self.url = run, target
        self._files: Any = None
        self._folder = ""
        self._work: queue.Queue[tuple[str, Callable[[], None]]] = queue.Queue()
        self._thread: threading.Thread | None = None
        protocol, _ = split_protocol(target)
        try:
            fsspec.get_filesystem_class(protocol or "file")
        except (ImportError, ValueError) as error:
            protocols = {"file", "gs", "gcs", "s3", "az", "sftp"} & set(fsspec.available_protocols())
            raise BadInput(
                f"checkpoints.sync_to: {credentials.hide(target)}: {error}; accepted: a folder, or a URL of "
                f"{', '.join(sorted(protocols))}"
            ) from None

    def checkpoints(self) -> None:
        """Copy the checkpoints that the target lacks, and remove those that were removed here."""
        if self._work.empty():  # one that waits to be done copies all of them
            self._enqueue("checkpoints", self._copy_checkpoints)

    def folder(self, folder: Path) -> None:
        """Copy a sealed folder, in place of an earlier one of its name."""
        self._enqueue(folder.name, lambda: self._copy_in_place(folder))

    def file(self, path: Path) -> None:
        """Copy one file of a folder of the run that was copied."""
        self._enqueue(path.name, lambda: self._copy_file(path))

    def wait(self, seconds: float) -> None:
        """Wait for the copies, and say so when they take longer."""
        if self._thread is None:
            return
        done = threading.Event()
        self._enqueue("", done.set)
        if not done.wait(seconds):
            self._report("the rest", TimeoutError(f"not copied within {seconds:g} s"))

    def _enqueue(self, what: str, work: Callable[[], None]) -> None:
        self._work.put((what, work))
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="sync", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while True:
            what, work = self._work.get()
            try:
                work()
            except Exception as error:
                self._report(what, error)

    def _connect(self) -> tuple[Any, str]:
        """Return the file system, and the run's folder in it. May raise anything."""
        if self._files is None:
            files, path = url_to_fs(self.url)
            self._files, self._folder = files, f"{path.rstrip('/')}/{self.run.name}"
        return self._files, self._folder

    def _copy_checkpoints(self) -> None:
        files, target = self._connect()
        local = {step: path for step, path in checkpoints.by_step(self.run.checkpoints) if _is_sealed(path)}
        remote = self._names(f"{target}/checkpoints")
        for path in local.values():
            if not files.exists(f"{target}/checkpoints/{path.name}/{seal.MANIFEST}"):
                try:
                    self._copy(path, f"checkpoints/{path.name}")
                except FileNotFoundError:
                    if path.exists():
                        raise
        # What is newer than all that are here may be all that is left of a damaged folder.
        for step, name in remote.items():
            if step not in local and step < max(local, default=0):
                files.rm(f"{target}/checkpoints/{name}", recursive=True)

    def _copy_in_place(self, folder: Path) -> None:
        self._copy(folder, folder.name)
        files, run_folder = self._connect()
        target = f"{run_folder}/{folder.name}"
        ours = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        for path in files.find(target):
            if str(path).partition(f"{target.lstrip('/')}/")[2] not in ours:
                files.rm_file(path)

    def _copy_file(self, path: Path) -> None:
        files, target = self._connect()
        destination = f"{target}/{path.relative_to(self.run.folder).as_posix()}"
        files.makedirs(destination.rpartition("/")[0], exist_ok=True)
        files.put_file(str(path), destination)

    def _names(self, path: str) -> dict[int, str]:
        """The checkpoints at the target by step, unfinished copies too."""
        files, _ = self._connect()
        if not files.exists(path):
            return {}
        names = [entry.rstrip("/").rpartition("/")[2] for entry in files.ls(path, detail=False)]
        return {step: name for name in names if (step := checkpoints.step_of(name)) is not None}

    def _copy(self, folder: Path, name: str) -> None:
        """Copy a sealed folder, its manifest last."""
        files, target = self._connect()
        manifest = folder / seal.MANIFEST
        paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and path != manifest]
        for path in [*paths, manifest]:
            destination = f"{target}/{name}/{path.relative_to(folder).as_posix()}"
            files.makedirs(destination.rpartition("/")[0], exist_ok=True)
            files.put_file(str(path), destination)
        print(f"{folder.name} copied to {credentials.hide(f'{target}/{name}')}", flush=True)

    def _report(self, what: str, error: Exception) -> None:
        """A remote file system may raise anything. The run goes on: its own copy is safe."""
        reason = f"{type(error).__name__}: {error}"
        target = credentials.hide(self.url)
        print(f"{what} not copied to {target}: {credentials.hide(reason)}", flush=True)
        self.run.record("sync failed", what=what, target=target, reason=reason)


def _is_sealed(path: Path) -> bool:
    return (path / seal.MANIFEST).is_file()
