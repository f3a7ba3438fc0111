"""Adapters on every family: which modules they go to, what they train, and what is left of it: an adapter, a merged
model, a checkpoint to resume from. On full, 8-bit and 4-bit bases, under every optimizer."""

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from hatrain.contract.run import Exit
from hatrain.contract.spec import LoraSpec
from hatrain.evaluate.sources import find_source, load
from hatrain.model.base import load_model
from hatrain.model.lora import adapt, expand, groups
from hatrain.runtime import seal
from tests.train.conftest import metrics, weights
from tests.train.guide import Seen, answer, check_loss_falls, trained

LORA = {"rank": 8, "alpha": 32, "modules": ["attention", "mlp"]}
LLAMA = ["q_proj", "k_proj", "v_proj", "o_proj"], ["gate_proj", "up_proj", "down_proj"]
MODULES = {
    "phi": (["q_proj", "k_proj", "v_proj", "dense"], ["fc1", "fc2"]),
    "phi3": (["qkv_proj", "o_proj"], ["gate_up_proj", "down_proj"]),
    "stablelm": LLAMA,
    "tinyllama": LLAMA,
    "llama3.2": LLAMA,
    "mistral": LLAMA,
    "qwen2": LLAMA,
}
"""The guide's names of attention and MLP by family."""


@pytest.fixture
def plan(workplace, bases):
    """A plan of adapters on a family's base; `changes` as in `Workplace.plan`."""

    def of(family: str = "tinyllama", name: str = "run", **changes):
        settings = {
            "model__base": str(bases(family)),
            "model__dtype": "bf16",
            "method__lora": LORA,
            "method__learning_rate": 1e-2,
            "method__ctx_size": 512,
            **changes,
        }
        return workplace.plan(name, **settings)

    return of


def adapter(run) -> dict[str, torch.Tensor]:
    return load_file(run.adapter / "adapter_model.safetensors")


# --- names --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", MODULES)
def test_modules_go_by_name_or_by_group(bases, family):
    model = load_model(str(bases(family)))
    attention, mlp = MODULES[family]
    found = groups(model)
    assert (sorted(found["attention"]), sorted(found["mlp"])) == (sorted(attention), sorted(mlp))
    assert found["embeddings"] == ["embed_tokens", "lm_head"]
    assert expand(("mlp", mlp[0]), model, "key") == found["mlp"]
    assert expand((attention[0], "embeddings"), model, "key") == [attention[0], "embed_tokens", "lm_head"]


def test_a_module_that_the_model_does_not_have_is_refused_with_those_it_has(workplace, plan):
    lora = {**LORA, "modules": ["fc1", "q_projj", "self_attn"]}
    tried = workplace.attempt(plan(method__lora=lora))
    assert tried.code is Exit.FATAL
    first, second, third = tried.reason.splitlines()
    assert first.startswith("method.lora.modules: found fc1, which LlamaForCausalLM does not have; accepted: ")
    for name in (*LLAMA[0], *LLAMA[1], "embed_tokens", "lm_head", "mlp", "attention", "embeddings"):
        assert name in first
    assert second.endswith("did you mean q_proj?")
    assert "found self_attn" in third


def test_a_module_to_save_that_the_model_does_not_have_is_refused_too(workplace, plan):
    tried = workplace.attempt(plan(method__lora={**LORA, "modules_to_save": ["embed_token", "norm"]}))
    assert tried.code is Exit.FATAL
    assert tried.reason.startswith("method.lora.modules_to_save: found embed_token, which LlamaForCausalLM")
    assert tried.reason.endswith("did you mean embed_tokens?")


def test_modules_that_are_all_saved_whole_leave_nothing_to_adapt(workplace, plan):
    lora = {**LORA, "modules": ["embeddings"], "modules_to_save": ["embeddings"]}
    tried = workplace.attempt(plan(method__lora=lora))
    assert tried.code is Exit.FATAL
    assert tried.reason.startswith("method.lora.modules: nothing to adapt")


def test_without_names_the_architectures_default_modules_are_adapted(bases):
    model = adapt(load_model(str(bases("phi"))), LoraSpec())
    assert set(model.peft_config["default"].target_modules) == {"q_proj", "v_proj", "fc1", "fc2"}
    assert (model.peft_config["default"].r, model.peft_config["default"].lora_alpha) == (4, 32)
    assert model.peft_config["default"].lora_dropout == 0.05


# --- embeddings ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["tinyllama", "qwen2"], ids=["untied", "tied"])
@pytest.mark.parametrize(
    "lora",
    [
        {**LORA, "modules_to_save": ["embeddings"], "merge": True},
        {**LORA, "modules_to_save": ["lm_head"], "merge": True},
        {**LORA, "modules": ["q_proj", "embeddings"], "merge": True},
        {**LORA, "modules": ["lm_head"], "merge": True},
    ],
    ids=["saved whole", "head saved whole", "adapted", "head adapted"],
)
def test_embeddings_and_head_are_trained_and_merged(workplace, plan, bases, family, lora):
    """In fp32, so that a difference is an error and not rounding."""
    seen = trained(workplace, plan(family, model__dtype="fp32", method__lora=lora, method__epochs=2))
    check_loss_falls(seen.run)
    assert seen.trained == seen.changed
    ends = [name for name in seen.trained if "embed_tokens" in name or "lm_head" in name]
    assert ends
    # The run's card takes the place of PEFT's, which therefore must not be sealed.
    assert "README.md" not in seal.names(seen.run.adapter)
    tokenizer = AutoTokenizer.from_pretrained(seen.run.adapter)
    logits, text = answer(seen.model, tokenizer)
    base = AutoModelForCausalLM.from_pretrained(bases(family), dtype=torch.float32)
    loaded = PeftModel.from_pretrained(base, str(seen.run.adapter)).eval()
    torch.testing.assert_close(answer(loaded, tokenizer)[0], logits)
    merged = AutoModelForCausalLM.from_pretrained(seen.run.model)
    assert merged.dtype == torch.float32
    merged_logits, merged_text = answer(merged, tokenizer)
    torch.testing.assert_close(merged_logits, logits, rtol=1e-4, atol=1e-4)
    assert text == merged_text


def test_a_new_pad_token_needs_no_training(workplace, plan):
    tried = workplace.attempt(plan("stablelm", model__add_pad_token=True))
    assert (tried.code, tried.reason) == (Exit.FINISHED, "trained")


# --- quantised bases ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "quantization",
    [
        "8bit",
        "4bit",
        {"kind": "4bit", "type": "fp4"},
        {"kind": "4bit", "double": False},
    ],
    ids=["8bit", "nf4", "fp4", "not double"],
)
def test_a_quantised_base_trains_its_adapters_and_nothing_else(workplace, plan, quantization):
    seen = trained(workplace, plan(model__quantization=quantization, method__epochs=2))
    check_loss_falls(seen.run)
    assert seen.trained == seen.changed
    assert all(".lora_" in name for name in seen.trained)
    assert {seen.dtypes[name] for name in seen.trained} == {torch.float32}
    packed = {name for name, dtype in seen.dtypes.items() if dtype in (torch.uint8, torch.int8)}
    assert len(packed) == 14  # every matrix of two layers
    assert {seen.dtypes[name] for name in seen.dtypes.keys() - seen.trained - packed} == {torch.bfloat16}
    if quantization != "8bit":
        check_four_bits(seen)


def check_four_bits(seen: Seen) -> None:
    """The type and double quantisation are the job's."""
    quantization = seen.plan.job.model.quantization
    states = [tensor.quant_state for tensor in seen.model.parameters() if getattr(tensor, "quant_state", None)]
    assert len(states) == 14
    assert {(state.quant_type, state.nested) for state in states} == {(quantization.type, quantization.double)}


def test_quantised_weights_are_not_trained_themselves(workplace, plan):
    made = plan(model__quantization="4bit")
    method = made.job.method.model_copy(update={"lora": None})
    job = made.job.model_copy(update={"method": method})
    tried = workplace.attempt(made.model_copy(update={"job": job, "identity": job.identity()}))
    assert tried.code is Exit.FATAL
    assert tried.reason.startswith("model.quantization: 4bit weights cannot be trained; add method.lora")


def test_adapters_of_a_quantised_base_are_merged_into_a_full_one(workplace, plan, bases):
    lora = {**LORA, "merge": True}
    run = workplace.attempt(plan(model__quantization="4bit", method__lora=lora)).run
    base = AutoModelForCausalLM.from_pretrained(bases("tinyllama"), dtype=torch.float32)
    expected = PeftModel.from_pretrained(base, str(run.adapter)).merge_and_unload().state_dict()
    saved = weights(run.model)
    assert saved
    assert all(torch.equal(tensor, expected[name].bfloat16()) for name, tensor in saved.items())
    assert "quantization_config" not in (run.model / "config.json").read_text()


# --- resuming and generating --------------------------------------------------------------------------------


@pytest.mark.parametrize("quantization", [None, "4bit"], ids=["full", "4bit"])
def test_a_resumed_run_ends_with_the_same_adapter_to_the_bit(workplace, plan, quantization):
    changes = {
        "model__quantization": quantization,
        "method__lora": {**LORA, "dropout": 0.2, "modules_to_save": ["embeddings"]},
    }
    whole = workplace.attempt(plan(name="whole", **changes)).run
    torch.seed()  # what came before in this process must not matter
    parts = plan(name="parts", **changes)
    assert workplace.attempt(parts, stop_at=5).code is Exit.REQUEUE
    finished = workplace.attempt(parts)
    assert finished.code is Exit.FINISHED
    one, other = adapter(whole), adapter(finished.run)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    losses = [[line["loss"] for line in metrics(run) if "loss" in line] for run in (whole, finished.run)]
    assert losses[0] == losses[1]


@pytest.mark.parametrize("quantization", [None, "8bit"], ids=["full", "8bit"])
def test_an_adapter_answers_on_the_base_that_its_job_names(workplace, plan, bases, quantization):
    run = workplace.attempt(plan(model__quantization=quantization)).run
    model, tokenizer = load(find_source(str(run.folder)))
    base = AutoModelForCausalLM.from_pretrained(bases("tinyllama"), dtype=torch.float32)
    expected = PeftModel.from_pretrained(base, str(run.adapter)).eval()
    logits, text = answer(model, tokenizer)
    torch.testing.assert_close(logits, answer(expected, tokenizer)[0])
    assert text == answer(expected, tokenizer)[1]


# --- optimizers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["adamw", "adamw_8bit", "paged_adamw_8bit", "adafactor"])
def test_every_optimizer_trains_and_resumes(workplace, plan, optimizer):
    settings = {"method__optimizer": optimizer, "data__test": None, "method__lora": None}
    whole = workplace.attempt(plan(name="whole", **settings)).run
    check_loss_falls(whole)
    parts = plan(name="parts", **settings)
    assert workplace.attempt(parts, stop_at=4).code is Exit.REQUEUE
    finished = workplace.attempt(parts)
    assert finished.code is Exit.FINISHED
    one, other = weights(whole.model), weights(finished.run.model)
    assert all(torch.equal(one[name], other[name]) for name in one)
