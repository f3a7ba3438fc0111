"""The guide's run on a GPTQ base, a tiny Llama quantised here, in the environment that `make gptq` creates. In the
ordinary environment one test runs this file in that one."""

import contextlib
import importlib.util
import os
import subprocess
from pathlib import Path

import pytest
import torch

from hatrain.evaluate.sources import find_source, load
from tests.train import together
from tests.train.guide import (
    REPOSITORY,
    adapter_parameters,
    answer,
    check_loss_falls,
    small,
    tensors,
    trained,
)
from tests.train.pairs import LORA

HERE = importlib.util.find_spec("gptqmodel") is not None
PYTHON = REPOSITORY / ".venv-gptq/bin/python"
needs_gptq = pytest.mark.skipif(not HERE, reason="gptqmodel is only in .venv-gptq")

pytestmark = pytest.mark.long


@pytest.mark.skipif(HERE, reason="already in that environment")
@pytest.mark.skipif(not PYTHON.exists(), reason="no .venv-gptq; make gptq creates it")
def test_the_run_on_a_gptq_base_trains_in_its_own_environment():
    command = [str(PYTHON), "-m", "pytest", "-q", "-m", "long", "-p", "no:cacheprovider", __file__]
    done = subprocess.run(
        command,
        cwd=REPOSITORY,
        # gptqmodel needs two workers and uses half of a machine's cores by default.
        env={**os.environ, "GPTQMODEL_CPU_WORKERS": "2"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert "3 passed" in done.stdout


@pytest.fixture(scope="module")
def quantised(tmp_path_factory) -> Path:
    """A tiny Llama 2 in 4 bits, and the tokenizer of its family."""
    from gptqmodel import GPTQModel, QuantizeConfig
    from transformers import AutoTokenizer

    from tests.models import tiny_base

    folder = tmp_path_factory.mktemp("gptq")
    # gptqmodel's kernels need layers of at least this size.
    base = tiny_base("llama2", folder / "base", hidden_size=128, intermediate_size=256)
    tokenizer = AutoTokenizer.from_pretrained(base)
    text = tokenizer("Turn on the light in the kitchen, please. " * 8)
    rows = [{name: text[name] for name in ("input_ids", "attention_mask")}] * 16
    model = GPTQModel.load(str(base), QuantizeConfig(bits=4, group_size=32), device="cpu")
    with contextlib.chdir(folder):  # it writes a folder of logs into the current one
        model.quantize(rows, batch_size=4)
    model.save(str(folder / "quantised"))
    tokenizer.save_pretrained(folder / "quantised")
    return folder / "quantised"


@needs_gptq
def test_only_the_adapters_on_a_gptq_base_are_trained(workplace, quantised):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer, GPTQConfig

    seen = trained(workplace, small(workplace, "home-7b-gptq", f"model.base={quantised}"))
    check_loss_falls(seen.run)
    lora = seen.plan.job.method.lora.model_copy(update={"modules": ("q_proj", "v_proj")})
    assert seen.trained == seen.changed == adapter_parameters(seen.model, lora)
    assert {seen.dtypes[name] for name in seen.trained} == {torch.float32}
    assert not seen.run.model.exists()
    tokenizer = AutoTokenizer.from_pretrained(seen.run.adapter)
    plain = AutoModelForCausalLM.from_pretrained(
        quantised,
        dtype=torch.bfloat16,
        device_map="cpu",
        quantization_config=GPTQConfig(bits=4, backend="gptq_torch"),
    )
    before = tensors(plain)
    packed = [name for name in before if name.endswith("qweight")]
    assert len(packed) == 14  # every matrix of two layers
    assert all(any(torch.equal(before[name], tensor) for tensor in tensors(seen.model).values()) for name in packed)
    logits, text = answer(PeftModel.from_pretrained(plain, str(seen.run.adapter)).eval(), tokenizer)
    expected, expected_text = answer(seen.model, tokenizer)
    # Training added a row for the pad token. The plain base has none.
    assert len(expected) > len(logits)
    torch.testing.assert_close(logits, expected[: len(logits)])
    assert text == expected_text
    model, own = load(find_source(str(seen.run.folder)))
    assert answer(model, own)[1] == expected_text


@needs_gptq
def test_two_ranks_on_a_gptq_base_give_the_results_of_one(workplace, quantised):
    settings = {
        "model__base": str(quantised),
        "model__quantization": "gptq",
        "model__dtype": "bf16",
        "method__lora": {**LORA, "merge": False},
        "method__learning_rate": 1e-2,
        "method__micro_batch_size": 2,
    }
    alone = workplace.attempt(workplace.plan("alone", **settings)).run
    run = together.adopted(workplace.plan("two", **settings, hardware__gpus_per_node=2))
    together.start([together.attempt(run)])
    for report in together.ran(run, 1):
        assert (report["distributed_type"], report["held"]) == ("MULTI_CPU", 1)
        assert "torch.int32" in report["buffers"]  # packed weights
    together.assert_same(run, alone, tolerance=2e-3)


@needs_gptq
def test_a_base_that_was_not_quantised_with_gptq_is_refused(workplace, bases):
    tried = workplace.attempt(small(workplace, "home-7b-gptq", f"model.base={bases('llama2')}"))
    assert "is not quantised with GPTQ" in tried.reason
    assert "8bit, 4bit or null" in tried.reason
