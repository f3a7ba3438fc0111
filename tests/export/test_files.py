"""The folder of an export: what it replaces, what it leaves behind, and which file it recommends."""

import errno
import shutil
from dataclasses import replace

import pytest

from hatrain.errors import BadInput
from hatrain.export.files import Exported, Figures, Report, check_out, check_space, sealed_folder
from hatrain.export.table import rows_of
from hatrain.runtime import seal


def figures(strict: float) -> Figures:
    interval = (strict - 0.1, strict + 0.1)
    return Figures(100, 0.95, (0.9, 1.0), 90, 100, 80, strict, interval)


def file(kind: str, strict: float | None, size: int = 1000) -> Exported:
    return Exported(kind, f"lamp.{kind}.gguf", size, None if strict is None else figures(strict))


REPORT = Report(
    "lamp", figures(0.9), (file("f16", 0.9), file("q8_0", 0.9), file("q4_k_m", 0.895)), 40, 100, 100, ("<|im_end|>",)
)


def test_the_smallest_file_that_answers_as_well_as_the_model_is_recommended():
    assert REPORT.recommended.name == "lamp.q4_k_m.gguf"
    worse = replace(REPORT, files=(*REPORT.files[:2], file("q4_k_m", 0.85)))
    assert worse.recommended.name == "lamp.q8_0.gguf"


def test_the_largest_file_is_recommended_where_none_was_judged_or_all_are_worse():
    assert replace(REPORT, reference=None, files=(file("f16", None), file("q4_0", None))).recommended.type == "f16"
    assert replace(REPORT, files=(file("q8_0", 0.5), file("q4_0", 0.4))).recommended.type == "q8_0"


def test_the_table_has_the_model_and_each_file():
    header, model, *files = rows_of(replace(REPORT, files=(file("q8_0", 0.5, 2_500_000_000), file("q4_0", None, 1500))))
    assert header == ["file", "size", "right where a call is needed", "95%", "strict accuracy", "same answers"]
    assert model == ["lamp (transformers)", "", "0.900 of 80", "0.800-1.000", "0.950 of 100", "90 of 100"]
    assert files == [
        ["lamp.q8_0.gguf", "2.50 GB", "0.500 of 80", "0.400-0.600", "0.950 of 100", "90 of 100"],
        ["lamp.q4_0.gguf", "0.0 MB", "-", "-", "-", "-"],
    ]


def test_an_export_replaces_an_earlier_export_and_nothing_else(tmp_path):
    out = tmp_path / "export"
    check_out(out)
    with sealed_folder(out, {"gguf": ["f16"]}) as folder:
        seal.write_text(folder / "export.json", "{}")
    check_out(out)
    assert seal.facts(out) == {"gguf": ["f16"]}
    mine = tmp_path / "mine"
    seal.write_text(mine / "diary.txt", "dear")
    for place in (mine, mine / "diary.txt"):
        with pytest.raises(BadInput, match="holds other files than an export; choose a new folder with --out"):
            check_out(place)


def test_a_full_disk_is_one_line_and_leaves_the_earlier_export(tmp_path):
    out = tmp_path / "export"
    with sealed_folder(out, {}) as folder:
        seal.write_text(folder / "export.json", "earlier")
    with pytest.raises(BadInput, match="export: cannot be written: No space left on device"):  # noqa: SIM117
        with sealed_folder(out, {}) as folder:
            seal.write_text(folder / "export.json", "later")
            raise OSError(errno.ENOSPC, "No space left on device")
    assert (out / "export.json").read_text() == "earlier"
    assert [path.name for path in tmp_path.iterdir()] == ["export"]


def test_a_disk_without_room_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda place: shutil._ntuple_diskusage(100e9, 95e9, 5e9))
    check_space(tmp_path / "a" / "b", 2_000_000_000, ("f16", "q8_0", "q4_k_m"), 0)
    with pytest.raises(BadInput, match=r"needs about 7.7 GB, and the disk has 5.0 GB free; make room, choose fewer"):
        check_space(tmp_path / "a" / "b", 2_000_000_000, ("f16", "q8_0", "q4_k_m"), 4_000_000_000)
