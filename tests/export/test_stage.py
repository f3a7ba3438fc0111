"""A job with an export, from its first step to its files, by the commands of a user."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hatrain.cli import main
from hatrain.contract.run import RunDirectory
from hatrain.model import tiny
from tests.export.real import need_tools

pytestmark = pytest.mark.long
JOB = """\
name: lamp
model: {base: base, dtype: fp32}
data: {train: data/home_assistant_train.jsonl, test: data/home_assistant_test.jsonl}
method: {kind: sft, batch_size: 4, micro_batch_size: 4, epochs: 0.02, ctx_size: 512, lora: {rank: 4}}
hardware: {gpu: cpu}
evaluation: {requests: 3}
export: {gguf: [q8_0, f16], ollama: true, requests: 3}
"""


@pytest.fixture
def job(tmp_path, monkeypatch):
    need_tools()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HATRAIN_RUNS", raising=False)
    home = Path(__file__).parents[2] / "hatrain" / "home" / "demo.yaml"
    arguments = ["--home", str(home), "--client", "guide", "--language", "english", "--requests-per-home", "300"]
    assert main(["data", "--train", "--test", *arguments, "--out", "data"]) == 0
    train = tmp_path / "data" / "home_assistant_train.jsonl"
    tiny.make(train, tmp_path / "base", vocabulary=1024, hidden=128, layers=2, heads=4, ctx_size=512, seed=1)
    (tmp_path / "lamp.yaml").write_text(JOB)
    return tmp_path / "lamp.yaml"


def attempt(job, **environment):
    command = [sys.executable, "-m", "hatrain", "train", str(job)]
    return subprocess.run(
        command, cwd=job.parent, env={**os.environ, **environment}, capture_output=True, text=True, timeout=3600
    )


def test_a_job_exports_its_adapter_and_a_failed_export_trains_nothing_again(job, tmp_path):
    run = RunDirectory(tmp_path / "runs" / "lamp")
    refused = attempt(job, HATRAIN_LLAMA_CPP="nowhere")
    assert refused.returncode == 78, refused.stderr[-2000:]
    assert "export tools: $HATRAIN_LLAMA_CPP: nowhere: no libllama there" in refused.stderr
    assert not run.adapter.exists()

    run.export.mkdir()
    (run.export / "mine.txt").touch()
    failed = attempt(job)
    assert failed.returncode == 78, failed.stderr[-2000:]
    assert f"export: {run.export}: holds other files than an export" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert run.adapter.is_dir() and run.evaluation.exists() and not run.done.exists()
    evaluated = run.evaluation.stat().st_mtime_ns
    (run.export / "mine.txt").unlink()

    ended = attempt(job)
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert run.done.exists()
    assert run.evaluation.stat().st_mtime_ns == evaluated
    assert [event["event"] for event in run.events()].count("model sealed") == 1
    report = json.loads((run.export / "export.json").read_text())
    assert [file["name"] for file in report["files"]] == ["lamp.f16.gguf", "lamp.q8_0.gguf"]
    assert report["reference"]["requests"] >= 3 and report["equal_answers"] >= 8
    modelfile = (run.export / "Modelfile").read_text()
    assert "PARAMETER num_ctx 512" in modelfile and 'PARAMETER stop "<|im_end|>"' in modelfile
    assert "training guide's format" in " ".join((run.export / "README.md").read_text().split())
