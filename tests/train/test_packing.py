"""Packed rows give the loss and the gradients of rows that are trained alone, in every family of models."""

import json
import shutil
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from transformers import AutoConfig, AutoModelForCausalLM

from hatrain.contract.run import Exit
from hatrain.contract.steps import MicroBatch
from hatrain.data.labels import Example
from hatrain.model.attention import NAME
from hatrain.model.tokenizer import tokenizer_of
from hatrain.train import log_probabilities, packing, step_dataset
from hatrain.train.batches import batch_of
from hatrain.train.log_probabilities import add_log_probabilities, read_whole_logits
from hatrain.train.rows import load_rows
from hatrain.train.sft import SftTrainer
from tests.models import BASES, SIZE
from tests.train.conftest import house_rows, metrics, weights, write_rows
from tests.train.test_sft import without_dropout

VOCABULARY = 96
WINDOW = 16
FAMILIES = {
    "llama": ("tinyllama", {}),
    "qwen2": ("qwen2", {}),
    "phi": ("phi", {}),
    "phi3": ("phi3", {"sliding_window": None}),
    "phi3 with a window": ("phi3", {"sliding_window": WINDOW}),
    "stablelm": ("stablelm", {}),
    "gemma3 with a window": ("gemma3", {}),
    "gemma3 with capped logits": ("gemma3", {"final_logit_softcapping": 0.1}),
    "mistral with a window": ("mistral", {"sliding_window": WINDOW}),
}


def model_of(family: str, seed: int = 3, **options: Any) -> Any:
    name, changes = FAMILIES[family]
    _, config, own = BASES[name]
    torch.manual_seed(seed)
    settings = {**SIZE, **own, **changes, **options, "vocab_size": VOCABULARY}
    return AutoModelForCausalLM.from_config(config(**settings, pad_token_id=0, bos_token_id=1, eos_token_id=2))


def packable(family: str, **options: Any) -> Any:
    model = model_of(family, **options)
    add_log_probabilities(model)
    model.set_attn_implementation(NAME)
    return model


def rows_of_homes() -> list[Example]:
    """Rows of two homes, one with two turns, one twice, one that another goes on from, and one that shares nothing."""
    draw = np.random.default_rng(1)

    def tokens(count: int) -> np.ndarray:
        return draw.integers(3, VOCABULARY, count).astype(np.int32)

    homes = tokens(45), tokens(30)
    request = tokens(20)
    rows = [np.concatenate([home, tokens(length)]) for home in homes for length in (9, 25, 6)]
    rows += [np.concatenate([homes[0], request]), np.concatenate([homes[0], request, tokens(24)]), rows[1], tokens(37)]
    examples = [Example(number, ids, ((len(ids) - 5, len(ids)),)) for number, ids in enumerate(rows)]
    return [*examples[:-3], Example(7, rows[7], ((50, 58), (80, 89))), *examples[-2:]]


def loss_and_gradients(model: Any, examples: list[Example], kind: Any) -> tuple[float, dict[str, torch.Tensor]]:
    """The mean loss over the supervised tokens."""
    batch = batch_of([(example,) for example in examples], kind, 0)
    model.zero_grad()
    loss = -(model(**batch["model"]) * batch["weights"]).sum() / batch["weights"].sum()
    loss.backward()
    return loss.item(), {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


def alone(model: Any, examples: list[Example]) -> tuple[float, dict[str, torch.Tensor]]:
    """The same with nothing but transformers: each row in a forward pass of its own."""
    model.zero_grad()
    total, count = torch.zeros(()), 0
    for example in examples:
        logits = model(input_ids=torch.from_numpy(example.input_ids).long()[None], use_cache=False).logits[0, :-1]
        labels = torch.from_numpy(example.labels).long()[1:]
        total = total + F.cross_entropy(logits, labels, ignore_index=-100, reduction="sum")
        count += int((labels != -100).sum())
    (total / count).backward()
    return total.item() / count, {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


def assert_same(found: Any, expected: Any, tolerance: float = 1e-5) -> None:
    assert found[0] == pytest.approx(expected[0], rel=tolerance)
    for name, gradient in expected[1].items():
        torch.testing.assert_close(found[1][name], gradient, rtol=tolerance, atol=tolerance * gradient.abs().max())


@pytest.mark.parametrize("family", FAMILIES)
def test_tree_plain_and_padded_rows_give_the_loss_and_gradients_of_rows_alone(family):
    examples = rows_of_homes()
    expected = alone(model_of(family), examples)
    for kind in ("tree", "plain", "off"):
        assert_same(loss_and_gradients(packable(family), examples, kind), expected)


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("family", ["llama", "stablelm", "gemma3 with a window"])
def test_activations_that_are_computed_again_are_the_same(family, reentrant):
    examples = rows_of_homes()
    model = packable(family)
    model.train()
    model.enable_input_require_grads()
    model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    assert_same(loss_and_gradients(model, examples, "tree"), alone(model_of(family), examples))


def test_long_rows_with_many_heads_are_the_same():
    """Large blocks take another kernel than small ones."""
    draw = np.random.default_rng(2)
    home = draw.integers(3, VOCABULARY, 290).astype(np.int32)
    rows = [np.concatenate([home, draw.integers(3, VOCABULARY, length).astype(np.int32)]) for length in (180, 60, 200)]
    examples = [Example(number, ids, ((len(ids) - 9, len(ids)),)) for number, ids in enumerate(rows)]
    shape = {"num_attention_heads": 4, "num_key_value_heads": 2}
    expected = alone(model_of("llama", **shape), examples)
    for kind in ("tree", "plain"):
        assert_same(loss_and_gradients(packable("llama", **shape), examples, kind), expected)


@pytest.mark.parametrize("family", ["llama", "gemma3 with a window"])
def test_under_autocast_packed_rows_are_as_near_to_fp32_as_padded_ones(family):
    examples = rows_of_homes()
    expected = alone(model_of(family), examples)[1]

    def distance(kind: str) -> float:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = loss_and_gradients(packable(family), examples, kind)[1]
        errors = [(found[name] - gradient).norm() for name, gradient in expected.items()]
        return float(torch.stack(errors).norm())

    assert 0 < distance("tree") < 2 * distance("off")


@pytest.mark.parametrize("kind", ["tree", "off"])
def test_logits_beyond_the_budget_are_computed_in_chunks(kind, monkeypatch):
    examples = rows_of_homes()
    expected = loss_and_gradients(packable("llama"), examples, kind)
    sizes = []
    head = log_probabilities._head

    def watched(module: Any, softcap: Any, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        sizes.append(len(hidden))
        return head(module, softcap, hidden, targets)

    monkeypatch.setattr(log_probabilities, "_head", watched)
    monkeypatch.setattr(log_probabilities, "LOGIT_BYTES", 4 * VOCABULARY * 7)
    assert_same(loss_and_gradients(packable("llama"), examples, kind), expected)
    assert max(sizes) == 7


def test_the_head_and_the_last_mlp_run_only_where_something_is_predicted():
    examples = rows_of_homes()
    for kind in ("tree", "off"):
        model = packable("llama")
        rows: dict[str, int] = {}
        _count_rows(model.lm_head, "head", rows)
        _count_rows(model.model.layers[-1].mlp.up_proj, "mlp", rows)
        batch = batch_of([(example,) for example in examples], kind, 0)
        model(**batch["model"])
        assert rows["head"] == len(batch["weights"])
        assert rows["mlp"] == len(batch["model"]["positions"].unique())
        assert int(batch["weights"].sum()) == sum(example.supervised for example in examples)


def _count_rows(module: torch.nn.Module, name: str, rows: dict[str, int]) -> None:
    def count(module: Any, args: Any, out: torch.Tensor) -> None:
        rows[name] = out.shape[:-1].numel()

    module.register_forward_hook(count)


def test_a_shared_supervised_token_counts_for_each_row():
    examples = rows_of_homes()[:2]
    whole = [Example(example.row, example.input_ids, ((1, len(example.input_ids)),)) for example in examples]
    assert_same(loss_and_gradients(packable("llama"), whole, "tree"), alone(model_of("llama"), whole))


def test_attention_with_dropout_sees_what_attention_without_sees():
    """A tree is random where its rows would be; a token that no row sees changes nothing."""
    examples = rows_of_homes()
    model = packable("llama", attention_dropout=0.5).train()
    batch = batch_of([(example,) for example in examples], "tree", 0)
    other = batch_of([(example,) for example in examples], "tree", 0)
    end = len(examples[-1].input_ids)
    other["model"]["input_ids"][0, -end:] = 5

    def found(inputs: dict[str, Any]) -> torch.Tensor:
        torch.manual_seed(1)
        return model(**inputs)

    before, after = found(batch["model"]), found(other["model"])
    last = batch["of_sequences"][-1]
    kept = torch.ones(len(before), dtype=torch.bool).index_fill(0, last, False)
    torch.testing.assert_close(before[kept], after[kept])
    assert not torch.allclose(before[last], after[last])


# --- models that must not be packed -------------------------------------------------------------------------


def tiny(kind: str, **options: Any) -> Any:
    torch.manual_seed(3)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, vocab_size=VOCABULARY, **options))


SMALL = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 16,
}

UNPACKABLE = {
    "recurrent": lambda: tiny("mamba", hidden_size=32, num_hidden_layers=2, state_size=8),
    "positions of its own": lambda: tiny(
        "gpt_neo", hidden_size=32, num_layers=2, num_heads=2, attention_types=[[["global"], 2]]
    ),
    "linear attention": lambda: tiny(
        "qwen3_next",
        **SMALL,
        num_hidden_layers=4,
        linear_num_key_heads=2,
        linear_num_value_heads=2,
        linear_key_head_dim=16,
        linear_value_head_dim=16,
        num_experts=2,
        num_experts_per_tok=1,
        moe_intermediate_size=16,
        shared_expert_intermediate_size=16,
    ),
    "attention in chunks": lambda: tiny(
        "llama4_text",
        **SMALL,
        intermediate_size_mlp=64,
        num_hidden_layers=4,
        num_local_experts=2,
        attention_chunk_size=16,
    ),
    "capped scores": lambda: tiny(
        "gemma2",
        **SMALL,
        num_hidden_layers=2,
        attn_logit_softcapping=0.1,
        pad_token_id=0,
    ),
    "attention sinks": lambda: tiny(
        "gpt_oss",
        **SMALL,
        num_hidden_layers=2,
        num_local_experts=2,
        num_experts_per_tok=1,
        pad_token_id=0,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
    ),
}


def plan_of(workplace: Any, **changes: Any) -> Any:
    return workplace.plan(**changes)


@pytest.mark.parametrize("name", UNPACKABLE)
def test_a_model_that_a_tree_would_corrupt_is_found_and_keeps_its_own_attention(name, workplace):
    model = UNPACKABLE[name]().eval()
    expected = alone(model, rows_of_homes())[0]
    add_log_probabilities(model)
    reason = packing.prepare(model, workplace.plan())
    check = packing.Check(model, VOCABULARY, torch.device("cpu"))
    if check.head():
        read_whole_logits(model)
    assert check.head() is None
    assert reason or check.packing()
    batch = batch_of([(example,) for example in rows_of_homes()], "off", 0)
    loss = -(model(**batch["model"]) * batch["weights"]).sum() / batch["weights"].sum()
    assert loss.item() == pytest.approx(expected, rel=1e-5), "padded rows are what they were before"


@pytest.mark.parametrize("family", FAMILIES)
def test_the_models_that_can_be_packed_are_found(family, workplace):
    model = model_of(family)
    add_log_probabilities(model)
    assert packing.prepare(model, workplace.plan()) is None
    check = packing.Check(model, VOCABULARY, torch.device("cpu"))
    assert (check.head(), check.packing()) == (None, None)


def test_a_model_that_hides_a_wrong_mask_is_found_by_its_log_probabilities():
    """Whatever the configuration says: here attention ignores the pack."""
    model = model_of("llama")
    add_log_probabilities(model)
    check = packing.Check(model, VOCABULARY, torch.device("cpu"))
    assert check.packing() == "packed rows would see each other"


def test_logits_that_are_scaled_after_the_head_are_read_whole():
    model = tiny(
        "cohere",
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        logit_scale=0.0625,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        initializer_range=0.2,
    )
    expected = alone(model, rows_of_homes())
    add_log_probabilities(model)
    check = packing.Check(model, VOCABULARY, torch.device("cpu"))
    assert check.head() == "its logits are more than those of one module"
    read_whole_logits(model)
    assert check.head() is None
    assert_same(loss_and_gradients(model, rows_of_homes(), "off"), expected)


def test_rotary_embeddings_that_depend_on_the_longest_row_are_not_packed(workplace, bases):
    model = AutoModelForCausalLM.from_pretrained(bases("phi3-long"))
    assert "beyond 64 tokens" in str(packing.prepare(model, workplace.plan(method__ctx_size=128)))
    assert packing.prepare(model, workplace.plan(method__ctx_size=64)) is None
    ropes = {
        "full_attention": {"rope_type": "dynamic", "factor": 2.0, "original_max_position_embeddings": 64},
        "sliding_attention": {"rope_type": "default"},
    }
    each = model_of(
        "gemma3 with a window", rope_parameters={kind: {"rope_theta": 1e4, **rope} for kind, rope in ropes.items()}
    )
    assert "beyond 64 tokens" in str(packing.prepare(each, workplace.plan(method__ctx_size=128)))


# --- runs ---------------------------------------------------------------------------------------------------


def house_rows_by_home(count: int) -> Iterator[dict[str, Any]]:
    """Rows of which three each share a long prompt."""
    for number, row in enumerate(house_rows(count, 4)):
        home = number // 3
        row["conversations"][0]["value"] = f"Home {home} " + "kitchen bedroom hall garage attic garden " * 3 + str(home)
        yield row


@pytest.mark.parametrize("order", ["shuffled", "by_length", "by_prefix"])
def test_order_and_packing_are_independent(workplace, order):
    write_rows(workplace.folder / "homes.jsonl", list(house_rows_by_home(42)))
    runs = {}
    for kind in ("off", "plain", "tree"):
        plan = workplace.plan(
            kind,
            data__train=str(workplace.folder / "homes.jsonl"),
            data__order=order,
            method__packing=kind,
            model__base=without_dropout(workplace),
        )
        runs[kind] = workplace.attempt(plan)
        assert runs[kind].code is Exit.FINISHED
    expected = runs["off"].run
    for kind in ("plain", "tree"):
        found = runs[kind].run
        for name, tensor in weights(found.model).items():
            torch.testing.assert_close(tensor, weights(expected.model)[name], rtol=1e-3, atol=1e-4)
        for key in ("loss", "gradient_norm"):
            assert [line[key] for line in metrics(found) if key in line] == pytest.approx(
                [line[key] for line in metrics(expected) if key in line], rel=1e-4
            )


@pytest.mark.parametrize("kind", ["tree", "plain", "off"])
def test_a_packed_run_resumes_to_the_bit(workplace, kind):
    write_rows(workplace.folder / "homes.jsonl", list(house_rows_by_home(42)))
    changes = {
        "data__train": str(workplace.folder / "homes.jsonl"),
        "data__order": "by_prefix",
        "method__packing": kind,
        "method__epochs": 2,
    }
    whole = workplace.attempt(workplace.plan("whole", **changes)).run
    torch.seed()  # what came before in this process must not matter
    plan = workplace.plan("parts", **changes)
    assert workplace.attempt(plan, stop_at=4).code is Exit.REQUEUE
    finished = workplace.attempt(plan).run
    one, other = weights(whole.model), weights(finished.model)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_packing_may_change_between_attempts(workplace):
    """It is a matter of speed, and not of what a run is."""
    base = without_dropout(workplace)
    assert workplace.attempt(workplace.plan(model__base=base, method__packing="off"), stop_at=3).code is Exit.REQUEUE
    finished = workplace.attempt(workplace.plan(model__base=base, method__packing="tree"))
    assert finished.code is Exit.FINISHED
    whole = workplace.attempt(workplace.plan("whole", model__base=base))
    for name, tensor in weights(finished.run.model).items():
        torch.testing.assert_close(tensor, weights(whole.run.model)[name], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", ["tree", "off"])
def test_a_micro_batch_that_only_fills_up_a_rank_changes_no_weight(workplace, kind):
    base = without_dropout(workplace)
    expected = workplace.attempt(workplace.plan("plain", model__base=base, method__packing=kind)).run

    def filled(micro_batches: Any, rank: int, ranks: int) -> Any:
        return (*micro_batches, MicroBatch(micro_batches[-1].rows[-1:], counts=False))

    workplace.monkeypatch.setattr(step_dataset, "share_of_rank", filled)
    found = workplace.attempt(workplace.plan("filled", model__base=base, method__packing=kind)).run
    for name, tensor in weights(found.model).items():
        torch.testing.assert_close(tensor, weights(expected.model)[name], rtol=1e-5, atol=1e-6)


def test_a_run_whose_model_cannot_be_packed_says_so_in_one_line_and_pads(workplace, capsys):
    rows: set[int] = set()
    original = SftTrainer.micro_batch_loss

    def micro_batch_loss(self: Any, model: Any, batch: Any) -> Any:
        if model.training:
            rows.add(len(batch["model"]["input_ids"]))
        return original(self, model, batch)

    workplace.monkeypatch.setattr(SftTrainer, "micro_batch_loss", micro_batch_loss)
    base = workplace.folder / "long-rope"
    shutil.copytree(without_dropout(workplace), base)
    config = json.loads((base / "config.json").read_text())
    rope = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0, "original_max_position_embeddings": 64}
    (base / "config.json").write_text(json.dumps({**config, "rope_parameters": rope}))
    tried = workplace.attempt(workplace.plan(model__base=str(base)))
    assert tried.code is Exit.FINISHED
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("packing:")]
    assert line.startswith("packing: off, for this model cannot be packed: its rotary embeddings depend on")
    assert max(rows) == 4, "micro-batches have micro_batch_size rows"


def test_a_run_whose_logits_are_scaled_after_the_head_says_so_and_gets_the_loss_of_transformers(workplace, capsys):
    base = workplace.folder / "granite"
    shutil.copytree(without_dropout(workplace), base)
    config = json.loads((base / "config.json").read_text())
    scaled = {"model_type": "granite", "architectures": ["GraniteForCausalLM"], "logits_scaling": 0.2}
    (base / "config.json").write_text(json.dumps({**config, **scaled}))
    plan = workplace.plan(model__base=str(base), evaluation__sample="all")
    tried = workplace.attempt(plan)
    assert tried.code is Exit.FINISHED
    said = "the output head runs at every position: its logits are more than those of one module"
    assert capsys.readouterr().out.splitlines().count(said) == 1
    test = load_rows(plan, tokenizer_of(plan.job.model), tried.run).test
    losses = {event["when"]: event["loss"] for event in tried.run.events() if event["event"] == "test loss"}
    expected = alone(AutoModelForCausalLM.from_pretrained(base), list(test.examples))[0]
    assert losses["before"] == pytest.approx(expected, rel=1e-5)
