"""The inputs that a run needs before it starts."""

import pytest

from hatrain.contract.inputs import missing, resolve
from tests.plans import a_plan


def test_relative_paths_start_from_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")
    assert resolve("a/b", tmp_path) == tmp_path / "a/b"
    assert str(resolve("/a/b", tmp_path)) == "/a/b"
    assert str(resolve("~/b", tmp_path)) == "/home/ada/b"


@pytest.mark.parametrize("base", ["./base", "org/model", "gpt2"])
def test_a_run_with_all_inputs_misses_none(tmp_path, base):
    (tmp_path / "base").mkdir()
    assert missing(a_plan(tmp_path, model__base=base)) == []


def test_a_folder_in_place_of_a_file_is_named_as_one(tmp_path):
    plan = a_plan(tmp_path)
    (tmp_path / "train.jsonl").unlink()
    (tmp_path / "train.jsonl").mkdir()
    assert missing(plan) == [f"data.train: train.jsonl: a folder, not a file (from {tmp_path})"]


def test_a_missing_working_folder_is_the_only_problem(tmp_path):
    folder = tmp_path / "work"
    folder.mkdir()
    plan = a_plan(folder)
    (folder / "train.jsonl").unlink()
    folder.rmdir()
    assert missing(plan) == [f"{folder}: no such folder; the job's relative paths start from it"]
