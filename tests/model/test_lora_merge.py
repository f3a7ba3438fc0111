"""Merging adapters: the merged model computes what the adapter does, whatever is adapted or saved whole, on tied and
untied bases, with and without new tokens."""

import itertools

import pytest
import torch
from peft import PeftModel
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from hatrain.contract.spec import LoraSpec
from hatrain.errors import BadInput
from hatrain.model import lora

MODULES = (
    ["attention"],
    ["embed_tokens"],
    ["lm_head"],
    ["embeddings"],
    ["q_proj", "lm_head"],
    ["attention", "mlp", "embed_tokens"],
)
SAVED = (None, ["embed_tokens"], ["lm_head"], ["norm"])
ROWS = {
    "input_ids": torch.arange(18).reshape(2, 9) * 3,
    "attention_mask": torch.tensor([[1] * 9, [1] * 6 + [0] * 3]),
}


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bases")
    for tied in (False, True):
        torch.manual_seed(1)
        config = LlamaConfig(
            vocab_size=64,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=2,
            tie_word_embeddings=tied,
        )
        LlamaForCausalLM(config).save_pretrained(folder / str(tied))

    def base(tied: bool, new_tokens: int) -> PreTrainedModel:
        model = LlamaForCausalLM.from_pretrained(folder / str(tied))
        if new_tokens:
            model.resize_token_embeddings(64 + new_tokens, mean_resizing=False)
            torch.manual_seed(2)
            for end in (model.get_input_embeddings(), model.get_output_embeddings()):
                end.weight.data[64:].normal_()
        return model

    return base


def trained(model: PreTrainedModel, spec: LoraSpec) -> PeftModel:
    """Adapters far from where they begin."""
    torch.manual_seed(3)
    adapted = lora.adapt(model, spec)
    optimizer = torch.optim.AdamW(lora.trained(adapted), lr=0.05)
    for _ in range(3):
        adapted(**ROWS, labels=ROWS["input_ids"]).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return adapted.eval()


@pytest.mark.parametrize("new_tokens", [0, 4], ids=["", "new-tokens"])
@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
def test_the_merged_model_is_the_trained_one(bases, tmp_path, tied, new_tokens):
    merged_count = 0
    for number, (modules, saved) in enumerate(itertools.product(MODULES, SAVED)):
        spec = LoraSpec(modules=modules, modules_to_save=saved, dropout=0)
        if modules == saved:
            with pytest.raises(BadInput, match="nothing to adapt"):
                lora.adapt(bases(tied, new_tokens), spec)
            continue
        adapted = trained(bases(tied, new_tokens), spec)
        folder, out = tmp_path / f"{number}", tmp_path / f"{number}-merged"
        adapted.save_pretrained(folder, state_dict=adapted.state_dict(), save_embedding_layers=False)
        merged = lora.merge(folder, bases(tied, new_tokens), ROWS)
        merged.save_pretrained(out)
        loaded = PeftModel.from_pretrained(bases(tied, new_tokens), folder).eval()
        read_back = LlamaForCausalLM.from_pretrained(out).eval()
        with torch.no_grad():
            wanted = adapted(**ROWS).logits
            for name, model in (("adapter", loaded), ("merged", merged), ("saved", read_back)):
                what = f"{name} of {modules} with {saved} saved whole"
                torch.testing.assert_close(model(**ROWS).logits, wanted, rtol=1e-4, atol=1e-4, msg=what)
        merged_count += 1
    assert merged_count == 22


def test_a_merge_that_loses_something_is_refused(bases, tmp_path, monkeypatch):
    spec = LoraSpec(modules=["embed_tokens"], dropout=0)
    trained(bases(True, 0), spec).save_pretrained(tmp_path, save_embedding_layers=False)
    # The head is then merged too, for it is the same matrix.
    monkeypatch.setattr(lora, "untie", lambda model: None)
    with pytest.raises(BadInput, match=r"method.lora.merge: the merged model is not the trained one: its logits diffe"):
        lora.merge(tmp_path, bases(True, 0), ROWS)
