"""Planning: exact arithmetic, and a remedy in every refusal."""

import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatrain.contract.load import read_text, validate
from hatrain.contract.spec import DatasetSpec, JobSpec
from hatrain.contract.steps import warmup_steps
from hatrain.errors import BadInput
from launch import planner
from launch.planner import Refusal, batch_of, count_rows
from tests.plans import a_cluster, a_job, a_plan


def planned(tmp_path, **changes):
    return planner.plan(a_job(**changes), a_cluster(), "local", workdir=tmp_path, runs_root=tmp_path / "runs")


def refused(tmp_path, **changes):
    with pytest.raises(Refusal) as raised:
        planned(tmp_path, **changes)
    return dict(raised.value.reasons)


# --- the batch ----------------------------------------------------------------------------------------------


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 16))
def test_rows_of_a_step_are_micro_batch_times_accumulation_times_ranks(micro, accumulation, ranks):
    batch = batch_of(micro * accumulation * ranks, micro, ranks)
    assert (batch.micro_batch_size, batch.accumulation, batch.ranks) == (micro, accumulation, ranks)


@given(st.integers(1, 200), st.integers(1, 32), st.integers(1, 16))
def test_a_batch_divides_or_every_suggested_size_divides(rows, micro, ranks):
    try:
        assert batch_of(rows, micro, ranks).rows_per_step == rows
    except Refusal as refusal:
        assert rows % (micro * ranks)
        remedy = refusal.reasons[0][1].partition("; write ")[2]
        sizes, _, micros = remedy.partition(", or ")
        for size in [int(word) for word in sizes.split() if word.isdigit()]:
            batch_of(size, micro, ranks)
            assert abs(size - rows) < micro * ranks
        for other in [int(word) for word in micros.split() if word.isdigit()]:
            batch_of(rows, other, ranks)


def test_a_batch_that_does_not_divide_is_refused_with_the_nearest_that_do():
    with pytest.raises(Refusal) as raised:
        batch_of(64, 3, 2)
    assert str(raised.value) == (
        "method.batch_size: found 64, which is not a multiple of micro_batch_size 3 × 2 ranks; "
        "write a batch_size of 60 or 66, or a micro_batch_size of 2 or 4"
    )


def test_a_batch_smaller_than_the_ranks_is_refused_with_the_smallest_that_fits():
    with pytest.raises(Refusal, match=r"write a batch_size of 8$"):
        batch_of(2, 2, 4)


# --- steps and rows -----------------------------------------------------------------------------------------


def rows_in(tmp_path, name, data, weight=1.0):
    (tmp_path / name).write_bytes(data)
    return count_rows([DatasetSpec(path=name, weight=weight)], tmp_path)


def test_rows_are_counted_in_every_format(tmp_path):
    row = b'{"text": "a\\nb"}'
    assert rows_in(tmp_path, "lines.jsonl", b"\n".join([row] * 3)) == 3
    assert rows_in(tmp_path, "ended.jsonl", b"\n".join([row] * 3) + b"\n\n  \n") == 3
    assert rows_in(tmp_path, "list.json", b"\n [" + b",\n".join([row] * 4) + b"]\n") == 4
    assert rows_in(tmp_path, "lines.jsonl.gz", gzip.compress(b"\n".join([row] * 5))) == 5
    assert rows_in(tmp_path, "list.json.gz", gzip.compress(json.dumps([{}] * 6).encode())) == 6


def test_a_weight_counts_as_the_trainer_counts_it(tmp_path):
    row = b"{}\n"
    assert rows_in(tmp_path, "a", row * 10, 2.5) == 25
    assert rows_in(tmp_path, "a", row * 10, 0.25) == 2
    assert rows_in(tmp_path, "a", row, 0.1) == 1


def test_a_file_that_grew_is_counted_again(tmp_path):
    assert rows_in(tmp_path, "a", b"{}\n") == 1
    assert rows_in(tmp_path, "a", b"{}\n{}\n") == 2


@pytest.mark.parametrize("data", [None, b"", b"[broken", b"\x1f\x8bbroken"])
def test_without_countable_rows_the_steps_are_unknown(tmp_path, data):
    if data is not None:
        (tmp_path / "train.jsonl").write_bytes(data)
    assert planned(tmp_path).steps is None


@pytest.mark.parametrize(
    ("rows", "epochs", "per_epoch", "total"),
    [(8, 1, 2, 2), (9, 1, 3, 3), (9, 2, 3, 6), (9, 0.5, 3, 2), (1, 0.1, 1, 1)],
)
def test_a_partial_step_counts_as_a_step(tmp_path, rows, epochs, per_epoch, total):
    steps = a_plan(tmp_path, rows=rows, method__batch_size=4, method__epochs=epochs).steps
    assert (steps.rows, steps.per_epoch, steps.total) == (rows, per_epoch, total)


def test_warm_up_is_a_share_of_the_steps(tmp_path):
    plan = a_plan(tmp_path, rows=400, method__batch_size=4, method__learning_rate_warmup=0.03)
    assert warmup_steps(plan.steps, plan.job.method) == 3


def test_max_steps_that_are_not_reached_are_noted(tmp_path):
    changes = {"rows": 16, "method__batch_size": 4, "method__epochs": 2}
    assert planner.notes(a_plan(tmp_path, **changes, method__max_steps=8)) == []
    assert planner.notes(a_plan(tmp_path, **changes, method__max_steps=9)) == [
        "method.max_steps: 9, but 2 epochs of these rows have 8 steps, and the run ends there; "
        "raise method.epochs for more"
    ]


# --- decisions ----------------------------------------------------------------------------------------------


def test_sharding_that_one_rank_makes_pointless_is_noted(tmp_path):
    assert planner.notes(planned(tmp_path, hardware__sharding="fsdp")) == [
        "hardware.sharding: fsdp needs several ranks; one rank shards nothing"
    ]
    assert planner.notes(planned(tmp_path, checkpoints__state="sharded")) == [
        "checkpoints.state: sharded needs several ranks; one rank writes all of a checkpoint"
    ]
    assert planner.notes(planned(tmp_path)) == []


@pytest.mark.parametrize(
    ("gpu", "setting", "expected"), [("cpu", "auto", False), ("a100-40gb", "auto", True), ("cpu", True, True)]
)
def test_activation_checkpointing_is_on_for_gpus_unless_set(tmp_path, gpu, setting, expected):
    assert (
        planned(tmp_path, hardware__gpu=gpu, method__gradient_checkpointing=setting).gradient_checkpointing is expected
    )


def test_bf16_on_a_gpu_without_it_is_refused_with_gpus_that_have_it(tmp_path):
    reason = refused(tmp_path, hardware__gpu="v100-32gb", model__dtype="bf16")["model.dtype"]
    assert "write fp16 or fp32, or one of these GPUs:" in reason
    assert "a6000-48gb" in reason
    assert "rtx3090-24gb" not in reason


def test_a_local_cluster_is_one_machine(tmp_path):
    assert "write 1" in refused(tmp_path, hardware__nodes=2)["hardware.nodes"]


def test_all_reasons_are_reported_at_once_with_their_lines(tmp_path):
    text = (
        "name: x\nmodel: {base: b, dtype: bf16}\ndata: {train: t}\n"
        "method:\n  batch_size: 3\nhardware:\n  gpu: t4-16gb\n"
    )
    with pytest.raises(Refusal) as raised:
        planned(tmp_path, method__batch_size=3, hardware__gpu="t4-16gb", model__dtype="bf16")
    problems = raised.value.located(read_text(text, "jobs/x.yaml")).problems
    assert [line.partition(": ")[0] for line in problems] == ["jobs/x.yaml:2", "jobs/x.yaml:5"]


def test_paths_are_absolute_and_the_run_is_named_after_the_job(tmp_path):
    paths = planned(tmp_path, name="my.run-1").paths
    assert paths.run == str(tmp_path / "runs" / "my.run-1")
    assert paths.workdir == str(tmp_path)
    assert paths.models == str(tmp_path / "models")


# --- what cannot work, and what nobody means ----------------------------------------------------------------


@pytest.mark.parametrize("kind", ["4bit", "8bit", "gptq"])
def test_quantised_weights_without_adapters_are_refused(tmp_path, kind):
    reasons = refused(tmp_path, model__quantization=kind)
    assert reasons["model.quantization"] == (
        f"found {kind}, but {kind} weights cannot be trained; add method.lora, or remove it"
    )
    planned(tmp_path, model__quantization=kind, method__lora={})


@pytest.mark.parametrize(
    ("change", "accepted"),
    [
        ("method: {batch_size: 1000000000000000000000000}", "at most 1000000"),
        ("method: {micro_batch_size: 1000000000000}", "at most 1000000"),
        ("method: {ctx_size: 100000000}", "at most 10000000"),
        ("method: {epochs: 1e30}", "at most 1e+06"),
        ("method: {lora: {rank: 1000000000}}", "at most 65536"),
        ("seed: 4294967296", "below 4294967296"),
    ],
)
def test_numbers_that_cannot_work_are_refused_with_the_limit(change, accepted):
    text = f"name: a\nmodel: {{base: b}}\ndata: {{train: c}}\nhardware: {{gpu: cpu}}\n{change}\n"
    with pytest.raises(BadInput) as raised:
        validate(JobSpec, read_text(text, "job.yaml"))
    (line,) = raised.value.problems
    assert line.startswith("job.yaml:5: ") and accepted in line


def test_a_learning_rate_that_nobody_means_is_noted(tmp_path):
    (note,) = planner.notes(planned(tmp_path, method__learning_rate=1000))
    assert note.startswith("method.learning_rate: 1000 is far above the usual 1e-6 to 1e-3")
    assert planner.notes(planned(tmp_path, method__learning_rate=1e-3)) == []


def test_a_batch_of_more_rows_than_an_epoch_has_is_noted(tmp_path):
    (tmp_path / "train.jsonl").write_text("{}\n" * 10)
    settings = {"data__train": "train.jsonl", "method__micro_batch_size": 1}
    (note,) = planner.notes(planned(tmp_path, **settings, method__batch_size=64))
    assert note == "method.batch_size: 64, but an epoch has 10 rows: each is a single step"
    assert planner.notes(planned(tmp_path, **settings, method__batch_size=10)) == []


def test_more_processes_than_cores_are_noted(tmp_path, monkeypatch):
    monkeypatch.setattr(planner, "cpu_cores", lambda: 2)
    settings = {"hardware__gpu": "cpu", "method__batch_size": 128}
    (note,) = planner.notes(planned(tmp_path, **settings, hardware__gpus_per_node=64))
    assert note == "hardware.gpus_per_node: 64 processes share the 2 cores of this machine"
    assert planner.notes(planned(tmp_path, **settings, hardware__gpus_per_node=2)) == []


def test_compiled_layers_are_refused_where_torch_would_not_compile_or_nothing_tests_them(tmp_path):
    both = {"hardware__compile": True, "method__gradient_checkpointing": True}
    assert "write false, or gradient_checkpointing: false" in refused(tmp_path, **both)["hardware.compile"]
    quantized = {"model__quantization": "4bit", "method__lora": {"rank": 4}, "hardware__gpu": "a6000-48gb"}
    both = {"hardware__compile": True, "method__gradient_checkpointing": False, **quantized}
    assert "4bit base, which is not tested" in refused(tmp_path, **both)["hardware.compile"]
    planned(tmp_path, hardware__compile=True, method__gradient_checkpointing=False)
