"""Real conversions: the architectures of the jobs, with random weights, in llama.cpp. They need `make gguf`."""

import json

import pytest
import torch
from tokenizers import AddedToken
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

from hatrain.contract.spec import ExportSpec
from hatrain.errors import BadInput
from hatrain.evaluate.sources import find_source
from hatrain.export.compare import SENTENCES
from hatrain.export.export import Exporter
from hatrain.llamacpp.model import GgufModel
from tests.export.real import need_tools, write_adapter
from tests.families import CORPUS, ZEPHYR, build_tokenizer
from tests.models import BASES, SIZE

pytestmark = pytest.mark.long
# What llama.cpp takes for granted in a family: Gemma's five sliding layers before each full one, and its scale by the
# size of a head; Phi's MLP of four times the width.
AS_REAL = {
    "gemma3": {
        "num_hidden_layers": 6,
        "layer_types": [*["sliding_attention"] * 5, "full_attention"],
        "query_pre_attn_scalar": 16,
    },
    "phi": {"intermediate_size": 128},
}
FAMILIES = ("stablelm", "stablelm2", "tinyllama", "llama3", "llama3-scaled", "qwen2", "phi", "mistral", "gemma3")


@pytest.fixture(autouse=True)
def tools():
    need_tools()


def base_of(family, folder):
    """Write a base of a family's architecture, with a tokenizer that splits text as GPT-2's does."""
    _, config, options = BASES[family]
    tokenizer = build_tokenizer("stablelm")
    tokenizer.save_pretrained(folder)
    torch.manual_seed(3)
    ids = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    sizes = {**SIZE, **options, **AS_REAL.get(family, {})}
    model = AutoModelForCausalLM.from_config(config(**sizes, vocab_size=len(tokenizer), **ids))
    model.to(torch.bfloat16).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("family", FAMILIES)
def test_llama_cpp_computes_what_transformers_does(family, tmp_path):
    said = []
    source = find_source(str(base_of(family, tmp_path / family)))
    wanted = ExportSpec(gguf=("f16", "q8_0"), ollama=True)
    report = Exporter(source, wanted, tmp_path / "export", [], say=said.append).run()
    assert report.texts == report.compared_answers == 6
    assert report.equal_answers >= 3
    assert [file.type for file in report.files] == ["f16", "q8_0"]
    assert {path.name for path in (tmp_path / "export").iterdir()} == {
        "Modelfile",
        "README.md",
        "export.json",
        "manifest.json",
        f"{family}.f16.gguf",
        f"{family}.q8_0.gguf",
    }


def sentencepiece_base(folder, config):
    """Write a base with a SentencePiece vocabulary, whose tokenizer.json puts a space before the first word of a text
    alone."""
    from sentencepiece import SentencePieceTrainer

    folder.mkdir()
    SentencePieceTrainer.train(
        sentence_iterator=iter([*SENTENCES, *CORPUS] * 40),
        model_prefix=str(folder / "tokenizer"),
        vocab_size=450,
        model_type="bpe",
        byte_fallback=True,
        remove_extra_whitespaces=False,
        normalization_rule_name="identity",
        minloglevel=2,
    )
    (folder / "tokenizer.vocab").unlink()
    settings = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "legacy": False}))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = "{{ bos_token }}" + ZEPHYR
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    ids = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}
    model = AutoModelForCausalLM.from_config(config(**SIZE, vocab_size=len(tokenizer), **ids))
    model.to(torch.bfloat16).save_pretrained(folder)
    return folder


def test_the_bases_tokenizer_model_goes_along(tmp_path):
    folder, out = sentencepiece_base(tmp_path / "llama2", LlamaConfig), tmp_path / "export"
    report = Exporter(find_source(str(folder)), ExportSpec(gguf=("f16",)), out, []).run()
    assert report.texts == 6 and report.equal_answers >= 3
    with GgufModel(out / "llama2.f16.gguf") as file:
        assert file.metadata("tokenizer.ggml.model") == "llama"


def phi3(**options):
    _, config, own = BASES["phi3"]
    return config(**{**options, **own})


@pytest.fixture
def adapter(tmp_path):
    """An adapter on a Phi-3, which the converter takes with a tokenizer.model alone: transformers saves none."""
    base = sentencepiece_base(tmp_path / "phi3", phi3)
    folder = write_adapter(base, tmp_path / "lamp", ["qkv_proj", "down_proj"])
    assert not (folder / "tokenizer.model").exists()
    return folder


def test_phi_3_takes_the_tokenizer_model_of_its_base(adapter, tmp_path):
    out = tmp_path / "export"
    report = Exporter(find_source(str(adapter)), ExportSpec(gguf=("f16", "q8_0"), ollama=True), out, []).run()
    assert report.texts == report.compared_answers == 6 and report.equal_answers >= 3
    with GgufModel(out / "lamp.q8_0.gguf") as file:
        assert file.metadata("general.architecture") == "phi3"
        assert file.metadata("tokenizer.ggml.model") == "llama"
        assert file.metadata("tokenizer.ggml.add_space_prefix") == "false"
        assert file.metadata("general.name").startswith("lamp.f16") and "phi" not in file.metadata("general.name")


def test_spaces_after_phi_3s_special_tokens_are_dropped_as_its_tokenizer_drops_them(tmp_path):
    """Whatever the model is called: llama.cpp goes by its name."""
    base = sentencepiece_base(tmp_path / "lamp", phi3)
    tokenizer = AutoTokenizer.from_pretrained(base)
    marks = ("<|user|>", "<|assistant|>", "<|end|>")
    added = [AddedToken(mark, rstrip=True, normalized=False, special=True) for mark in marks]
    tokenizer.add_tokens([AddedToken("<|endoftext|>", special=True), *added], special_tokens=True)
    tokenizer.chat_template = (
        "{{ bos_token }}{% for message in messages %}{{ '<|' + message['role'] + '|>\\n' + message['content'] }}"
        "{{ '<|end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
    )
    assert len(tokenizer("<|user|>\n \nhello", add_special_tokens=False)["input_ids"]) < 8
    tokenizer.save_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base)
    model.resize_token_embeddings(len(tokenizer))
    model.save_pretrained(base)
    report = Exporter(find_source(str(base)), ExportSpec(gguf=("f16",)), tmp_path / "export", []).run()
    assert report.texts == report.compared_answers == 6
    with GgufModel(tmp_path / "export" / "lamp.f16.gguf") as file:
        assert file.metadata("general.name") == "lamp.f16 (phi-3)"


def test_phi_3_without_a_tokenizer_model_is_one_line(adapter, tmp_path):
    (tmp_path / "phi3" / "tokenizer.model").unlink()
    with pytest.raises(BadInput) as caught:
        Exporter(find_source(str(adapter)), ExportSpec(gguf=("f16",)), tmp_path / "export", []).run()
    (line,) = caught.value.problems
    assert line.startswith("export: Phi3ForCausalLM needs the base model's tokenizer.model, and there is none; put it")
    assert not (tmp_path / "export").exists()


def test_a_tokenizer_model_of_another_vocabulary_is_one_line(adapter, tmp_path):
    from sentencepiece import SentencePieceTrainer

    SentencePieceTrainer.train(
        sentence_iterator=iter([*SENTENCES, *CORPUS] * 40),
        model_prefix=str(tmp_path / "phi3" / "tokenizer"),
        vocab_size=500,
        model_type="bpe",
        byte_fallback=True,
        minloglevel=2,
    )
    with pytest.raises(BadInput) as caught:
        Exporter(find_source(str(adapter)), ExportSpec(gguf=("f16",)), tmp_path / "export", []).run()
    (line,) = caught.value.problems
    assert "tokenizer.model has 500 tokens, and the model 450" in line and "of another base" in line
    assert not (tmp_path / "export").exists()
