"""Plans of runs that choose a checkpoint: what cannot be chosen is refused by name, and the plan says what is."""

import pytest

from hatrain.cli.plan import table
from launch import planner
from launch.memory.needs import checkpoint_of, disk_bytes
from launch.memory.structure import structure
from launch.planner import Refusal
from tests.plans import a_cluster, a_job

TEST = {"data__test": "test.jsonl"}
SIZES = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "vocab_size": 100,
}


def planned(tmp_path, **changes):
    return planner.plan(a_job(**changes), a_cluster(), "local", workdir=tmp_path, runs_root=tmp_path / "runs")


@pytest.mark.parametrize(
    ("changes", "key", "reason"),
    [
        (
            {"evaluation__keep": "best"},
            "evaluation.keep",
            "found best without data.test, and so without looks; name a test set, or remove it",
        ),
        (
            {"evaluation__stop_after": 3},
            "evaluation.stop_after",
            "found 3 without data.test, and so without looks; name a test set, or remove it",
        ),
        (
            {**TEST, "evaluation__metric": "accuracy", "method__kind": "dpo"},
            "evaluation.metric",
            "found accuracy with kind: dpo, whose test rows are pairs, not requests; write loss",
        ),
        (
            {**TEST, "evaluation__metric": "accuracy", "evaluation__requests": 0},
            "evaluation.requests",
            "found 0 with metric: accuracy, which asks some; write 200, or metric: loss",
        ),
        (
            {**TEST, "evaluation__metric": "accuracy", "evaluation__keep": "best", "checkpoints__state": "sharded"},
            "checkpoints.state",
            "found sharded with evaluation.metric: accuracy: no rank has all weights to answer requests with; write "
            "full, or metric: loss",
        ),
    ],
)
def test_what_cannot_be_chosen_is_refused_by_name(tmp_path, changes, key, reason):
    with pytest.raises(Refusal) as raised:
        planned(tmp_path, **changes)
    assert raised.value.reasons == ((key, reason),)


@pytest.mark.parametrize("sharding", ["fsdp", "zero3"])
def test_accuracy_is_refused_where_no_rank_has_all_weights(tmp_path, sharding):
    gpus = {"hardware__gpus_per_node": 2, "hardware__gpu": "a6000-48gb", "hardware__sharding": sharding}
    with pytest.raises(Refusal) as raised:
        planned(tmp_path, **TEST, **gpus, model__dtype="fp32", evaluation__metric="accuracy")
    assert dict(raised.value.reasons)["hardware.sharding"].endswith(
        f"{sharding} works with loss, and accuracy with ddp, zero1 or zero2"
    )


def test_the_plan_says_what_is_kept_and_by_what(tmp_path):
    by_accuracy = {"evaluation__metric": "accuracy", "evaluation__keep": "best", "evaluation__stop_after": 3}
    shown = table(planned(tmp_path, **TEST, **by_accuracy))
    assert "the newest 1 kept and the best" in shown
    assert (
        "every 200 steps, by strict accuracy of 200 requests; the model is the best; ends after 3 looks without gain"
        in shown
    )
    assert "looks" not in table(planned(tmp_path, **TEST))


def test_settings_that_choose_nothing_are_noted(tmp_path):
    (tmp_path / "train.jsonl").write_text('{"text": "row"}\n' * 16)
    plan = planned(tmp_path, **TEST, evaluation__stop_after=2)
    notes = [line for line in planner.notes(plan) if line.startswith("evaluation.")]
    assert notes == [
        "evaluation.stop_after: with keep: last the model is that of the last step, 2 looks past the best; keep: best "
        "keeps the best",
        "evaluation.eval_steps: 200, but the run has 2 steps: there is nothing to choose from; write a smaller number",
    ]


def test_the_best_checkpoint_takes_disk_too():
    model = structure(SIZES)
    one, other = (a_job(evaluation__keep=keep) for keep in ("last", "best"))
    assert disk_bytes(model, other) - disk_bytes(model, one) == checkpoint_of(model, one)
