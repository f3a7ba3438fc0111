"""Finding checkpoints and removing old ones: whatever else is there, the one just sealed stays."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatrain.runtime import checkpoints, seal

OURS, OTHER = "ours", "another"


def write_checkpoint(folder, step, damaged=False, identity=OURS):
    partial = folder / ".partial"
    seal.write_text(partial / "weights", str(step))
    seal.seal(partial, folder / checkpoints.folder_name(step), step=step, identity=identity)
    if damaged:
        (folder / checkpoints.folder_name(step) / "weights").write_text("cut")


def steps_in(folder):
    return [step for step, _ in checkpoints.by_step(folder)]


def set_aside_in(folder):
    return sorted(path.name for path in (folder / checkpoints.SET_ASIDE).iterdir())


@given(steps=st.sets(st.integers(1, 30), min_size=1, max_size=8), keep=st.integers(1, 5), data=st.data())
def test_the_checkpoint_just_sealed_and_those_before_it_are_kept(tmp_path_factory, steps, keep, data):
    folder = tmp_path_factory.mktemp("checkpoints")
    for step in steps:
        write_checkpoint(folder, step)
    sealed = data.draw(st.sampled_from(sorted(steps)))
    checkpoints.rotate(folder, keep, sealed)
    assert steps_in(folder) == sorted(step for step in steps if step <= sealed)[-keep:]
    assert sealed in steps_in(folder)


def test_damaged_checkpoints_of_later_steps_do_not_push_out_the_one_just_sealed(tmp_path):
    for step in (3, 6, 9, 12):
        write_checkpoint(tmp_path, step, damaged=step > 6)
    checkpoints.rotate(tmp_path, 1, 6)
    assert steps_in(tmp_path) == [6]
    assert seal.verify(tmp_path / "checkpoint-6") is None
    assert set_aside_in(tmp_path) == ["checkpoint-12", "checkpoint-9"]


def test_unfinished_checkpoints_are_removed(tmp_path):
    write_checkpoint(tmp_path, 3)
    (tmp_path / ".partial-6").mkdir()
    checkpoints.rotate(tmp_path, 2, 3)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-3"]


ODD = {
    "a dangling link": lambda path: path.symlink_to("nowhere"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a file": lambda path: path.write_text("notes"),
    "an empty folder": lambda path: path.mkdir(),
    "a link to a file": lambda path: path.symlink_to("/etc/hostname"),
    "a folder whose manifest is a folder": lambda path: (path / seal.MANIFEST).mkdir(parents=True),
}


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("step", [3, 15])
def test_what_only_has_a_checkpoints_name_stops_neither_saving_nor_rotation_nor_resuming(tmp_path, odd, step):
    write_checkpoint(tmp_path, 6)
    write_checkpoint(tmp_path, 7)
    ODD[odd](tmp_path / f"checkpoint-{step}")
    ODD[odd](tmp_path / ".partial-99")
    passed = []
    assert checkpoints.newest(tmp_path, OURS, lambda path, reason: passed.append(path.name)).name == "checkpoint-7"
    assert passed == (["checkpoint-15"] if step == 15 else [])
    stuck = []
    write_checkpoint(tmp_path, 9)
    checkpoints.rotate(tmp_path, 2, 9, lambda path, reason: stuck.append(path))
    assert steps_in(tmp_path) == [7, 9]
    assert set_aside_in(tmp_path) == [f"checkpoint-{step}"]
    assert not stuck
    write_checkpoint(tmp_path, 15)
    assert seal.verify(tmp_path / "checkpoint-15") is None


def test_sealing_over_what_is_no_checkpoint_succeeds(tmp_path):
    for step, make in enumerate(ODD.values(), start=1):
        make(tmp_path / f"checkpoint-{step}")
        write_checkpoint(tmp_path, step)
        assert checkpoints.why_not(tmp_path / f"checkpoint-{step}", step, OURS) is None


def test_a_folder_that_cannot_be_removed_is_reported_and_the_others_are(tmp_path, monkeypatch):
    for step in (1, 2, 3, 4):
        write_checkpoint(tmp_path, step)
    remove = seal.remove

    def stubborn(path):
        if path.name == "checkpoint-1":
            raise PermissionError(13, "Permission denied", str(path))
        remove(path)

    monkeypatch.setattr(checkpoints.seal, "remove", stubborn)
    stuck = []
    checkpoints.rotate(tmp_path, 1, 4, lambda path, reason: stuck.append((path.name, reason)))
    assert steps_in(tmp_path) == [1, 4]
    assert stuck == [("checkpoint-1", "Permission denied")]


def test_the_newest_whole_checkpoint_is_found_and_each_damaged_newer_one_reported(tmp_path):
    for step in (5, 10, 9, 20):
        write_checkpoint(tmp_path, step, damaged=step > 9)
    reported = []
    newest = checkpoints.newest(tmp_path, OURS, lambda path, damage: reported.append((path.name, damage)))
    assert newest == tmp_path / "checkpoint-9"
    assert [name for name, _ in reported] == ["checkpoint-20", "checkpoint-10"]
    assert all(damage for _, damage in reported)


def test_another_jobs_checkpoints_are_passed_over_and_say_so(tmp_path):
    write_checkpoint(tmp_path, 5)
    write_checkpoint(tmp_path, 10, identity=OTHER)
    reported = []
    newest = checkpoints.newest(tmp_path, OURS, lambda path, reason: reported.append(reason))
    assert newest == tmp_path / "checkpoint-5"
    assert reported == ["it is another job's: model, data, seed or method differ"]


def test_a_checkpoint_under_another_steps_name_is_passed_over(tmp_path):
    write_checkpoint(tmp_path, 5)
    (tmp_path / "checkpoint-5").rename(tmp_path / "checkpoint-7")
    assert checkpoints.why_not(tmp_path / "checkpoint-7", 7, OURS) == "it is of step 5"


def test_a_checkpoint_of_the_version_before_manifests_had_a_checksum_is_resumed(tmp_path):
    write_checkpoint(tmp_path, 5)
    manifest = tmp_path / "checkpoint-5" / seal.MANIFEST
    manifest.write_text(json.dumps(json.loads(manifest.read_text())["content"], indent=2))
    assert checkpoints.newest(tmp_path, OURS) == tmp_path / "checkpoint-5"


def test_two_checkpoints_of_one_name_are_set_aside_side_by_side(tmp_path):
    for _ in range(3):
        write_checkpoint(tmp_path, 5)
        checkpoints.set_aside(tmp_path / "checkpoint-5")
    assert set_aside_in(tmp_path) == ["checkpoint-5", "checkpoint-5.2", "checkpoint-5.3"]
    assert checkpoints.newest(tmp_path, OURS) is None


@pytest.mark.parametrize("name", ["checkpoints", "empty"])
def test_without_checkpoints_none_is_found(tmp_path, name):
    (tmp_path / "empty").mkdir()
    assert checkpoints.newest(tmp_path / name, OURS) is None
