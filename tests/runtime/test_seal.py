"""Complete or invisible: what is written is there whole, or not at all."""

import json
import os
import signal
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
    assert damage(torn) == "its manifest is not JSON"
    assert seal.verify(tmp_path / "nowhere") == "not there"


ODD_MANIFESTS = {
    "no files": '{"files": null}',
    "files that are a list": '{"files": ["weights.bin"]}',
    "an entry without a size": '{"files": {"weights.bin": {"sha256": "0"}}}',
    "an entry that is a number": '{"files": {"weights.bin": 7}}',
    "a size that is text": '{"files": {"weights.bin": {"size": "1000", "sha256": "0"}}}',
    "a file outside": '{"files": {"../weights.bin": {"size": 1000, "sha256": "0"}}}',
    "an absolute file": '{"files": {"/etc/hostname": {"size": 1000, "sha256": "0"}}}',
    "a name with a zero byte": '{"files": {"weights\\u0000": {"size": 1000, "sha256": "0"}}}',
    "a name of 5,000 letters": json.dumps({"files": {"w" * 5000: {"size": 1000, "sha256": "0"}}}),
    "half a character": '{"files": {"\\ud800": {"size": 1000, "sha256": "0"}}}',
    "deep nesting": "[" * 100_000,
    "deep nesting, closed": '{"files":' * 50_000 + "1" + "}" * 50_000,
    "no JSON object": "7",
    "bytes that are no text": "\udcff",
    "nothing": "",
}


@pytest.mark.parametrize("odd", ODD_MANIFESTS)
def test_an_odd_manifest_is_damage_with_a_reason(tmp_path, odd):
    final = sealed(tmp_path)
    (final / seal.MANIFEST).write_text(ODD_MANIFESTS[odd], errors="surrogateescape")
    damage = seal.verify(final)
    assert damage
    assert "\n" not in damage


@pytest.mark.parametrize("name", ["weights.bin", seal.MANIFEST])
def test_a_file_that_cannot_be_read_is_damage_with_a_reason(tmp_path, name):
    final = sealed(tmp_path)
    (final / name).unlink()
    (final / name).symlink_to("/proc/self/mem")
    if name == "weights.bin":
        content = json.loads((final / seal.MANIFEST).read_text())["content"]
        content["files"][name]["size"] = 0
        (final / seal.MANIFEST).write_text(json.dumps(content))
    assert "cannot be read" in seal.verify(final)


@given(st.data())
def test_no_flipped_bit_of_a_manifest_passes_for_whole(tmp_path_factory, data):
    """Or it changes only the layout of the JSON, and nothing that it says."""
    final = sealed(tmp_path_factory.mktemp("flips"), step=7, identity="a" * 64)
    manifest = final / seal.MANIFEST
    good = manifest.read_bytes()
    bad = bytearray(good)
    for _ in range(data.draw(st.integers(1, 3))):
        bad[data.draw(st.integers(0, len(good) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    manifest.write_bytes(bad)
    if seal.verify(final) is None:
        assert seal.facts(final) == {"step": 7, "identity": "a" * 64}


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inner: (
    st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["files", "sha256", "content", "size", "a"]), inner)
)))  # fmt: skip
def test_any_json_as_a_manifest_gives_a_verdict(tmp_path_factory, value):
    final = sealed(tmp_path_factory.mktemp("values"))
    (final / seal.MANIFEST).write_text(json.dumps(value))
    damage = seal.verify(final)
    assert damage is None or isinstance(damage, str)


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
