"""A base without a chat template is judged as it is, with the template and the tokens that a job would give it."""

import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model

import hatrain.model
from hatrain.cli import main
from hatrain.contract.spec import ModelSpec
from hatrain.evaluate.sources import find_source, load, with_template
from hatrain.model import prepare
from hatrain.model.base import load_model
from hatrain.model.tokenizer import tokenizer_of
from tests.evaluate.models import random_llama
from tests.families import build_tokenizer

CHATML = Path(hatrain.model.__file__).with_name("chatml.jinja")


@pytest.fixture(scope="module")
def bare(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("bare") / "base"
    tokenizer = build_tokenizer("zephyr")
    tokenizer.chat_template = None
    random_llama(tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    assert not (folder / "chat_template.jinja").exists()
    return folder


@pytest.fixture
def evaluate(bare, tmp_path):
    turns = [("human", "Turn on the light."), ("gpt", "Done.")]
    row = {"conversations": [{"from": role, "value": text} for role, text in turns], "language": "english"}
    (tmp_path / "test.jsonl").write_text(json.dumps(row) + "\n")

    def run(*options, model=bare):
        out = tmp_path / "out"
        return main(["evaluate", str(model), "--dataset", str(tmp_path / "test.jsonl"), "--out", str(out), *options])

    return run


def test_a_base_without_a_template_is_refused_with_flags_that_evaluate_has(evaluate, capsys, tmp_path):
    assert evaluate() == 2
    message = capsys.readouterr().err
    assert "no chat template" in message and "--add-chatml-tokens" in message and "--chat-template" in message
    for flags in (["--add-chatml-tokens"], ["--chat-template", str(CHATML)]):
        assert evaluate(*flags) == 0
        assert json.loads((tmp_path / "out/evaluation.json").read_text())["requests"] == 1


def test_the_base_is_what_a_job_begins_with(bare):
    spec = ModelSpec(base=str(bare), add_chatml_tokens=True, dtype="fp32")
    begun, added = prepare.prepare(spec, None, tokenizer_of(spec), "cpu")
    judged, tokenizer = load(with_template(find_source(str(bare)), None, add_chatml_tokens=True))
    assert added == ["<|im_start|>", "<|im_end|>"] and tokenizer.eos_token == "<|im_end|>"
    for (name, ours), (other, theirs) in zip(judged.named_parameters(), begun.named_parameters(), strict=True):
        assert name == other and torch.equal(ours.float(), theirs.float())
    assert judged.generation_config.eos_token_id == begun.generation_config.eos_token_id


def test_weights_that_cannot_get_a_template_or_tokens_are_refused(evaluate, bare, tmp_path, capsys):
    get_peft_model(load_model(str(bare)), LoraConfig(target_modules=["q_proj"])).save_pretrained(tmp_path / "adapter")
    assert evaluate("--add-chatml-tokens", model=tmp_path / "adapter") == 2
    assert "is an adapter" in capsys.readouterr().err
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    assert evaluate("--chat-template", str(CHATML), model=tmp_path / "model.gguf") == 2
    assert "has its chat template in it" in capsys.readouterr().err
