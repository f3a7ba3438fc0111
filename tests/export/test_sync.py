"""Exported files are copied to `checkpoints.sync_to`, as the model is."""

import pytest

from hatrain.contract.run import Exit, RunDirectory
from hatrain.export import export, run
from hatrain.runtime import seal
from tests.export.test_files import REPORT
from tests.plans import a_plan


class Exported:
    """An exporter whose files are there at once."""

    names = ("lamp.q8_0.gguf", "lamp.q4_k_m.gguf")

    def __init__(self, source, wanted, out, rows, **options):
        self.out = out

    def run(self):
        partial = self.out.with_name(".partial")
        for name in self.names:
            seal.write_text(partial / name, name)
        seal.seal(partial, self.out)
        return REPORT


@pytest.fixture
def exported(tmp_path, monkeypatch):
    """Exports a run to a place, and returns the exit code and the run."""
    monkeypatch.setattr(export, "Exporter", Exported)

    def stage(target):
        plan = a_plan(tmp_path, export__gguf=["q8_0"], checkpoints__sync_to=str(target), data__test=None)
        directory = RunDirectory(tmp_path / "runs" / "lamp")
        directory.adopt(plan, {})
        return run.export_run(plan, directory, directory.new_attempt())[0], directory

    return stage


def files(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_the_files_are_copied_with_their_manifest(exported, tmp_path):
    code, directory = exported(tmp_path / "bucket")
    assert code is Exit.FINISHED
    copied = tmp_path / "bucket" / "lamp" / "export"
    assert files(copied) == {*Exported.names, seal.MANIFEST} == files(directory.export)
    assert seal.verify(copied) is None


def test_files_of_an_earlier_export_do_not_stay(exported, tmp_path, monkeypatch):
    exported(tmp_path / "bucket")
    monkeypatch.setattr(Exported, "names", ("lamp.f16.gguf",))
    exported(tmp_path / "bucket")
    copied = tmp_path / "bucket" / "lamp" / "export"
    assert files(copied) == {"lamp.f16.gguf", seal.MANIFEST}
    assert seal.verify(copied) is None


def test_a_copy_that_fails_is_recorded_and_the_export_stands(exported, tmp_path):
    (tmp_path / "bucket").write_text("a file")
    code, directory = exported(tmp_path / "bucket")
    assert code is Exit.FINISHED and seal.verify(directory.export) is None
    (event,) = [event for event in directory.events() if event["event"] == "sync failed"]
    assert event["what"] == "export"
