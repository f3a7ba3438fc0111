"""What `hatrain export` refuses, in one line, before it writes anything; and the text beside the files."""

import pytest

from hatrain.cli import main
from hatrain.contract.run import RunDirectory
from hatrain.evaluate.sources import Source
from hatrain.export.client import settings
from hatrain.export.export import name_of
from hatrain.runtime import seal
from tests.export.test_files import REPORT
from tests.plans import a_plan


def refused(capsys, *arguments: str) -> list[str]:
    assert main(["export", *arguments]) == 2
    return capsys.readouterr().err.splitlines()


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plan = a_plan(tmp_path, export__gguf=["f16"])
    run = RunDirectory(tmp_path / "runs" / "kitchen")
    run.adopt(plan, {})
    return run


def test_an_unknown_type_has_its_nearest_name(capsys):
    (line,) = refused(capsys, "kitchen", "--gguf", "f16,q4km")
    assert line == (
        "--gguf: found 'q4km'; accepted: f16, q8_0, q6_k, q5_k_m, q4_k_m, q4_k_s, q4_0, q3_k_m; did you mean q4_k_m?"
    )
    (line,) = refused(capsys, "kitchen", "--gguf", " , ")
    assert line.startswith("--gguf: found nothing; accepted: f16")


def test_a_run_that_has_no_model_yet_is_one_line(run, capsys):
    (line,) = refused(capsys, "kitchen")
    assert line.endswith("kitchen: no model and no whole checkpoint yet")
    checkpoint = run.checkpoints / ".partial"
    seal.write_text(checkpoint / "config.json", "{}")
    seal.seal(checkpoint, run.checkpoints / "checkpoint-5", step=5, identity=run.plan().identity)
    (line,) = refused(capsys, "kitchen")
    assert "kitchen: the run is not finished" in line and "checkpoint-5" in line


def test_a_file_is_not_exported_again(tmp_path, capsys):
    (tmp_path / "lamp.gguf").touch()
    (line,) = refused(capsys, str(tmp_path / "lamp.gguf"))
    assert "is a GGUF file already" in line


def test_an_unknown_run_or_file_is_one_line(run, capsys):
    (line,) = refused(capsys, "kitchens")
    assert "no such folder, and no run of this name" in line and "did you mean kitchen?" in line
    (line,) = refused(capsys, "lamp.gguf")
    assert line == "lamp.gguf: no such file"


def test_files_of_a_runs_result_are_called_as_the_run(run):
    assert name_of(Source("model", str(run.model), run)) == "kitchen"
    assert name_of(Source("checkpoint-5", str(run.checkpoints / "checkpoint-5"), run)) == "checkpoint-5"
    assert name_of(Source("org/name", "org/name")) == "org/name"


@pytest.mark.parametrize(
    ("client", "served_as", "said"),
    [
        ("assist", "lamp", "*Control Home Assistant*: *Assist*"),
        ("home-llm", "lamp-qwen3", "*Selected LLM API(s)*: *Assist*"),
        ("home-llm-legacy", "lamp-home-3b-v3", "*Selected LLM API(s)*: *Home Assistant Services*"),
        ("guide", "lamp", "training guide's format"),
        (None, "lamp", "do not say which client"),
    ],
)
def test_the_text_has_the_settings_of_the_client_of_the_rows(client, served_as, said):
    text = settings("lamp", REPORT, client, 2048, ollama=True)
    assert said in " ".join(text.split())
    assert f"`ollama create {served_as} -f Modelfile`" in text
    assert "llama-server -m lamp.q4_k_m.gguf --jinja -c 2048" in text
    assert "| lamp.q8_0.gguf |" in text
    assert "Answers end at `<|im_end|>`." in text
    assert client is None or f"`{served_as}`" in text


def test_the_text_without_ollama_does_not_mention_its_command():
    assert "ollama create" not in settings("lamp", REPORT, "assist", 2048, ollama=False)
