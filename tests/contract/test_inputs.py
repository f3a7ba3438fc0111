"""What must be here before a run begins, and what is not looked for."""

import pytest

from hatrain.contract.inputs import is_local, missing, resolve
from tests.plans import a_plan


@pytest.mark.parametrize("base", ["/models/x", "./x", "../x", "~/x", "runs/x/model", "models/x"])
def test_a_base_that_is_written_as_a_path_is_a_folder(base):
    assert is_local(base)


@pytest.mark.parametrize("base", ["gpt2", "org/model", "org/models", "TheBloke/Llama-2-7B-GPTQ"])
def test_a_hub_id_is_no_folder(base):
    assert not is_local(base)


def test_relative_paths_start_from_the_working_folder_and_home_is_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")
    assert resolve("a/b", tmp_path) == tmp_path / "a/b"
    assert str(resolve("/a/b", tmp_path)) == "/a/b"
    assert str(resolve("~/b", tmp_path)) == "/home/ada/b"


def test_a_run_that_has_everything_misses_nothing(tmp_path):
    (tmp_path / "base").mkdir()
    assert missing(a_plan(tmp_path, model__base="./base")) == []


def test_a_folder_in_place_of_a_file_is_said_to_be_one(tmp_path):
    plan = a_plan(tmp_path)
    (tmp_path / "train.jsonl").unlink()
    (tmp_path / "train.jsonl").mkdir()
    assert missing(plan) == [f"data.train: train.jsonl: a folder, not a file (from {tmp_path})"]


def test_a_working_folder_that_is_gone_is_all_that_is_told(tmp_path):
    folder = tmp_path / "work"
    folder.mkdir()
    plan = a_plan(folder)
    (folder / "train.jsonl").unlink()
    folder.rmdir()
    assert missing(plan) == [f"{folder}: no such folder; the job's relative paths start from it"]
