"""Copies of checkpoints, of the model and of exported files at `checkpoints.sync_to`: a folder, or anything that fsspec
reaches (s3://, gs://). A copy that fails is reported and tried again with the next one; it never fails the run."""

from pathlib import Path

import fsspec
from fsspec.core import url_to_fs

from hatrain.contract.run import RunDirectory
from hatrain.errors import BadInput
from hatrain.runtime import seal


class SyncTarget:
    """A folder of the run's name at `checkpoints.sync_to`. Only rank 0 has one."""

    def __init__(self, target: str, run: RunDirectory):
        self.run = run
        try:
            self.files, path = url_to_fs(target)
        except (ImportError, ValueError) as error:
            protocols = {"file", "gs", "gcs", "s3", "az", "sftp"} & set(fsspec.available_protocols())
            raise BadInput(
                f"checkpoints.sync_to: {target}: {error}; accepted: a folder, or a URL of "
                f"{', '.join(sorted(protocols))}"
            ) from None
        self.target = f"{path.rstrip('/')}/{run.name}"

    def checkpoints(self) -> None:
        """Copy the checkpoints that the target lacks, and remove those that were rotated away."""
        local = {
            path.name: path for path in self.run.checkpoints.glob("checkpoint-*") if (path / seal.MANIFEST).is_file()
        }
        try:
            copied = self._whole_checkpoints(f"{self.target}/checkpoints")
            for name in local.keys() - copied:
                self._copy(local[name], f"{self.target}/checkpoints/{name}")
            for name in copied - local.keys():
                self.files.rm(f"{self.target}/checkpoints/{name}", recursive=True)
        except Exception as error:
            self._report("checkpoints", error)

    def folder(self, folder: Path) -> None:
        """Copy a sealed folder, in place of an earlier one of its name."""
        target = f"{self.target}/{folder.name}"
        try:
            self._copy(folder, target)
            ours = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
            for path in self.files.find(target):
                if str(path).partition(f"{target.lstrip('/')}/")[2] not in ours:
                    self.files.rm_file(path)
        except Exception as error:
            self._report(folder.name, error)

    def _whole_checkpoints(self, path: str) -> set[str]:
        """Names of folders with a manifest, which is copied last."""
        if not self.files.exists(path):
            return set()
        names = {entry.rstrip("/").rpartition("/")[2] for entry in self.files.ls(path, detail=False)}
        return {name for name in names if self.files.exists(f"{path}/{name}/{seal.MANIFEST}")}

    def _copy(self, folder: Path, target: str) -> None:
        manifest = folder / seal.MANIFEST
        files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path != manifest]
        for path in [*files, manifest]:
            destination = f"{target}/{path.relative_to(folder).as_posix()}"
            self.files.makedirs(destination.rpartition("/")[0], exist_ok=True)
            self.files.put_file(str(path), destination)
        print(f"{folder.name} copied to {target}", flush=True)

    def _report(self, what: str, error: Exception) -> None:
        """A remote file system may raise anything. The run goes on: its own copy is safe."""
        reason = f"{type(error).__name__}: {error}"
        print(f"{what} not copied to {self.target}: {reason}", flush=True)
        self.run.record("sync failed", what=what, target=self.target, reason=reason)
