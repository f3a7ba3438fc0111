"""`hatrain train` without a launcher: with the guide's flags, and under the user's torchrun."""

import json
import os
import subprocess
import sys
from pathlib import Path

import yaml


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    environment.pop("HATRAIN_RUNS", None)
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)


def job_file(folder: Path, inputs: Path, **hardware: int) -> Path:
    job = {
        "name": "both",
        "model": {"base": str(inputs / "base"), "dtype": "fp32"},
        "data": {"train": str(inputs / "train.jsonl"), "test": str(inputs / "test.jsonl")},
        "method": {"learning_rate": 5e-3, "batch_size": 8, "micro_batch_size": 4, "ctx_size": 256},
        "hardware": {"gpu": "cpu", **hardware},
        "evaluation": {"requests": 4},
    }
    path = folder / "both.yaml"
    path.write_text(yaml.safe_dump(job))
    return path


def test_the_guides_flags_train_evaluate_and_link_the_model(tmp_path, inputs):
    flags = {
        "--run_name": "guide",
        "--base_model": str(inputs / "base"),
        "--train_dataset": str(inputs / "train.jsonl"),
        "--test-dataset": str(inputs / "test.jsonl"),
        "--learning_rate": "5e-3",
        "--batch-size": "8",
        "--micro_batch_size": "4",
        "--ctx_size": "256",
    }
    arguments = [part for flag in flags.items() for part in flag]
    done = run(tmp_path, sys.executable, "-m", "hatrain", "train", *arguments)
    assert done.returncode == 0, done.stderr
    assert "guide: finished (0)" in done.stdout
    assert (tmp_path / "models/guide/config.json").is_file()
    figures = json.loads((tmp_path / "runs/guide/evaluation.json").read_text())
    assert figures["after"]["loss"] < figures["before"]["loss"]
    again = run(tmp_path, sys.executable, "-m", "hatrain", "train", *arguments)
    assert again.returncode == 0
    assert "finished before" in again.stderr


def test_the_ranks_of_torchrun_join_one_attempt(tmp_path, inputs):
    job = str(job_file(tmp_path, inputs, gpus_per_node=2))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    done = run(tmp_path, *torchrun, "-m", "hatrain", "train", job)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "runs/both"
    assert (folder / "DONE").is_file()
    assert [path.name for path in (folder / "attempts").iterdir()] == ["1"]
    codes = [json.loads((folder / f"attempts/1/rank-{rank}.json").read_text())["code"] for rank in (0, 1)]
    assert codes == [0, 0]


def test_another_number_of_ranks_than_planned_is_refused(tmp_path, inputs):
    job = str(job_file(tmp_path, inputs))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    done = run(tmp_path, *torchrun, "-m", "hatrain", "train", job)
    assert done.returncode != 0
    assert "torchrun started 2 ranks, but the job is planned for 1" in done.stderr
    assert not (tmp_path / "runs").exists()
