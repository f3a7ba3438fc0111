"""A second place for checkpoints and the model: a folder, or anything that fsspec reaches (s3://, gs://). A copy that
fails is told and tried again with the next one; training never waits for it to succeed."""

from pathlib import Path

import fsspec
from fsspec.core import url_to_fs

from hatrain.contract.run import RunDirectory
from hatrain.errors import BadInput
from hatrain.runtime import seal


class Mirror:
    """The copy of a run at `checkpoints.sync_to`, in a folder of the run's name. Only rank 0 has one."""

    def __init__(self, target: str, run: RunDirectory):
        self.run = run
        try:
            self.files, path = url_to_fs(target)
        except (ImportError, ValueError) as error:
            known = ", ".join(
                sorted(set(fsspec.available_protocols()) & {"file", "gs", "gcs", "s3", "az", "sftp"})
            )
            raise BadInput(
                f"checkpoints.sync_to: {target}: {error} (known are {known} and folders)"
            ) from None
        self.target = f"{path.rstrip('/')}/{run.name}"

    def checkpoints(self) -> None:
        """Copy checkpoints that are not there yet, and remove there what was rotated away here."""
        here = {
            path.name: path
            for path in self.run.checkpoints.glob("checkpoint-*")
            if (path / seal.MANIFEST).is_file()
        }
        try:
            there = self._names(f"{self.target}/checkpoints")
            for name in here.keys() - there:
                self._copy(here[name], f"{self.target}/checkpoints/{name}")
            for name in there - here.keys():
                self.files.rm(f"{self.target}/checkpoints/{name}", recursive=True)
        except Exception as error:
            self._failed("checkpoints", error)

    def folder(self, folder: Path) -> None:
        """Copy a finished folder."""
        try:
            self._copy(folder, f"{self.target}/{folder.name}")
        except Exception as error:
            self._failed(folder.name, error)

    def _names(self, path: str) -> set[str]:
        """Return the checkpoints whose manifest is there: it is copied last, so they are whole."""
        if not self.files.exists(path):
            return set()
        names = {entry.rstrip("/").rpartition("/")[2] for entry in self.files.ls(path, detail=False)}
        return {name for name in names if self.files.exists(f"{path}/{name}/{seal.MANIFEST}")}

    def _copy(self, folder: Path, target: str) -> None:
        files = [
            path for path in sorted(folder.rglob("*")) if path.is_file() and path != folder / seal.MANIFEST
        ]
        for path in [*files, folder / seal.MANIFEST]:
            place = f"{target}/{path.relative_to(folder).as_posix()}"
            self.files.makedirs(place.rpartition("/")[0], exist_ok=True)
            self.files.put_file(str(path), place)
        print(f"{folder.name} copied to {target}", flush=True)

    def _failed(self, what: str, error: Exception) -> None:
        """Whatever a remote file system raises: the run's own copy is safe, and that is what counts."""
        print(f"{what}: not copied to {self.target}: {type(error).__name__}: {error}", flush=True)
        self.run.record(
            "sync failed", what=what, target=self.target, reason=f"{type(error).__name__}: {error}"
        )
