"""Optimizer state and quantised weights by arithmetic, against those that torch and bitsandbytes hold."""

import pytest
import torch
from transformers import AutoModelForCausalLM
from transformers.optimization import Adafactor

from hatrain.contract.spec import JobSpec
from launch.memory.estimate import estimate
from launch.memory.layout import Layout
from launch.memory.structure import quantized_bytes, structure
from tests.launch.test_memory_counts import configured

bitsandbytes = pytest.importorskip("bitsandbytes")


def job(**method):
    return JobSpec.model_validate(
        {
            "name": "a",
            "model": {"base": "b"},
            "data": {"train": "c"},
            "method": method,
            "hardware": {"gpu": "a100-80gb"},
        }
    ).with_dtype()


def stepped(name, make):
    """A model after one step of an optimizer."""
    model = AutoModelForCausalLM.from_config(configured(name), dtype=torch.float32)
    optimizer = make(model)
    ids = torch.ones((1, 4), dtype=torch.long)
    model(input_ids=ids, labels=ids).loss.backward()
    optimizer.step()
    return model, optimizer


def bytes_of(optimizer):
    """Of tensors that grow with the weights: not of step counters and tables."""
    return sum(
        value.numel() * value.element_size()
        for state in optimizer.state.values()
        for key, value in state.items()
        if isinstance(value, torch.Tensor) and value.dim() and not key.startswith("qmap")
    )


@pytest.mark.parametrize("name", ["llama", "tied llama", "phi"])
def test_weights_gradients_and_adamw_are_counted_to_the_byte(name):
    model, optimizer = stepped(name, lambda model: torch.optim.AdamW(model.parameters()))
    parts = estimate(structure(configured(name).to_dict()), job(ctx_size=8), Layout(1, 2, True)).parts
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    assert parts["weights"] == weights
    assert parts["optimizer"] == bytes_of(optimizer)
    assert parts["gradients"] - weights in (0, 2 * 1088 * 192, 4 * 1088 * 192)  # one matrix may be there twice


def test_the_8_bit_optimizer_is_counted_as_bitsandbytes_holds_it():
    def make(model):
        from bitsandbytes.optim import AdamW8bit, GlobalOptimManager

        manager = GlobalOptimManager.get_instance()
        manager.register_parameters(model.parameters())
        for module in model.modules():
            if isinstance(module, torch.nn.Embedding):
                manager.register_module_override(module, "weight", {"optim_bits": 32})
        return AdamW8bit(model.parameters())

    _, optimizer = stepped("llama", make)
    parts = estimate(
        structure(configured("llama").to_dict()), job(ctx_size=8, optimizer="adamw_8bit"), Layout(1, 1, True)
    )
    assert parts.parts["optimizer"] == pytest.approx(bytes_of(optimizer), rel=0.01)


def test_adafactor_is_counted_by_rows_and_columns():
    _, optimizer = stepped("llama", lambda model: Adafactor(model.parameters()))
    parts = estimate(
        structure(configured("llama").to_dict()), job(ctx_size=8, optimizer="adafactor"), Layout(1, 1, True)
    )
    assert parts.parts["optimizer"] == pytest.approx(bytes_of(optimizer), rel=0.02)


@pytest.mark.parametrize(("kind", "double"), [("4bit", True), ("4bit", False), ("8bit", True)])
def test_quantised_weights_are_counted_as_bitsandbytes_holds_them(kind, double):
    known = structure(configured("llama").to_dict())
    held = 0
    for module in known.linears:
        linear = torch.nn.Linear(module.inputs, module.outputs, bias=False)
        if kind == "4bit":
            weight = bitsandbytes.nn.Params4bit(
                linear.weight.data, requires_grad=False, quant_type="nf4", compress_statistics=double
            ).to("cpu")
            state = weight.quant_state
            held += weight.numel() * weight.element_size() + _size(state.absmax) + _size(state.code)
            if double:
                held += _size(state.state2.absmax) + _size(state.state2.code) + _size(state.offset)
        else:
            weight = bitsandbytes.nn.Int8Params(
                linear.weight.data.half(), requires_grad=False, has_fp16_weights=False
            ).to("cpu")
            held += _size(weight.data) + 4 * module.outputs
    assert quantized_bytes(known, kind, double=double) == known.layers * held


def _size(tensor):
    return tensor.numel() * tensor.element_size()
