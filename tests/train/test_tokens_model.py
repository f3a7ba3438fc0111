"""New tokens in tokenizer and model: when embeddings grow, how new rows are initialised, and that tokenizer, model and
generation configuration have the same special tokens, also when saved."""

import json

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from hatrain.contract.run import Exit
from hatrain.contract.spec import LoraSpec, ModelSpec
from hatrain.evaluate.sources import Source, load
from hatrain.model.prepare import new_tokens, prepare, set_special_tokens
from hatrain.model.tokenizer import load_tokenizer
from tests.models import tiny_base
from tests.train.guide import answer


def prepared(folder, *, lora: LoraSpec | None = None, **changes):
    """The model to train, its tokenizer, the unchanged base, and the tokens that were added."""
    spec = ModelSpec(base=str(folder), dtype="fp32", **changes)
    tokenizer = load_tokenizer(spec.base, add_pad_token=spec.add_pad_token, add_chatml_tokens=spec.add_chatml_tokens)
    model, added = prepare(spec, lora, tokenizer, "cpu")
    return model, tokenizer, AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), added


def rows(model) -> tuple[torch.Tensor, torch.Tensor]:
    """The embedding and the head, each `[tokens, hidden]`."""
    return model.get_input_embeddings().weight, model.get_output_embeddings().weight


def test_tokens_that_fit_into_spare_rows_do_not_grow_the_embeddings(tmp_path):
    base = tiny_base("phi", tmp_path / "base", spare=10)
    model, tokenizer, before, added = prepared(base, add_pad_token=True, add_chatml_tokens=True)
    assert added == ["<|im_start|>", "<|im_end|>", "<|pad|>"]
    assert [table.shape for table in rows(model)] == [table.shape for table in rows(before)]
    assert len(tokenizer) < rows(model)[0].shape[0]


def test_embeddings_grow_to_a_multiple_of_64_when_a_token_has_no_row(tmp_path):
    base = tiny_base("phi", tmp_path / "base", spare=2)
    model, tokenizer, before, _ = prepared(base, add_pad_token=True, add_chatml_tokens=True)
    size = rows(model)[0].shape[0]
    assert (size % 64, rows(model)[1].shape[0], model.config.vocab_size) == (0, size, size)
    assert 0 <= size - len(tokenizer) < 64
    assert size > rows(before)[0].shape[0]


@pytest.mark.parametrize("family", ["phi", "llama3.2"], ids=["untied, with a bias", "tied"])
@pytest.mark.parametrize("spare", [0, 40])
def test_new_rows_start_at_the_mean_and_old_ones_do_not_change(tmp_path, family, spare):
    base = tiny_base(family, tmp_path / "base", spare=spare)
    model, tokenizer, before, added = prepared(base, add_pad_token=True, add_chatml_tokens=True)
    fresh = sorted(
        {
            *tokenizer.convert_tokens_to_ids(added),
            *range(rows(before)[0].shape[0], rows(model)[0].shape[0]),
        }
    )
    old = [row for row in range(rows(before)[0].shape[0]) if row not in fresh]
    for table, was in zip(rows(model), rows(before), strict=True):
        assert torch.equal(table[old], was[old])
        torch.testing.assert_close(table[fresh], was[old].mean(dim=0).expand(len(fresh), -1))
    if model.get_output_embeddings().bias is not None:
        bias, was = model.get_output_embeddings().bias, before.get_output_embeddings().bias
        assert torch.equal(bias[old], was[old])
        torch.testing.assert_close(bias[fresh], was[old].mean().expand(len(fresh)))
    tied = rows(model)[0].data_ptr() == rows(model)[1].data_ptr()
    assert tied == model.config.tie_word_embeddings == (family == "llama3.2")


def test_without_new_tokens_the_model_does_not_change(tmp_path):
    base = tiny_base("qwen2", tmp_path / "base")
    # Qwen2 has a pad token and ChatML's own.
    model, _, before, added = prepared(base, add_pad_token=True, add_chatml_tokens=True)
    assert added == []
    state = before.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


def test_a_tokenizer_larger_than_its_model_grows_the_embeddings(tmp_path):
    """Some bases were published with tokens that have no row."""
    base = tiny_base("tinyllama", tmp_path / "base")
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.add_tokens(["<extra>"])
    tokenizer.save_pretrained(base)
    model, own, _, added = prepared(base)
    assert added == []
    assert rows(model)[0].shape[0] == 640 > len(own) == 609


@pytest.mark.parametrize("spare", [0, 40], ids=["grown", "not grown"])
def test_eos_bos_and_pad_agree_in_what_is_saved(workplace, tmp_path, spare):
    base = tiny_base("phi", tmp_path / "base", spare=spare)
    tried = workplace.attempt(
        workplace.plan(
            model__base=str(base),
            model__add_pad_token=True,
            model__add_chatml_tokens=True,
            method__ctx_size=512,
        )
    )
    assert (tried.code, tried.reason) == (Exit.FINISHED, "trained")
    for folder in (tried.run.model, *tried.run.checkpoints.iterdir()):
        tokenizer = AutoTokenizer.from_pretrained(folder)
        assert (tokenizer.eos_token, tokenizer.bos_token, tokenizer.pad_token) == (
            "<|im_end|>",
            "<|endoftext|>",
            "<|pad|>",
        )
        expected = (tokenizer.eos_token_id, tokenizer.bos_token_id, tokenizer.pad_token_id)
        for config in (AutoConfig.from_pretrained(folder), GenerationConfig.from_pretrained(folder)):
            assert (config.eos_token_id, config.bos_token_id, config.pad_token_id) == expected
    model = AutoModelForCausalLM.from_pretrained(tried.run.model)
    assert rows(model)[0].shape[0] == (512 if spare == 0 else len(tokenizer) + 37)
    assert json.loads((tried.run.model / "config.json").read_text())["vocab_size"] == rows(model)[0].shape[0]


def test_a_generation_that_ends_on_several_tokens_keeps_them(tmp_path):
    base = tiny_base("llama3", tmp_path / "base")
    model = AutoModelForCausalLM.from_pretrained(base)
    tokenizer = load_tokenizer(str(base))
    end_of_text = tokenizer.convert_tokens_to_ids("<|end_of_text|>")
    model.generation_config.eos_token_id = [end_of_text, tokenizer.eos_token_id]
    set_special_tokens(model, tokenizer)
    assert model.generation_config.eos_token_id == [tokenizer.eos_token_id, end_of_text]
    assert model.config.eos_token_id == tokenizer.eos_token_id


def test_new_tokens_come_in_the_order_of_their_ids(tmp_path):
    base = tiny_base("phi", tmp_path / "base")
    spec = ModelSpec(base=str(base), dtype="bf16", add_pad_token=True, add_chatml_tokens=True)
    tokenizer = load_tokenizer(str(base), add_pad_token=True, add_chatml_tokens=True)
    assert new_tokens(spec, tokenizer) == ["<|im_start|>", "<|im_end|>", "<|pad|>"]


def test_a_quantised_base_grows_too(tmp_path):
    """The embeddings and the head are not quantised."""
    base = tiny_base("phi", tmp_path / "base", spare=0)
    spec = ModelSpec(base=str(base), dtype="bf16", quantization="4bit", add_pad_token=True, add_chatml_tokens=True)
    tokenizer = load_tokenizer(str(base), add_pad_token=True, add_chatml_tokens=True)
    lora = LoraSpec(modules_to_save=("embed_tokens", "lm_head"))
    model, added = prepare(spec, lora, tokenizer, "cpu")
    embedding = model.get_input_embeddings().weight
    assert embedding.shape[0] % 64 == 0
    assert embedding.dtype == torch.float32
    assert len(added) == 3


@pytest.mark.parametrize("new", [("add_pad_token", "add_chatml_tokens"), ("add_pad_token",)], ids=["all", "pad"])
def test_an_adapter_on_a_grown_base_answers_and_merges(workplace, tmp_path, new):
    """The base on disk is not changed: loading the adapter grows the embeddings again."""
    base = tiny_base("phi" if len(new) > 1 else "stablelm", tmp_path / "base", spare=0)
    lora = {"rank": 8, "modules": ["mlp"], "merge": True}
    if len(new) > 1:
        lora["modules_to_save"] = ["embeddings"]
    plan = workplace.plan(
        model__base=str(base),
        method__lora=lora,
        method__ctx_size=512,
        **{f"model__{name}": True for name in new},
    )
    run = workplace.attempt(plan).run
    merged, tokenizer = (
        AutoModelForCausalLM.from_pretrained(run.model),
        AutoTokenizer.from_pretrained(run.model),
    )
    assert rows(merged)[0].shape[0] % 64 == 0
    adapted, own = load(Source("adapter", str(run.adapter), run))
    logits, text = answer(adapted, own)
    expected, expected_text = answer(merged, tokenizer)
    torch.testing.assert_close(
        logits[: len(own)][:-1], expected[: len(own)][:-1], rtol=1e-4, atol=1e-4
    )  # the last is the pad token's, which is never generated
    assert text == expected_text
