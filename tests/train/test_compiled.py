"""Compiled layers train what layers train that are not compiled, or the log says why they are not compiled."""

from typing import Any

import pytest
import torch
from torch._dynamo.utils import counters

from hatrain.contract.run import Exit
from hatrain.train import trainer
from hatrain.train.compiled import compile_layers
from tests.train.conftest import weights
from tests.train.test_packing import packable
from tests.train.test_sft import without_dropout


@pytest.mark.long
@pytest.mark.parametrize("packing", ["tree", "off"])
def test_a_run_with_compiled_layers_gives_the_same_model(workplace, packing, capsys):
    settings = {"model__base": without_dropout(workplace), "method__packing": packing}
    settings["method__gradient_checkpointing"] = False
    one = workplace.attempt(workplace.plan("plain", **settings))
    counters.clear()
    other = workplace.attempt(workplace.plan("compiled", hardware__compile=True, **settings))
    assert (one.code, other.code) == (Exit.FINISHED, Exit.FINISHED)
    assert "not compiled" not in capsys.readouterr().out
    assert counters["stats"]["unique_graphs"] > 0
    expected = weights(one.run.model)
    for name, tensor in weights(other.run.model).items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-3, atol=1e-4)


def test_a_run_compiles_its_layers_where_the_job_asks_for_it_and_says_why_not(workplace, monkeypatch, capsys):
    asked: list[bool] = []

    def compiling(model: Any, *, recomputes: bool) -> str:
        asked.append(recomputes)
        return "no compiler"

    monkeypatch.setattr(trainer, "compile_layers", compiling)
    for name, wanted, checkpointing in (("off", False, False), ("on", True, False), ("recomputed", True, True)):
        plan = workplace.plan(name, method__gradient_checkpointing=False, hardware__compile=wanted, data__test=None)
        plan = plan.model_copy(update={"gradient_checkpointing": checkpointing})
        assert workplace.attempt(plan).code is Exit.FINISHED
        assert ("layers are not compiled: no compiler" in capsys.readouterr().out) == wanted
    assert asked == [False, True]


def test_each_layer_is_compiled_and_attention_is_not(monkeypatch):
    compiled: list[Any] = []
    monkeypatch.setattr(torch, "compile", lambda function: function)
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **options: compiled.append((self, options)))
    model = packable("llama")
    assert compile_layers(model, recomputes=False) is None
    assert compiled == [(layer, {"dynamic": True}) for layer in model.model.layers]


def test_what_is_recomputed_is_not_compiled():
    reason = compile_layers(packable("llama"), recomputes=True)
    assert reason == "gradient_checkpointing is on, and torch compiles nothing that it recomputes"


def test_a_machine_without_a_compiler_leaves_the_layers_as_they_are(monkeypatch):
    def fails(function: Any) -> Any:
        raise RuntimeError("Failed to find C compiler.\nPlease specify one")

    monkeypatch.setattr(torch, "compile", fails)
    model = packable("llama")
    assert compile_layers(model, recomputes=False) == "RuntimeError: Failed to find C compiler."
    assert all(layer._compiled_call_impl is None for layer in model.model.layers)


def test_a_model_without_a_list_of_layers_is_not_compiled():
    model = packable("llama")
    model.model.layers = torch.nn.ModuleDict({"0": torch.nn.Linear(1, 1)})
    assert compile_layers(model, recomputes=False) == "its layers are not in one list"
