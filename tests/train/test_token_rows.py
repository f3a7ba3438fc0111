"""LoRA with new tokens: their rows are trained, no other row moves, and plain PEFT loads what was saved."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from hatrain.contract.run import Exit
from hatrain.contract.spec import LoraSpec
from hatrain.errors import BadInput
from hatrain.evaluate.sources import Source, load
from hatrain.model import lora, token_rows
from tests.train.conftest import weights
from tests.train.guide import answer, check_loss_falls, prompt, trained

LORA = {"rank": 4, "alpha": 8, "dropout": 0.0, "modules": ["q_proj", "down_proj"], "merge": True}
CHANGES = {
    "model__add_chatml_tokens": True,
    "model__add_pad_token": True,
    "model__dtype": "fp32",
    "method__learning_rate": 2e-2,
    "method__ctx_size": 1024,
    "method__epochs": 2,
}
FAMILIES = pytest.mark.parametrize("family", ["tinyllama", "llama3.2"], ids=["untied", "tied"])

PLAIN = """
import sys, torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

base, adapter, ids, out = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(adapter)
model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
model.resize_token_embeddings(len(tokenizer))
model = PeftModel.from_pretrained(model, adapter).eval()
with torch.no_grad():
    torch.save(model(torch.load(ids)).logits[0, -1], out)
"""


@pytest.fixture
def plan(workplace, bases):
    def of(family: str, name: str = "run", **changes):
        settings = {"model__base": str(bases(family)), "method__lora": LORA, **CHANGES, **changes}
        return workplace.plan(name, **settings)

    return of


def adapter(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "adapter_model.safetensors")


@FAMILIES
def test_the_rows_of_new_tokens_are_trained_and_no_other(workplace, plan, bases, family, tmp_path):
    seen = trained(workplace, plan(family))
    check_loss_falls(seen.run)
    assert seen.trained == seen.changed
    tied = family == "llama3.2"
    matrices = ["embed_tokens"] if tied else ["embed_tokens", "lm_head"]
    rows = sorted(name for name in seen.trained if "lora_" not in name)
    assert sorted(name.split(".token_adapter")[0].rpartition(".")[2] for name in rows) == matrices
    assert {seen.dtypes[name] for name in rows} == {torch.float32}

    # The merged model: the two new rows moved, and no other did.
    tokenizer = AutoTokenizer.from_pretrained(seen.run.model)
    new = tokenizer.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>"])
    merged, base = (
        AutoModelForCausalLM.from_pretrained(each, dtype=torch.float32) for each in (seen.run.model, bases(family))
    )
    for name in ("get_input_embeddings", "get_output_embeddings"):
        now, was = (getattr(model, name)().weight.detach() for model in (merged, base))
        assert torch.equal(now[: len(was)], was)
        assert all(not torch.allclose(now[row], was.mean(dim=0), atol=1e-4) for row in new)
    assert (merged.get_input_embeddings().weight is merged.get_output_embeddings().weight) == tied

    # The adapter and a checkpoint hold rows, not matrices; merged and adapter say the same, also in plain PEFT.
    for folder in (seen.run.adapter, *seen.run.checkpoints.iterdir()):
        size = sum(tensor.numel() for name, tensor in adapter(folder).items() if "lora_" not in name)
        assert size == len(matrices) * len(new) * base.config.hidden_size
    logits, _ = answer(seen.model, tokenizer)
    torch.testing.assert_close(answer(merged, tokenizer)[0], logits, rtol=1e-4, atol=1e-4)
    evaluated, own = load(Source("adapter", str(seen.run.adapter), seen.run))
    torch.testing.assert_close(answer(evaluated, own)[0], logits, rtol=1e-4, atol=1e-4)
    ids, out = tmp_path / "ids.pt", tmp_path / "logits.pt"
    torch.save(prompt(tokenizer), ids)
    arguments = [str(bases(family)), str(seen.run.adapter), str(ids), str(out)]
    subprocess.run([sys.executable, "-c", PLAIN, *arguments], check=True, cwd=tmp_path)
    plain = torch.load(out)
    known = torch.arange(len(tokenizer)) != tokenizer.pad_token_id  # a new pad token's row is trained by nobody
    torch.testing.assert_close(plain[known], logits[: len(tokenizer)][known], rtol=1e-4, atol=1e-4)
    assert len(plain) == len(tokenizer)


def test_a_resumed_run_ends_with_the_same_rows_to_the_bit(workplace, plan):
    whole = workplace.attempt(plan("llama3.2", "whole", method__epochs=1)).run
    torch.seed()
    parts = plan("llama3.2", "parts", method__epochs=1)
    assert workplace.attempt(parts, stop_at=5).code is Exit.REQUEUE
    finished = workplace.attempt(parts)
    assert finished.code is Exit.FINISHED
    one, other = adapter(whole.adapter), adapter(finished.run.adapter)
    assert one.keys() == other.keys() and any("token_adapter" in name for name in one)
    assert all(torch.equal(one[name], other[name]) for name in one)
    one, other = weights(whole.model), weights(finished.run.model)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_the_rows_of_a_quantised_base_are_trained_in_fp32_and_merge_into_a_full_one(workplace, plan):
    seen = trained(workplace, plan("tinyllama", model__quantization="4bit", model__dtype="bf16"))
    rows = [name for name in seen.trained if "token_adapter" in name]
    assert len(rows) == 2 and seen.trained == seen.changed
    assert {seen.dtypes[name] for name in rows} == {torch.float32}
    new = AutoTokenizer.from_pretrained(seen.run.model).convert_tokens_to_ids(["<|im_start|>", "<|im_end|>"])
    merged = weights(seen.run.model)["model.embed_tokens.weight"][new]
    saved = next(tensor for name, tensor in adapter(seen.run.adapter).items() if "embed_tokens" in name)
    assert torch.equal(merged, saved.bfloat16())


def test_modules_to_save_trains_a_whole_matrix_and_the_rows_of_the_other(workplace, plan):
    saved = {**LORA, "modules_to_save": ["lm_head"]}
    seen = trained(workplace, plan("tinyllama", method__lora=saved, method__epochs=1))
    assert sorted(name for name in seen.trained if "lora_" not in name) == [
        "base_model.model.lm_head.modules_to_save.default.weight",
        "base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta.default",
    ]
    assert seen.trained == seen.changed


# --- where rows cannot be trained ---------------------------------------------------------------------------


def small(tied: bool = False, **changes) -> LlamaForCausalLM:
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=64,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=2,
            tie_word_embeddings=tied,
            **changes,
        )
    )


NEW = {"<|im_start|>": 61, "<|im_end|>": 60}


@pytest.mark.parametrize(
    ("tied", "modules", "saved", "rows"),
    [
        (False, ["mlp"], None, {"embed_tokens": [60, 61], "lm_head": [60, 61]}),
        (False, ["mlp"], ["lm_head"], {"embed_tokens": [60, 61]}),
        (False, ["mlp"], ["norm"], {"embed_tokens": [60, 61], "lm_head": [60, 61]}),
        (False, ["mlp"], ["embeddings"], {}),
        (False, ["lm_head"], ["embed_tokens"], "lm_head gets an adapter"),
        (False, ["mlp", "embeddings"], None, "embed_tokens and lm_head gets an adapter"),
        (True, ["mlp"], None, {"embed_tokens": [60, 61]}),
        (True, ["mlp"], ["lm_head"], {}),
        (True, ["mlp"], ["embed_tokens"], {}),
        (True, ["lm_head"], ["embed_tokens"], "lm_head gets an adapter"),
    ],
)
def test_rows_are_those_that_nothing_else_trains(tied, modules, saved, rows):
    spec = LoraSpec(modules=modules, modules_to_save=saved)
    if isinstance(rows, dict):
        assert token_rows.trained_rows(small(tied), spec, NEW) == rows
        return
    with pytest.raises(BadInput) as bad:
        token_rows.trained_rows(small(tied), spec, NEW)
    assert str(bad.value) == (
        f"method.lora.modules_to_save: the new tokens <|im_start|> <|im_end|> need it: {rows} (method.lora.modules), "
        "and rows of it cannot be trained too; add: modules_to_save: [embed_tokens, lm_head]"
    )


def test_no_new_tokens_are_no_rows():
    assert token_rows.trained_rows(small(), LoraSpec(modules=["embeddings", "mlp"]), {}) == {}


def test_a_head_with_a_bias_is_refused_with_the_remedy(workplace, plan):
    tried = workplace.attempt(plan("phi", method__lora={**LORA, "modules": ["q_proj"]}))
    assert tried.code is Exit.FATAL
    assert tried.reason == (
        "method.lora.modules_to_save: the new tokens <|im_start|> <|im_end|> need it: the output head has a bias, "
        "which PEFT leaves out of a head with trained rows; add: modules_to_save: [embed_tokens, lm_head]"
    )


def test_a_matrix_that_zero3_shards_is_refused_with_the_remedy():
    model = small()
    model.get_input_embeddings().weight.ds_id = 1
    with pytest.raises(BadInput, match=r"under ZeRO-3 .* add: modules_to_save"):
        token_rows.trained_rows(model, LoraSpec(modules=["mlp"]), NEW)


def test_a_tie_that_peft_does_not_see_is_refused():
    model = small(tied=True)
    adapted = lora.adapt(model, LoraSpec(modules=["q_proj"]), {})
    with pytest.raises(BadInput, match="PEFT does not see"):
        token_rows.check_tied(adapted, {"embed_tokens": [1]}, tied=True)


@pytest.mark.parametrize("tied", [False, True])
def test_settled_rows_give_the_same_logits_without_copies_of_the_matrix(tied):
    model = small(tied)
    rows = token_rows.trained_rows(model, LoraSpec(modules=["mlp"]), NEW)
    adapted = lora.adapt(model, LoraSpec(modules=["mlp"]), rows).eval()
    for parameter in lora.trained(adapted):
        torch.nn.init.normal_(parameter)
    ids = torch.tensor([[1, 60, 61, 3]])
    with torch.no_grad():
        wanted = adapted(ids).logits
        token_rows.settle(adapted)
        token_rows.settle(adapted)
        torch.testing.assert_close(adapted(ids).logits, wanted)
