"""What a run writes reads the same in transformers 4.57 and 5."""

import json
import os
import subprocess
from pathlib import Path

import pytest
import torch

from hatrain.contract.run import Exit
from hatrain.model.portable import with_known_class, with_rope
from tests.train import transformers4

REPOSITORY = Path(__file__).parents[2]
PYTHON = Path(os.environ.get("TRANSFORMERS4", REPOSITORY / ".venv-transformers4/bin/python"))
FAMILIES = ("llama3", "llama3-scaled", "qwen2", "phi", "phi3", "phi3-long", "stablelm", "gemma3")
TEXT = "turn on the light in the kitchen and then off again, please " * 4


def test_rotary_settings_stand_where_version_4_looks_for_them():
    assert with_rope(
        {"rope_parameters": {"rope_type": "default", "rope_theta": 5e5, "partial_rotary_factor": 0.5}}
    ) == {
        "rope_parameters": {"rope_type": "default", "rope_theta": 5e5, "partial_rotary_factor": 0.5},
        "rope_theta": 5e5,
        "partial_rotary_factor": 0.5,
        "rope_scaling": None,
    }
    scaled = {"rope_type": "llama3", "factor": 8.0, "rope_theta": 5e5, "original_max_position_embeddings": 64}
    inner = with_rope({"text_config": {"rope_parameters": scaled}})["text_config"]
    assert inner["rope_scaling"] == {"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 64}
    layers = {
        "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
        "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
    }
    gemma = with_rope({"rope_parameters": layers})
    assert (gemma["rope_theta"], gemma["rope_local_base_freq"]) == (1e6, 1e4)
    assert gemma["rope_scaling"] == {"rope_type": "linear", "factor": 8.0}


def test_a_tokenizer_has_a_class_and_keys_that_version_4_knows():
    assert with_known_class({"tokenizer_class": "TokenizersBackend", "extra_special_tokens": ["<x>"]}) == {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "additional_special_tokens": ["<x>"],
    }
    assert with_known_class({"tokenizer_class": "Qwen2Tokenizer"}) == {"tokenizer_class": "Qwen2Tokenizer"}


def test_what_a_run_writes_is_portable(workplace, bases):
    plan = workplace.plan(model__base=str(bases("llama3")), method__lora={"merge": True}, method__ctx_size=512)
    run = workplace.attempt(plan, stop_at=3).run
    (checkpoint,) = run.checkpoints.glob("checkpoint-*")
    workplace.attempt(plan)
    for folder in (checkpoint, run.model, run.adapter):
        for path in folder.glob("tokenizer_config.json"):
            assert json.loads(path.read_text())["tokenizer_class"] == "PreTrainedTokenizerFast", folder
    config = json.loads((run.model / "config.json").read_text())
    assert config["rope_theta"] == config["rope_parameters"]["rope_theta"]


@pytest.fixture
def runs(workplace, bases):
    """The models of short runs, by family."""
    made = {}
    for family in FAMILIES:
        plan = workplace.plan(
            family,
            model__base=str(bases(family)),
            model__add_chatml_tokens=family in ("phi", "gemma3"),
            method__ctx_size=512,
            method__epochs=0.3,
            data__test=None,
        )
        tried = workplace.attempt(plan)
        assert tried.code is Exit.FINISHED, tried.reason
        made[family] = tried.run.model
    return made


@pytest.mark.long
@pytest.mark.skipif(not PYTHON.exists(), reason="no .venv-transformers4; make transformers4 creates it")
def test_transformers_4_computes_the_same_logits(runs):
    command = [str(PYTHON), transformers4.__file__, TEXT, *map(str, runs.values())]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    for (family, folder), there in zip(runs.items(), json.loads(done.stdout), strict=True):
        here = transformers4.compute(str(folder), TEXT)
        assert there["version"].startswith("4.57.")
        assert (there["ids"], there["chat"]) == (here["ids"], here["chat"]), family
        assert (
            sorted(there["specials"][0]) == sorted(here["specials"][0])
            and there["specials"][1:] == here["specials"][1:]
        )
        torch.testing.assert_close(
            torch.tensor(there["logits"]), torch.tensor(here["logits"]), rtol=1e-4, atol=1e-4, msg=family
        )
