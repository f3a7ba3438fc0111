"""Export by its commands, of a published model and of the demo's, judged; then the files by themselves."""

import json
import shutil
from pathlib import Path

import pytest

from hatrain.cli import main
from hatrain.llamacpp.model import GgufModel
from hatrain.model import tiny
from tests.export.real import need_tools, write_adapter
from tests.export.shipped import smollm2

pytestmark = pytest.mark.long
REQUESTS = 6


@pytest.fixture(scope="module", autouse=True)
def tools():
    need_tools()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("real")


@pytest.fixture(scope="module")
def rows(place):
    home = Path(__file__).parents[2] / "hatrain" / "home" / "demo.yaml"
    arguments = ["--home", str(home), "--client", "guide", "--language", "english", "--requests-per-home", "300"]
    assert main(["data", "--train", "--test", *arguments, "--out", str(place / "data")]) == 0
    return place / "data"


@pytest.fixture(scope="module")
def shipped(place):
    return smollm2(place / "shipped")


@pytest.fixture(scope="module")
def exported(place, shipped, rows):
    out = place / "export"
    options = ["--dataset", str(rows / "home_assistant_test.jsonl"), "--requests", str(REQUESTS), "--out", str(out)]
    assert main(["export", str(shipped), "--gguf", "f16,q8_0,q4_k_m", *options]) == 0
    return out


def test_a_published_model_is_exported_compared_and_judged(exported):
    report = json.loads((exported / "export.json").read_text())
    assert report["texts"] > 100
    assert report["equal_answers"] >= 14 and report["compared_answers"] == 16
    assert [file["type"] for file in report["files"]] == ["f16", "q8_0", "q4_k_m"]
    for file in report["files"]:
        assert (exported / file["name"]).stat().st_size == file["bytes"]
        assert file["figures"]["answers"] >= REQUESTS
    f16, q8, q4 = report["files"]
    assert f16["bytes"] > 1.8 * q8["bytes"] > 1.8 * q4["bytes"]
    assert f16["figures"]["strict_accuracy"] == report["reference"]["strict_accuracy"]
    assert f16["figures"]["same_answers"] >= REQUESTS - 1


def test_the_file_has_template_special_tokens_and_ends_of_turn(exported):
    with GgufModel(exported / "smollm2.q4_k_m.gguf") as file:
        vocabulary = file.vocabulary
        assert vocabulary.chat_template and "<|im_start|>" in vocabulary.chat_template
        assert "<|im_end|>" in {vocabulary.tokens[token] for token in vocabulary.ends}
        assert vocabulary.tokens[vocabulary.eos] == "<|im_end|>"
        start, *_ = file.tokenize("<|im_start|>user")
        assert vocabulary.tokens[start] == "<|im_start|>" and start in vocabulary.added
        assert not vocabulary.adds_bos
        text = "Schalte das Licht in der Küche auf 35 % – jetzt! 🎄"
        assert file.text(file.tokenize(text)) == text


def test_a_file_is_evaluated_by_itself_as_in_the_export(exported, shipped, rows, place, capsys):
    shutil.copy(exported / "smollm2.q8_0.gguf", place / "alone.gguf")
    dataset, out = rows / "home_assistant_test.jsonl", place / "evaluation"
    arguments = ["--dataset", str(dataset), "--limit", str(REQUESTS), "--seed", "42", "--out", str(out)]
    assert main(["evaluate", str(place / "alone.gguf"), *arguments]) == 0
    figures = json.loads((out / "evaluation.json").read_text())
    report = json.loads((exported / "export.json").read_text())
    assert figures["strict_accuracy"] == report["files"][1]["figures"]["strict_accuracy"]
    assert figures["generated_tokens"] > 0


def test_a_file_answers_one_request(exported, capsys):
    assert main(["ask", str(exported / "smollm2.q8_0.gguf"), "turn on the kitchen light"]) == 0
    assert capsys.readouterr().out.strip()


def test_an_adapter_is_merged_into_its_full_precision_base(shipped, place):
    write_adapter(shipped, place / "adapter", ["q_proj", "down_proj"])
    out = place / "merged"
    assert main(["export", str(place / "adapter"), "--gguf", "q8_0", "--no-ollama", "--out", str(out)]) == 0
    report = json.loads((out / "export.json").read_text())
    # The reference is the merged model: its answers are the adapter's, not the base's.
    assert report["compared_answers"] == 6 and report["equal_answers"] >= 5
    assert [path.name for path in out.glob("*.gguf")] == ["adapter.q8_0.gguf"]
    assert not (out / "Modelfile").exists()


def test_the_demos_model_is_exported(rows, place, capsys):
    base = place / "demo-base"
    train = rows / "home_assistant_train.jsonl"
    tiny.make(train, base, vocabulary=1024, hidden=128, layers=2, heads=4, ctx_size=1024, seed=1)
    options = ["--dataset", str(rows / "home_assistant_test.jsonl"), "--requests", "4", "--out", str(place / "demo")]
    assert main(["export", str(base), "--gguf", "f16,q4_k_m", *options]) == 0
    report = json.loads((place / "demo" / "export.json").read_text())
    assert report["texts"] > 100
    assert report["equal_answers"] >= 8 and report["compared_answers"] == 16


def test_a_published_architecture_that_the_converter_does_not_know_is_one_line(shipped, place, capsys):
    strange = place / "strange"
    shutil.copytree(shipped, strange)
    config = json.loads((strange / "config.json").read_text())
    config["architectures"] = ["LampForCausalLM"]
    (strange / "config.json").write_text(json.dumps(config))
    assert main(["export", str(strange), "--gguf", "f16", "--out", str(place / "nothing")]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("export: ")]
    assert len(lines) == 1 and "does not know the architecture LampForCausalLM" in lines[0]
    assert not (place / "nothing").exists()
