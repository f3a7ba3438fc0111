"""Every run of the training guide at small scale: the job file itself, on a tiny random base of its family and a few
dozen rows. Only what a machine with two cores needs is replaced."""

import importlib.util
import math
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

from hatrain.contract.load import load_job
from hatrain.contract.run import Exit
from hatrain.model.prepare import keep_layout
from tests.train.conftest import metrics, weights
from tests.train.guide import (
    Seen,
    adapter_parameters,
    answer,
    check_loss_falls,
    check_same,
    job_file,
    rounded,
    small,
    trained,
)

FAMILY = {
    "home-phi3-mini": "phi3",
    "home-3b": "phi",
    "home-1b": "phi",
    "stablehome-1_6b": "stablelm2",
    "stablehome-3b": "stablelm",
    "stablehome-3b-lora": "stablelm",
    "llamahome-8b": "llama3",
    "mistralhome-bielik": "mistral",
    "tinyhome": "tinyllama",
    "tinyhome-qwen": "qwen2",
    "tinyhome-polish": "polka",
    "home-llama-3.2-3b": "llama3.2",
}
DPO = {"stablehome-3b-dpo": "stablehome-3b", "tinyhome-dpo": "tinyhome"}
"""Preference runs, and the job that trains the base of each."""


# --- checks -----------------------------------------------------------------------------


def check_all_weights(seen: Seen) -> None:
    """Every parameter was trained in fp32, and the saved model is the one in memory, in the job's dtype."""
    assert seen.trained == set(seen.dtypes) == seen.changed
    assert set(seen.dtypes.values()) == {torch.float32}
    saved = AutoModelForCausalLM.from_pretrained(seen.run.model)
    assert saved.dtype == torch.bfloat16
    assert not seen.run.adapter.exists()
    check_same(saved, rounded(seen.model), AutoTokenizer.from_pretrained(seen.run.model))


def check_adapter(seen: Seen, base: Path) -> None:
    """Adapters and saved modules were trained in fp32, the base did not change, and plain PEFT loads the result."""
    model, lora = seen.plan.job.model, seen.plan.job.method.lora
    assert seen.trained == seen.changed == adapter_parameters(seen.model, lora)
    assert {seen.dtypes[name] for name in seen.trained} == {torch.float32}
    options = {}
    if model.quantization:
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        )
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16, **options)
    keep_layout(plain)
    own = dict(plain.named_parameters())
    frozen = {name: tensor for name, tensor in seen.model.named_parameters() if name not in seen.trained}
    for name, tensor in frozen.items():
        before = own[name.removeprefix("base_model.model.").replace(".base_layer", "").replace(".original_module", "")]
        assert tensor.dtype == before.dtype
        assert torch.equal(tensor, before) or "original_module" in name, name
    loaded = PeftModel.from_pretrained(plain, str(seen.run.adapter)).eval()
    check_same(loaded, seen.model, AutoTokenizer.from_pretrained(seen.run.adapter))


def check_merged(seen: Seen, base: Path) -> None:
    """The merged model equals the adapter on a full-precision base, within float error, and has the job's dtype."""
    tokenizer = AutoTokenizer.from_pretrained(seen.run.model)
    adapted = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), str(seen.run.adapter)
    ).eval()
    unmerged, _ = answer(adapted, tokenizer)
    whole = adapted.merge_and_unload()
    merged, _ = answer(whole, tokenizer)
    torch.testing.assert_close(merged, unmerged, rtol=1e-4, atol=1e-5)
    saved = AutoModelForCausalLM.from_pretrained(seen.run.model)
    assert saved.dtype == torch.bfloat16
    check_same(saved, rounded(whole), tokenizer)


# --- the runs -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("job", FAMILY)
def test_a_supervised_run_of_the_guide_trains(workplace, bases, job):
    base = bases(FAMILY[job])
    seen = trained(workplace, small(workplace, job, f"model.base={base}"))
    check_loss_falls(seen.run)
    if seen.plan.job.method.lora is None:
        check_all_weights(seen)
    else:
        check_adapter(seen, base)
        assert seen.run.model.exists() == seen.plan.job.method.lora.merge
        if seen.plan.job.method.lora.merge:
            check_merged(seen, base)


@pytest.mark.parametrize("job", DPO)
def test_a_preference_run_of_the_guide_trains_on_the_model_of_a_supervised_run(workplace, bases, job):
    """The base is the job's own: models/NAME, which the run of that name links."""
    name = load_job(job_file(job)).after
    supervised = small(workplace, DPO[job], f"name={name}", f"model.base={bases(FAMILY[DPO[job]])}", "method.epochs=1")
    first = trained(workplace, supervised)
    first.run.link_model(Path(supervised.paths.models), first.run.model)
    seen = trained(workplace, small(workplace, job))
    assert seen.plan.job.model.base == f"models/{name}"
    started = weights(first.run.model)
    assert all(torch.equal(seen.first[key], tensor.float()) for key, tensor in started.items())
    losses = [line["loss"] for line in metrics(seen.run) if "loss" in line]
    assert losses[0] == pytest.approx(math.log(2), abs=1e-3)
    assert sum(losses[-3:]) / 3 < 0.8 * losses[0]
    check_all_weights(seen)


@pytest.mark.skipif(importlib.util.find_spec("gptqmodel") is not None, reason="gptqmodel is here")
def test_a_run_on_a_gptq_base_without_gptqmodel_is_refused_with_the_command_that_installs_it(workplace, bases):
    tried = workplace.attempt(small(workplace, "home-7b-gptq", f"model.base={bases('llama2')}"))
    assert tried.code is Exit.FATAL
    assert tried.reason.startswith("model.quantization: gptq needs gptqmodel and optimum")
    assert "install it with make gptq" in tried.reason
