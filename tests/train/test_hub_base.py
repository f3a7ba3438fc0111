"""A base on the hub: the commit of the first attempt is recorded, and every later attempt trains on it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from transformers import LlamaConfig, LlamaForCausalLM

from hatrain.contract.run import RunDirectory
from tests.families import build_tokenizer
from tests.guide import fake_hub

REPOSITORY = Path(__file__).parents[2]
JOB = """\
name: kitchen
model: {base: org/model, dtype: fp32}
data: {train: train.jsonl}
method: {batch_size: 2, ctx_size: 64, epochs: 40, learning_rate: 1e-3}
checkpoints: {save_steps: 1}
hardware: {gpu: cpu}
"""


@pytest.fixture
def hub():
    with fake_hub.running() as running:
        yield running


@pytest.fixture
def environment(hub, tmp_path):
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("HF_") and not name.lower().endswith("_proxy")
    }
    return {
        **kept,
        "HF_HOME": str(tmp_path / "hf"),
        "HF_ENDPOINT": hub.endpoint,
        "PYTHONPATH": str(REPOSITORY),
        "OMP_NUM_THREADS": "1",
    }


def model_files(folder: Path, hidden: int) -> dict[str, bytes]:
    tokenizer = build_tokenizer("zephyr")
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def train(folder: Path, environment: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "hatrain", "train", "job.yaml"],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_a_resumed_run_trains_on_the_commit_of_its_first_attempt(hub, environment, tmp_path):
    first = hub.add("org/model", model_files(tmp_path / "first", 16))
    row = {"messages": [{"role": "user", "content": "on"}, {"role": "assistant", "content": "done"}]}
    (tmp_path / "train.jsonl").write_text((json.dumps(row) + "\n") * 20)
    (tmp_path / "job.yaml").write_text(JOB)
    run = RunDirectory(tmp_path / "runs" / "kitchen")

    attempt = train(tmp_path, environment)
    deadline = time.monotonic() + 600
    while not any(run.checkpoints.glob("checkpoint-*")):
        assert time.monotonic() < deadline and attempt.poll() is None, attempt.communicate()
        time.sleep(0.05)
    attempt.send_signal(signal.SIGINT)
    assert attempt.wait(timeout=600) == 130, attempt.stdout.read()

    # The branch moves: its weights no longer fit the checkpoint.
    second = hub.add("org/model", model_files(tmp_path / "second", 32))
    assert second != first
    attempt = train(tmp_path, environment)
    output, _ = attempt.communicate(timeout=600)
    assert attempt.returncode == 0, output
    assert "resuming from checkpoint-" in output
    recorded = [event for event in run.events() if event["event"] == "base model"]
    assert [(event["repository"], event["commit"]) for event in recorded] == [("org/model", first)]
    assert json.loads((run.model / "config.json").read_text())["hidden_size"] == 16
