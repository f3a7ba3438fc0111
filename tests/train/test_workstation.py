"""`hatrain train` on a machine with no launcher: by itself in the guide's words, and under somebody's torchrun."""

import json
import os
import subprocess
import sys
from pathlib import Path

import yaml


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    environment.pop("HATRAIN_RUNS", None)
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


def job_file(folder: Path, shelf: Path, **hardware: int) -> Path:
    job = {
        "name": "both",
        "model": {"base": str(shelf / "base"), "dtype": "fp32"},
        "data": {"train": str(shelf / "train.jsonl"), "test": str(shelf / "test.jsonl")},
        "method": {"learning_rate": 5e-3, "batch_size": 8, "micro_batch_size": 4, "ctx_size": 256},
        "hardware": {"gpu": "cpu", **hardware},
        "evaluation": {"requests": 4},
    }
    path = folder / "both.yaml"
    path.write_text(yaml.safe_dump(job))
    return path


def test_the_guides_own_flags_train_judge_and_link(tmp_path, shelf):
    flags = {
        "--run_name": "guide",
        "--base_model": str(shelf / "base"),
        "--train_dataset": str(shelf / "train.jsonl"),
        "--test-dataset": str(shelf / "test.jsonl"),
        "--learning_rate": "5e-3",
        "--batch-size": "8",
        "--micro_batch_size": "4",
        "--ctx_size": "256",
    }
    words = [word for flag in flags.items() for word in flag]
    told = run(tmp_path, sys.executable, "-m", "hatrain", "train", *words)
    assert told.returncode == 0, told.stderr
    assert "guide: finished (0)" in told.stdout
    assert (tmp_path / "models/guide/config.json").is_file()
    judged = json.loads((tmp_path / "runs/guide/evaluation.json").read_text())
    assert judged["after"]["loss"] < judged["before"]["loss"]
    again = run(tmp_path, sys.executable, "-m", "hatrain", "train", *words)
    assert again.returncode == 0
    assert "finished before" in again.stderr


def test_torchruns_ranks_meet_in_one_attempt(tmp_path, shelf):
    job = str(job_file(tmp_path, shelf, gpus_per_node=2))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    told = run(tmp_path, *torchrun, "-m", "hatrain", "train", job)
    assert told.returncode == 0, told.stderr
    folder = tmp_path / "runs/both"
    assert (folder / "DONE").is_file()
    assert [path.name for path in (folder / "attempts").iterdir()] == ["1"]
    words = [json.loads((folder / f"attempts/1/rank-{rank}.json").read_text())["code"] for rank in (0, 1)]
    assert words == [0, 0]


def test_another_number_of_ranks_than_the_job_plans_is_refused(tmp_path, shelf):
    job = str(job_file(tmp_path, shelf))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    told = run(tmp_path, *torchrun, "-m", "hatrain", "train", job)
    assert told.returncode != 0
    assert "torchrun started 2 ranks, and the job is for 1" in told.stderr
    assert not (tmp_path / "runs").exists()
