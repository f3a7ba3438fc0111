"""Hours come from what was measured on a GPU, and are called an estimate where nothing was."""

import pytest

from hatrain.cli import main
from hatrain.contract.gpus import GPUS
from launch import efficiency
from launch.efficiency import ASSUMED, Efficiency
from tests.plans import a_job

BASE = "TinyLlama/TinyLlama-1.1B-Chat-v1.0"
HERE = (
    Efficiency("h100-80gb", "all weights", False, 0.3),
    Efficiency("h100-80gb", "all weights", True, 0.4),
    Efficiency("h100-80gb", "lora", False, 0.35),
    Efficiency("a100-80gb", "lora", False, 0.45),
)


@pytest.fixture
def table(monkeypatch):
    monkeypatch.setattr(efficiency, "measured", lambda: HERE)


def share(**changes):
    return efficiency.of(a_job(**{"model__base": BASE, "hardware__gpu": "h100-80gb", **changes}))


def test_what_was_measured_on_a_gpu_is_taken(table):
    assert share() == (0.3, True)
    assert share(method__lora={}) == (0.35, True)
    assert share(hardware__compile=True, method__gradient_checkpointing=False) == (0.4, True)
    assert share(hardware__gpu="a100-80gb", method__lora={}) == (0.45, True)


def test_what_was_not_measured_is_an_estimate_from_the_same_gpu_if_there_is_one(table):
    compiled = {"hardware__compile": True, "method__gradient_checkpointing": False}
    assert share(**compiled, method__lora={}) == (0.35, False)
    assert share(method__kind="dpo") == (0.3, False)
    assert share(method__lora={}, model__quantization="4bit") == (0.3, False)
    assert share(hardware__gpu="a100-80gb") == (0.45, False)
    assert share(hardware__gpu="l4-24gb") == (ASSUMED, False)


def test_the_table_in_the_repository_names_known_gpus_once_each():
    entries = efficiency.measured()
    keys = [(entry.gpu, entry.training, entry.compiled) for entry in entries]
    assert len(set(keys)) == len(keys) > 0
    assert all(entry.gpu in GPUS and 0.05 < entry.share < 0.9 for entry in entries)


def test_a_plan_says_whether_its_hours_were_measured(table, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.jsonl").write_text(("x" * 4000 + "\n") * 4000)
    job = f"name: a\nmodel: {{base: {BASE}}}\ndata: {{train: train.jsonl}}\nhardware: {{gpu: h100-80gb}}\n"
    (tmp_path / "job.yaml").write_text(job)
    assert main(["plan", "job.yaml"]) == 0
    assert "hours, at 30% of the GPU's speed, as measured; an attempt" in capsys.readouterr().out
    assert main(["plan", "job.yaml", "--set", "hardware.gpu=a6000-48gb"]) == 0
    assert "hours, at 25% of the GPU's speed, an estimate; an attempt" in capsys.readouterr().out
    assert main(["plan", "job.yaml", "--gpu", "h100-80gb,a6000-48gb"]) == 0
    line = capsys.readouterr().out.splitlines()[-1]
    assert line == "hours: h100-80gb: 30% of its speed, as measured; a6000-48gb: 25% of its speed, an estimate"
