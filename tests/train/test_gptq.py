"""The guide's run on a GPTQ base, for real: in the environment that `make gptq` makes, where a tiny Llama is quantised
on the spot. In the ordinary environment one test runs this file there."""

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
    check_falls,
    small,
    tensors,
    trained,
)
from tests.train.pairs import LORA

HERE = importlib.util.find_spec("gptqmodel") is not None
PYTHON = REPOSITORY / ".venv-gptq/bin/python"
there = pytest.mark.skipif(not HERE, reason="gptqmodel is not in this environment; .venv-gptq has it")

pytestmark = pytest.mark.long


@pytest.mark.skipif(HERE, reason="this is the environment that it asks")
@pytest.mark.skipif(not PYTHON.exists(), reason="no .venv-gptq here; make gptq makes it")
def test_the_run_on_a_gptq_base_trains_in_its_own_environment():
    command = [str(PYTHON), "-m", "pytest", "-q", "-m", "long", "-p", "no:cacheprovider", __file__]
    done = subprocess.run(
        command,
        cwd=REPOSITORY,
        # gptqmodel wants two workers and allows itself half of a machine's cores.
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
    # gptqmodel's kernels want layers of at least this size.
    base = tiny_base("llama2", folder / "base", hidden_size=128, intermediate_size=256)
    tokenizer = AutoTokenizer.from_pretrained(base)
    text = tokenizer("Turn on the light in the kitchen, please. " * 8)
    rows = [{name: text[name] for name in ("input_ids", "attention_mask")}] * 16
    model = GPTQModel.load(str(base), QuantizeConfig(bits=4, group_size=32), device="cpu")
    with contextlib.chdir(folder):  # it leaves a folder of logs where it stands
        model.quantize(rows, batch_size=4)
    model.save(str(folder / "quantised"))
    tokenizer.save_pretrained(folder / "quantised")
    return folder / "quantised"


@there
def test_adapters_on_a_gptq_base_train_and_nothing_else_does(workplace, quantised):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer, GPTQConfig

    seen = trained(workplace, small(workplace, "home-7b-gptq", f"model.base={quantised}"))
    check_falls(seen.run)
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
    assert all(
        any(torch.equal(before[name], tensor) for tensor in tensors(seen.model).values()) for name in packed
    )
    logits, said = answer(PeftModel.from_pretrained(plain, str(seen.run.adapter)).eval(), tokenizer)
    expected, meant = answer(seen.model, tokenizer)
    # In training there was a row for the pad token, which plain PEFT on the plain base has no need of.
    assert len(expected) > len(logits)
    torch.testing.assert_close(logits, expected[: len(logits)])
    assert said == meant
    asked, own = load(find_source(str(seen.run.folder)))
    assert answer(asked, own)[1] == meant


@there
def test_two_ranks_on_a_gptq_base_train_what_one_does(workplace, quantised):
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
    for told in together.ran(run, 1):
        assert (told["distributed_type"], told["held"]) == ("MULTI_CPU", 1)
        assert "torch.int32" in told["buffers"]  # packed weights
    together.same(run, alone, tolerance=2e-3)


@there
def test_a_base_that_was_not_quantised_with_gptq_is_refused(workplace, bases):
    tried = workplace.attempt(small(workplace, "home-7b-gptq", f"model.base={bases('llama2')}"))
    assert "was not quantised with GPTQ" in tried.reason
    assert "8bit, 4bit or null" in tried.reason
