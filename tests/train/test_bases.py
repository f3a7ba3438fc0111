"""A base that is not whole, not what it says, or not what it was: one line and 78."""

import json
import os
import pickle
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from hatrain.contract.run import Exit
from hatrain.model.unchanged import sampled_digest
from tests.train.conftest import Workplace


@pytest.fixture
def base(workplace):
    return shutil.copytree(workplace.inputs / "base", workplace.folder / "own")


def change_weights(base, change) -> None:
    state = load_file(base / "model.safetensors")
    change(state)
    save_file(state, base / "model.safetensors", {"format": "pt"})


def change_config(base, **values) -> None:
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, **values}))


def refused(workplace: Workplace, base, **changes) -> str:
    tried = workplace.attempt(workplace.plan(model__base=str(base), **changes))
    assert tried.code is Exit.FATAL
    (line,) = tried.reason.splitlines()
    return line


NORM = "model.norm.weight"


def test_missing_tensors_are_refused_by_name(workplace, base):
    change_weights(base, lambda state: [state.pop(NORM), state.pop("model.layers.0.mlp.up_proj.weight")])
    line = refused(workplace, base)
    assert line.startswith(f"model.base: {base} does not hold model.layers.0.mlp.up_proj.weight and 1 more, which")


def test_missing_tensors_are_refused_under_lora_and_a_quantised_base_too(workplace, base):
    change_weights(base, lambda state: state.pop(NORM))
    line = refused(workplace, base, model__quantization="8bit", method__lora={})
    assert f"does not hold {NORM}, which" in line


def test_tensors_that_the_configuration_does_not_describe_are_said(workplace, base, capfd):
    change_weights(base, lambda state: state.update({"model.layers.7.extra.weight": torch.ones(2)}))
    assert workplace.attempt(workplace.plan(model__base=str(base))).code is Exit.FINISHED
    said = f"note: {base} holds model.layers.7.extra.weight, which its config.json does not describe: they are not used"
    assert capfd.readouterr().err.count(said) == 1


def test_another_shape_is_refused_with_both(workplace, base):
    change_weights(base, lambda state: state.update({NORM: torch.ones(7)}))
    line = refused(workplace, base)
    assert f"{NORM} has the shape [7], and its config.json describes [32]" in line


def test_a_head_of_its_own_must_be_there(workplace, base):
    change_config(base, tie_word_embeddings=False)
    assert "does not hold lm_head.weight, which" in refused(workplace, base)


def truncate(base):
    path = base / "model.safetensors"
    os.truncate(path, path.stat().st_size // 2)


def pickled(base):
    (base / "model.safetensors").unlink()
    (base / "pytorch_model.bin").write_bytes(pickle.dumps(os.system))


def cut_archive(base):
    state = load_file(base / "model.safetensors")
    (base / "model.safetensors").unlink()
    torch.save(state, base / "pytorch_model.bin")
    os.truncate(base / "pytorch_model.bin", (base / "pytorch_model.bin").stat().st_size // 2)


def empty_vocabulary(base):
    path = base / "tokenizer.json"
    value = json.loads(path.read_text())
    value["model"] |= {"vocab": {}, "merges": []}
    path.write_text(json.dumps({**value, "added_tokens": []}))


DAMAGE = {
    "truncated": (truncate, "cannot be read: SafetensorError"),
    "pickle": (pickled, "holds a pickle with more than weights in it"),
    "truncated archive": (cut_archive, "cannot be read"),
    "no weights": (lambda base: (base / "model.safetensors").unlink(), "cannot be read: Error no file named"),
    "config list": (lambda base: (base / "config.json").write_text("[1]"), "config.json: found a list"),
    "config cut": (lambda base: (base / "config.json").write_text('{"a": '), "config.json: not JSON"),
    "config types": (lambda base: change_config(base, hidden_size="wide"), "cannot be read"),
    "no heads": (lambda base: change_config(base, num_attention_heads=0), "cannot be read"),
    "tokenizer": (lambda base: (base / "tokenizer.json").write_text("{}"), "the tokenizer of"),
    "tokenizer config": (lambda base: (base / "tokenizer_config.json").write_text("[]"), "found a list"),
    "no vocabulary": (empty_vocabulary, "its vocabulary is empty"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_file_is_refused_in_one_line(workplace, base, kind):
    damage, words = DAMAGE[kind]
    damage(base)
    assert words in refused(workplace, base)


def test_new_embeddings_are_no_missing_weights_and_are_named(workplace, bases, capfd):
    plan = workplace.plan(model__base=str(bases("llama2")), model__add_pad_token=True, method__ctx_size=512)
    assert workplace.attempt(plan).code is Exit.FINISHED
    assert "new tokens <|pad|>: their embeddings begin at the mean of the others" in capfd.readouterr().out


# --- between attempts ---------------------------------------------------------------------------------------


def nudge(state):
    state[NORM][0] += 1


CHANGES = {
    "model.safetensors": lambda base: change_weights(base, nudge),
    "config.json": lambda base: change_config(base, rms_norm_eps=1e-3),
    "chat_template.jinja": lambda base: (base / "chat_template.jinja").write_text(
        (base / "chat_template.jinja").read_text() + "\n"
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_base_that_changed_between_attempts_is_refused(workplace, base, name):
    plan = workplace.plan(model__base=str(base))
    workplace.attempt(plan, stop_at=2)
    CHANGES[name](base)
    tried = workplace.attempt(plan)
    assert tried.code is Exit.FATAL
    assert tried.reason == (
        f"model.base: {base / name}: has changed since checkpoint-2 was made with it; restore the old file, or start "
        "over with --fresh"
    )


def test_a_copy_with_other_times_is_the_same_base(workplace, base):
    plan = workplace.plan(model__base=str(base))
    workplace.attempt(plan, stop_at=2)
    for path in base.iterdir():
        os.utime(path, (1, 1))
    assert workplace.attempt(plan).code is Exit.FINISHED


def test_before_anything_is_trained_a_base_may_be_corrected(workplace, base):
    whole = (base / "model.safetensors").read_bytes()
    change_weights(base, lambda state: state.pop(NORM))
    plan = workplace.plan(model__base=str(base))
    assert workplace.attempt(plan).code is Exit.FATAL
    (base / "model.safetensors").write_bytes(whole)
    assert workplace.attempt(plan).code is Exit.FINISHED


def test_a_large_file_is_sampled_over_all_of_its_length(tmp_path):
    path = tmp_path / "weights"
    with path.open("wb") as file:
        file.truncate(20 * 2**20)
    digests = {sampled_digest(path)}
    for place in (0, 2**20 - 1, 20 * 2**20 - 1):
        with path.open("r+b") as file:
            file.seek(place)
            file.write(b"x")
        digests.add(sampled_digest(path))
    assert len(digests) == 4
