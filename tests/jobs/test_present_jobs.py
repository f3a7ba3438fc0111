"""The jobs for models that people train now: what their headers tell to do works with their chat templates."""

import json
import shlex
from pathlib import Path

import pytest

from hatrain.cli import main
from hatrain.contract.gpus import GPUS
from hatrain.contract.load import load_job
from hatrain.data.dataset import tokenize_dataset
from hatrain.model.switches import set_switches
from launch.cluster_files import load_cluster
from launch.planner import plan
from tests.data.published import published
from tests.families import build_tokenizer

REPOSITORY = Path(__file__).parents[2]
TEMPLATES = {
    "gemma3-270m": ("google/gemma-3-270m-it", lambda: published("gemma3")),
    "gemma3-1b": ("google/gemma-3-1b-it", lambda: published("gemma3")),
    "functiongemma-270m": ("google/functiongemma-270m-it", lambda: build_tokenizer("functiongemma")),
    "qwen3-0.6b": ("Qwen/Qwen3-0.6B", lambda: published("qwen3")),
    "qwen3-1.7b": ("Qwen/Qwen3-1.7B", lambda: published("qwen3")),
    "llama3.2-1b": ("meta-llama/Llama-3.2-1B-Instruct", lambda: published("llama3_2")),
    "smollm2-360m": ("HuggingFaceTB/SmolLM2-360M-Instruct", lambda: build_tokenizer("smollm2")),
    "smollm3-3b": ("HuggingFaceTB/SmolLM3-3B", lambda: build_tokenizer("smollm3")),
}


def header(job: str) -> list[str]:
    text = (REPOSITORY / "jobs" / f"{job}.yaml").read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line.startswith("#")]


@pytest.mark.parametrize("job", TEMPLATES)
def test_the_rows_that_the_header_asks_for_are_labelled_with_the_models_template(job, tmp_path, monkeypatch):
    base, tokenizer = TEMPLATES[job]
    model = tokenizer()
    set_switches(model, {})
    model.save_pretrained(tmp_path / "model")
    (command,) = (line.removeprefix("#     hatrain ") for line in header(job) if "hatrain data" in line)
    flags = [str(tmp_path / "model") if flag == base else flag for flag in shlex.split(command)]
    flags = [flag for flag in flags if flag not in ("--train", "--test")]
    monkeypatch.chdir(tmp_path)
    assert main([*flags, "--sample", "--language", "english", "polish", "--out", str(tmp_path)]) == 0

    rows = tmp_path / "sample.jsonl"
    labelled = tokenize_dataset(rows, model, ctx_size=10**6)

    assert len(labelled) == len(rows.read_text().splitlines()) == 200
    trained = [model.decode(part.input_ids[start:end]) for part in labelled.sequences for start, end in part.replies]
    calls = "".join(trained)
    wanted = json.loads(rows.read_text().splitlines()[0])
    assert ("Hass" in calls) if "tools" in wanted else ("```homeassistant" in calls)


@pytest.mark.parametrize("job", TEMPLATES)
def test_a_job_plans_and_opens_with_what_it_needs(job, tmp_path, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    spec = load_job(job)
    assert spec.model.base == TEMPLATES[job][0]
    name_of_cluster, cluster = load_cluster("local")
    planned = plan(spec, cluster, name_of_cluster, workdir=tmp_path, runs_root=tmp_path / "runs")
    assert planned.batch.rows_per_step == spec.method.batch_size
    text = header(job)
    assert text[0] == "# yaml-language-server: $schema=schema.json"
    assert f"#     hatrain submit {job}" in text
    memory = GPUS[spec.hardware.gpu].name.rpartition("-")[2].removesuffix("gb")
    assert f"with {memory} GB" in " ".join(text), "the header names another memory than hardware.gpu"
    assert any("With less memory:" in line for line in text)
    gated = any(part in spec.model.base for part in ("google/", "meta-llama/"))
    assert gated == (f"https://huggingface.co/{spec.model.base}" in " ".join(text)) == ("HF_TOKEN" in " ".join(text))
