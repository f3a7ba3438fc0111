"""Rows that LoRA trains for new tokens: what the plan says of them, refuses, and predicts."""

import json

import pytest

from hatrain.cli.plan import table
from hatrain.contract.spec import JobSpec
from launch import planner, token_rows
from launch.cluster_files import load_cluster
from launch.memory.estimate import moments
from launch.memory.layout import Layout
from launch.memory.needs import checkpoint_of
from launch.memory.structure import structure

SIZES = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 50_000,
}


def job(lora: dict | None = None, **hardware) -> JobSpec:
    return JobSpec.model_validate(
        {
            "name": "rows",
            "model": {"base": "base", "add_chatml_tokens": True, "dtype": "bf16"},
            "data": {"train": "train.jsonl"},
            "method": {"lora": {"modules": ["mlp"], **(lora or {})}, "batch_size": 4, "micro_batch_size": 2},
            "hardware": {"gpu": "a100-80gb", **hardware},
        }
    )


@pytest.fixture
def planned(tmp_path):
    def plan(spec: JobSpec, kind: str = "llama"):
        (tmp_path / "base").mkdir(exist_ok=True)
        (tmp_path / "base" / "config.json").write_text(json.dumps({"model_type": kind, **SIZES}))
        name, cluster = load_cluster("local")
        return planner.plan(spec, cluster, name, workdir=tmp_path, runs_root=tmp_path / "runs")

    return plan


def test_the_plan_says_that_rows_are_trained(planned):
    assert "LoRA rank 4 and the rows of new tokens" in table(planned(job()))
    assert "rows of new" not in table(planned(job({"modules_to_save": ["embeddings"]})))


def test_a_head_with_a_bias_is_refused_with_the_remedy(planned):
    with pytest.raises(planner.Refusal) as refused:
        planned(job(), "phi")
    assert dict(refused.value.reasons)["method.lora.modules_to_save"] == (
        "found no lm_head, and new tokens for base, whose output head has a bias, which PEFT leaves out of a head with "
        "trained rows; write modules_to_save: [embed_tokens, lm_head]"
    )
    planned(job({"modules_to_save": ["embeddings"]}), "phi")


def test_zero3_is_refused_with_what_works(planned):
    with pytest.raises(planner.Refusal) as refused:
        planned(job(gpus_per_node=2, sharding="zero3"))
    assert "modules_to_save: [embeddings] trains those whole" in dict(refused.value.reasons)["hardware.sharding"]
    planned(job({"modules_to_save": ["embeddings"]}, gpus_per_node=2, sharding="zero3"))


@pytest.mark.parametrize("tied", [False, True])
def test_a_checkpoint_holds_rows_and_a_step_needs_copies_of_their_matrices(tied):
    model = structure({"model_type": "llama", **SIZES, "tie_word_embeddings": tied})
    without = job().model_copy(update={"model": job().model.model_copy(update={"add_chatml_tokens": False})})
    rows, none = checkpoint_of(model, job()), checkpoint_of(model, without)
    assert rows - none == (1 if tied else 2) * 2 * model.width * 12  # weight and two moments, in fp32
    one, other = (moments(model, spec, Layout(2, 2, False)) for spec in (job(), without))
    matrix = 2 * model.embedding
    head, end = "backward pass of the output head", "end of the backward pass"
    few = 2 * 2 * model.width * 4
    assert one[head]["copies of weights"] - other[head]["copies of weights"] == matrix
    assert 0 <= one[head]["gradients"] - other[head]["gradients"] - matrix <= few
    assert 0 <= one[end]["gradients"] - other[end]["gradients"] - matrix <= few


def test_a_job_whose_tokens_are_not_new_trains_no_rows():
    spec = job()
    assert token_rows.trained(spec)
    assert not token_rows.trained(spec.model_copy(update={"method": spec.method.model_copy(update={"lora": None})}))
