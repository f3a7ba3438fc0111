"""What `model.base` means, the same for the planner, fetch, the trainer and the evaluation."""

import pytest

from hatrain.contract.inputs import missing
from hatrain.contract.model_ref import ModelRef, is_path, resolve
from hatrain.errors import BadInput
from tests.plans import a_plan


@pytest.fixture
def find(tmp_path, monkeypatch):
    """Resolve a base with runs outside of the working folder, as $HATRAIN_RUNS allows."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "folder").mkdir()
    return lambda base, revision=None: resolve(
        base, revision, workdir=tmp_path / "folder", runs_root=tmp_path / "scratch"
    )


def run(folder, *results):
    """Create a run directory with these results."""
    folder.mkdir(parents=True)
    (folder / "plan.json").write_text("{}")
    for result in results:
        (folder / result).mkdir()
        config = "config.json" if result == "model" else "adapter_config.json"
        (folder / result / config).write_text("{}")
    return folder


@pytest.mark.parametrize("base", ["org/model", "TheBloke/Llama-2-7B-GPTQ", "gpt2"])
def test_anything_else_is_a_hub_id_with_its_revision(find, base):
    assert find(base, "v1") == ModelRef(repository=base, revision="v1")
    assert find(base).source == base


@pytest.mark.parametrize("base", ["base", "./base", "~/base", "{tmp}/folder/base", "models/base", "a/b/c"])
def test_a_folder_is_itself_and_has_no_revision(find, tmp_path, base):
    for folder in ("folder/base", "home/base", "folder/models/base", "folder/a/b/c"):
        (tmp_path / folder).mkdir(parents=True)
    found = find(base.format(tmp=tmp_path), "v1")
    assert found.folder.is_absolute() and found.folder.is_dir()
    assert (found.repository, found.revision) == (None, None)


@pytest.mark.parametrize("base", ["earlier", "runs/earlier", "models/earlier", "{tmp}/scratch/earlier"])
def test_an_earlier_run_is_its_model_wherever_the_runs_lie(find, tmp_path, base):
    folder = run(tmp_path / "scratch" / "earlier", "model")
    (tmp_path / "folder" / "models").mkdir()
    (tmp_path / "folder" / "models" / "earlier").symlink_to(folder / "model")
    assert find(base.format(tmp=tmp_path)).folder.resolve() == folder / "model"


def test_a_run_of_a_sweep_is_its_model(find, tmp_path):
    folder = run(tmp_path / "scratch" / "rates" / "sweep" / "1", "model")
    assert find("runs/rates/sweep/1").folder == folder / "model"


@pytest.mark.parametrize("base", ["/nowhere", "./nowhere", "../nowhere", "~/nowhere", "runs/x", "models/x", "a/b/c"])
def test_a_path_without_a_folder_is_refused_with_what_is_accepted(find, base):
    assert is_path(base)
    with pytest.raises(BadInput, match=r"no such folder .*accepted: a folder, runs/NAME"):
        find(base)


@pytest.mark.parametrize("base", ["./earlier", "../earlier", "~/earlier"])
def test_a_path_never_means_a_run_by_its_name(find, tmp_path, base):
    run(tmp_path / "scratch" / "earlier", "model")
    with pytest.raises(BadInput, match="no such folder"):
        find(base)


def test_a_run_without_a_model_is_refused_by_name(find, tmp_path):
    run(tmp_path / "scratch" / "early")
    with pytest.raises(BadInput, match="runs/early: the run early has no model yet"):
        find("runs/early")


def test_an_unfinished_run_does_not_hide_a_hub_id_of_its_name(find, tmp_path):
    run(tmp_path / "scratch" / "gpt2")
    assert find("gpt2").repository == "gpt2"


def test_an_adapter_is_refused_with_what_to_do(find, tmp_path):
    folder = run(tmp_path / "scratch" / "lora", "adapter")
    for base in ("runs/lora", str(folder / "adapter")):
        with pytest.raises(BadInput, match=r"set method\.lora\.merge"):
            find(base)


def test_a_run_as_base_is_no_missing_input(tmp_path):
    run(tmp_path / "runs" / "earlier", "model")
    assert missing(a_plan(tmp_path, model__base="runs/earlier")) == []
    (problem,) = missing(a_plan(tmp_path, model__base="runs/later"))
    assert problem.startswith("model.base: runs/later: no such folder")
