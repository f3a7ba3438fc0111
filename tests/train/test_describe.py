"""What the end of training writes for the model card."""

import hashlib
import json
import shutil

from transformers import AutoTokenizer

from hatrain.contract.run import Exit, RunDirectory
from hatrain.evaluate import describe
from tests.train.conftest import write_rows


def described(run):
    return json.loads(run.description.read_text())


def test_a_trained_run_describes_its_rows_its_base_and_its_prompt(workplace):
    base = shutil.copytree(workplace.inputs / "base", workplace.folder / "the-base")
    (base / "README.md").write_text("---\nlicense: apache-2.0\n---\n# The base\n")
    run = workplace.attempt(workplace.plan(model__base=str(base))).run
    found = described(run)
    train, test = found["rows"]["files"]
    digest = hashlib.sha256((workplace.inputs / "train.jsonl").read_bytes()).hexdigest()
    assert (train["name"], train["part"], train["rows"], train["sha256"]) == ("train.jsonl", "training", 60, digest)
    assert (test["name"], test["rows"]) == ("test.jsonl", 20)
    assert found["rows"]["clients"] == {}
    assert found["audit"]["requests"]["distinct"] > 0
    assert 0 <= found["audit"]["requests"]["share"] <= 1
    assert describe.QUESTION in found["prompt"]["prompt"]
    assert found["base"]["name"] == "the-base"
    assert found["base"]["licence"] == {"id": "apache-2.0", "source": "the card of the-base"}
    assert str(workplace.folder) not in run.description.read_text()


def test_a_run_on_another_runs_model_knows_what_that_run_knew(workplace, inputs):
    first = workplace.attempt(workplace.plan("first", data__test=None)).run
    known = described(first)
    known["base"] |= {"repository": "some/base", "revision": "c0ffee", "licence": {"id": "mit", "source": "a card"}}
    first.description.write_text(json.dumps(known))
    second = workplace.attempt(workplace.plan("second", model__base="runs/first", data__test=None)).run
    found = described(second)["base"]
    assert (found["name"], found["run"], found["repository"]) == ("first", "first", "some/base")
    assert found["licence"] == {"id": "mit", "source": "a card"}


def test_the_example_is_of_a_generated_home_and_not_of_the_rows(inputs, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(inputs / "base")
    found = describe._example(tokenizer, "home-llm-legacy", "german", RunDirectory(tmp_path / "run"))
    assert "Geräte:" in found["prompt"]
    assert found["prompt"].endswith("<|im_start|>assistant\n")
    assert "```homeassistant" in found["reply"]
    assert found["client"] == "home-llm-legacy"


def test_what_cannot_be_described_is_left_out_with_the_reason_and_ends_no_run(workplace, monkeypatch):
    def broken(*arguments):
        raise TypeError("the template is odd\nsecond line")

    monkeypatch.setattr(describe, "_example", broken)
    tried = workplace.attempt(workplace.plan(data__test=None))
    assert tried.code is Exit.FINISHED
    assert described(tried.run)["prompt"] == {"missing": "TypeError: the template is odd"}
    assert described(tried.run)["audit"] == {"missing": "there are no test rows"}


def test_languages_are_counted_by_what_rows_call_them(workplace):
    rows = [json.loads(line) for line in (workplace.inputs / "train.jsonl").read_text().splitlines()]
    named = [{**row, "language": name} for row, name in zip(rows, ["en", "german", "xx", "Klingon"] * 15, strict=True)]
    write_rows(workplace.folder / "named.jsonl", named)
    run = workplace.attempt(workplace.plan(data__train=str(workplace.folder / "named.jsonl"), data__test=None)).run
    found = described(run)["rows"]
    assert found["languages"] == {"en": 15, "german": 15, "xx": 15, "Klingon": 15}
    assert found["codes"] == ["en", "de", "xx"]
    assert found["names"] == {"en": "English", "german": "German"}
