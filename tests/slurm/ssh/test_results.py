"""An adapter that is trained on the cluster for real, and used on the laptop after `hatrain pull`."""

import sys
from pathlib import Path

import pytest

from hatrain.contract import variables
from hatrain.runtime import seal

HOME = Path(__file__).parents[3] / "hatrain/home/demo.yaml"


@pytest.mark.long
def test_a_pulled_adapter_is_asked_evaluated_compared_and_reported_on_the_laptop(laptop):
    rows = ["--client", "guide", "--train", "--test", "--home", str(HOME), "--language", "english"]
    laptop.hatrain("data", *rows, "--requests-per-home", "8", "--out", "data")
    train = laptop.folder / "data/home_assistant_train.jsonl"
    train.write_text("".join(train.read_text().splitlines(keepends=True)[:32]))
    small = ["--vocabulary", "512", "--hidden", "32", "--layers", "1"]
    laptop.hatrain("tiny", "--data", "data/home_assistant_train.jsonl", "--out", "base", *small)
    job = laptop.job_file(
        model={"base": "base", "dtype": "fp32"},
        data={"train": "data/home_assistant_train.jsonl", "test": "data/home_assistant_test.jsonl"},
        method={"lora": {"rank": 2}, "ctx_size": 2048, "batch_size": 8, "gradient_checkpointing": False},
        evaluation={"requests": 2, "sample": 4},
    )
    cluster = laptop.cluster_file(python=variables.literal(sys.executable), memory="4GiB")
    followed = laptop.hatrain("submit", job, "--cluster", cluster, "--follow")
    assert "hatrain: kitchen: finished (0)" in followed
    laptop.hatrain("pull", "kitchen")
    run = laptop.run()
    assert seal.verify(run.adapter) is None and run.report.exists() and run.tensorboard.is_dir()
    # From here on only the laptop's files count.
    laptop.there.folder.rename(laptop.there.folder.with_name("gone"))
    assert laptop.hatrain("ask", "kitchen", "turn on the lamp in the bedroom")
    test = ["--dataset", "data/home_assistant_test.jsonl", "--limit", "2"]
    assert "evaluations/home_assistant_test/evaluation.json" in laptop.hatrain("evaluate", "kitchen", *test)
    assert "attempts" in laptop.hatrain("compare", "kitchen", "kitchen")
    assert "report.html" in laptop.hatrain("report", "kitchen")
    assert laptop.state() == "finished"
