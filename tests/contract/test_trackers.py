"""Which trackers a job may name, and what is said where one is not installed."""

import importlib.util
import json
import subprocess
import sys

import pytest
from pydantic import ValidationError

from hatrain.cli import main
from hatrain.contract import trackers
from hatrain.contract.trackers import not_installed
from tests.harness import Harness
from tests.plans import a_job

ABSENT = "no_such_tracker"


def test_a_job_names_its_trackers_in_a_list_or_between_commas():
    for written in (["wandb", "mlflow", "wandb"], "wandb, mlflow"):
        assert a_job(logging__trackers=written).logging.trackers == ("wandb", "mlflow")
    assert a_job(logging__trackers=[]).logging.trackers == ()
    assert a_job().logging.trackers == ("tensorboard",)


def test_an_unknown_tracker_is_refused_with_the_nearest_name():
    with pytest.raises(ValidationError, match="did you mean wandb"):
        a_job(logging__trackers=["wandbb"])


def test_trackers_do_not_make_another_run():
    assert a_job(logging__trackers=["wandb"]).identity() == a_job().identity()


def test_what_is_not_installed_is_said_with_the_command(monkeypatch):
    assert not_installed(["json"]) == []
    assert not_installed([ABSENT]) == [
        f"logging.trackers: {ABSENT} is not installed: pip install {ABSENT}, or leave it out"
    ]
    assert not_installed([ABSENT, "other_absent"]) == [
        f"logging.trackers: {ABSENT} and other_absent are not installed: "
        f"pip install {ABSENT} other_absent, or leave them out"
    ]


def test_tensorboard_is_not_looked_for_because_it_comes_with_what_trains(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert not_installed(["tensorboard"]) == []
    assert not_installed(["tensorboard", "json"]) != []


def test_looking_for_trackers_imports_none_of_them():
    code = (
        "import sys; from hatrain.contract.trackers import TRACKERS, not_installed; not_installed(TRACKERS); "
        "sys.exit(any(name in sys.modules for name in TRACKERS))"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=600).returncode == 0


without_wandb = pytest.mark.skipif(importlib.util.find_spec("wandb") is not None, reason="wandb is installed")


@without_wandb
def test_a_run_whose_tracker_is_missing_is_refused_before_its_attempt(tmp_path):
    with Harness(tmp_path) as harness:
        run = harness.adopt(logging__trackers=["wandb"])
        code, _, error = harness.enter(run.folder)
    assert code == 78
    assert "logging.trackers: wandb is not installed: pip install wandb, or leave it out" in error
    assert run.all_attempts() == []


@pytest.fixture
def job(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HATRAIN_RUNS", str(tmp_path / "runs"))
    (tmp_path / "train.jsonl").write_text('{"text": "hello"}\n')
    (tmp_path / "base").mkdir()
    (tmp_path / "base/config.json").write_text("{}")
    job = {
        "name": "kitchen",
        "model": {"base": "base"},
        "data": {"train": "train.jsonl"},
        "hardware": {"gpu": "cpu"},
        "logging": {"trackers": ["wandb"]},
    }
    (tmp_path / "job.yaml").write_text(json.dumps(job))
    return "job.yaml"


@without_wandb
def test_a_plan_on_this_machine_says_what_is_missing(job, capsys):
    assert main(["plan", job]) == 0
    assert "note: not on this machine: logging.trackers: wandb is not installed: pip install" in capsys.readouterr().err


@without_wandb
@pytest.mark.parametrize("verb", ["submit", "train"])
def test_nothing_starts_on_this_machine_without_its_tracker(job, verb, capsys, tmp_path):
    assert main([verb, job]) == 78
    assert "pip install wandb" in capsys.readouterr().err
    assert not (tmp_path / "runs/kitchen").exists()


def test_the_names_are_those_of_the_packages():
    assert trackers.TRACKERS == ("tensorboard", "wandb", "mlflow", "trackio")
    assert not_installed(["tensorboard"]) == []
