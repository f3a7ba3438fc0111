"""Finding checkpoints and removing old ones: whatever else is there, the one just sealed stays."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatrain.runtime import checkpoints, seal


def write_checkpoint(folder, step, damaged=False):
    partial = folder / ".partial"
    seal.write_text(partial / "weights", str(step))
    seal.seal(partial, folder / checkpoints.folder_name(step), step=step)
    if damaged:
        (folder / checkpoints.folder_name(step) / "weights").write_text("cut")


def steps_in(folder):
    return [step for step, _ in checkpoints.by_step(folder)]


@given(steps=st.sets(st.integers(1, 30), min_size=1), keep=st.integers(1, 5), data=st.data())
def test_the_checkpoint_just_sealed_and_those_before_it_are_kept(tmp_path_factory, steps, keep, data):
    folder = tmp_path_factory.mktemp("checkpoints")
    for step in steps:
        (folder / checkpoints.folder_name(step)).mkdir()
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


def test_unfinished_checkpoints_are_removed(tmp_path):
    write_checkpoint(tmp_path, 3)
    (tmp_path / ".partial-6").mkdir()
    checkpoints.rotate(tmp_path, 2, 3)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-3"]


def test_the_newest_whole_checkpoint_is_found_and_each_damaged_newer_one_reported(tmp_path):
    for step in (5, 10, 9, 20):
        write_checkpoint(tmp_path, step, damaged=step > 9)
    reported = []
    newest = checkpoints.newest(tmp_path, lambda path, damage: reported.append((path.name, damage)))
    assert newest == tmp_path / "checkpoint-9"
    assert [name for name, _ in reported] == ["checkpoint-20", "checkpoint-10"]
    assert all(damage for _, damage in reported)


@pytest.mark.parametrize("name", ["checkpoints", "empty"])
def test_without_checkpoints_none_is_found(tmp_path, name):
    (tmp_path / "empty").mkdir()
    assert checkpoints.newest(tmp_path / name) is None
