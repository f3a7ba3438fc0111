"""Complete or invisible: what is written is there whole, or not at all."""

import json
import os
import signal
import subprocess
import sys

import pytest

from hatrain.runtime import seal


def sealed(tmp_path, **facts):
    partial = tmp_path / "partial"
    seal.write_text(partial / "weights.bin", "w" * 1000)
    seal.write_text(partial / "inner" / "config.json", "{}")
    seal.seal(partial, tmp_path / "final", **facts)
    return tmp_path / "final"


def test_a_sealed_folder_is_whole_and_keeps_its_facts(tmp_path):
    final = sealed(tmp_path, step=7)
    assert seal.verify(final) is None
    assert seal.facts(final) == {"step": 7}
    assert not (tmp_path / "partial").exists()


def test_every_kind_of_damage_is_found_and_named(tmp_path):
    def damage(change):
        folder = tmp_path / change.__name__
        folder.mkdir()
        final = sealed(folder)
        change(final)
        return seal.verify(final)

    def shorter(final):
        (final / "weights.bin").write_text("w")

    def altered(final):
        (final / "weights.bin").write_text("x" * 1000)

    def lost(final):
        (final / "inner" / "config.json").unlink()

    def unsealed(final):
        (final / seal.MANIFEST).unlink()

    def torn(final):
        (final / seal.MANIFEST).write_text('{"files": {')

    assert damage(shorter) == "weights.bin has 1 bytes of 1000"
    assert damage(altered) == "weights.bin has another checksum"
    assert damage(lost) == "inner/config.json is missing"
    assert damage(unsealed) == "no manifest: its writing was not finished"
    assert damage(torn) == "its manifest cannot be read"
    assert seal.verify(tmp_path / "nowhere") == "not there"


def test_without_checksums_contents_are_not_read(tmp_path):
    final = sealed(tmp_path)
    (final / "weights.bin").write_text("x" * 1000)
    assert seal.verify(final, checksums=False) is None


def test_sealing_replaces_an_older_folder(tmp_path):
    sealed(tmp_path, step=1)
    (tmp_path / "final" / "old").write_text("old")
    assert seal.facts(sealed(tmp_path, step=2)) == {"step": 2}
    assert not (tmp_path / "final" / "old").exists()


def test_a_file_is_replaced_whole_and_leaves_nothing_beside_it(tmp_path):
    seal.write_text(tmp_path / "file", "old")
    seal.write_text(tmp_path / "file", "new", 0o755)
    assert (tmp_path / "file").read_text() == "new"
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o755
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    seal.write_text(tmp_path / "file", "old")
    with pytest.raises(UnicodeEncodeError):
        seal.write_text(tmp_path / "file", "new \ud800")
    assert (tmp_path / "file").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_reader_sees_the_old_or_the_new_file_whenever_the_writer_is_killed(tmp_path):
    seal.write_json(tmp_path / "file", [0] * 2000)
    script = (
        "import sys\nfrom pathlib import Path\nfrom hatrain.runtime import seal\n"
        "for n in range(10**6): seal.write_json(Path(sys.argv[1]), [n] * 2000)"
    )
    writer = subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "file")])
    try:
        seen = set()
        while len(seen) < 5:
            assert writer.poll() is None, "the writer died"
            values = json.loads((tmp_path / "file").read_text())
            assert len(values) == 2000
            assert len(set(values)) == 1
            seen.add(values[0])
    finally:
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
    assert len(json.loads((tmp_path / "file").read_text())) == 2000


def test_a_torn_line_spoils_no_other(tmp_path):
    path = tmp_path / "lines"
    seal.append_line(path, {"a": 1})
    with path.open("a") as file:
        file.write('{"torn": ')
    seal.append_line(path, {"b": "é\n"})
    assert seal.read_lines(path) == [{"a": 1}, {"b": "é\n"}]
    assert seal.read_lines(tmp_path / "nowhere") == []
