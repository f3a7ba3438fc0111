"""The schema of a job: the training guide's defaults, and the identity of a run."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from hatrain.contract.load import load_job
from hatrain.contract.spec import DataSpec, JobSpec, LoraSpec, json_schema, seconds
from tests import shipped
from tests.plans import a_job

JOBS = Path(__file__).parents[2] / "jobs"


def test_the_defaults_are_the_guides():
    job = a_job()
    method = job.method
    assert (method.kind, method.batch_size, method.micro_batch_size, method.epochs) == ("sft", 8, 2, 1)
    assert (method.learning_rate, method.learning_rate_warmup) == (1e-5, 0.0)
    assert (method.learning_rate_schedule, method.weight_decay, method.gradient_clip) == ("cosine", 0.1, 1.0)
    assert (method.ctx_size, method.lora) == (2048, None)
    assert (job.checkpoints.save_steps, job.checkpoints.save_total_limit) == (None, 1)
    assert (job.logging.logging_steps, job.evaluation.eval_steps) == (5, 200)
    lora = a_job(method__lora={}).method.lora
    assert (lora.rank, lora.alpha, lora.dropout, lora.modules) == (4, 32, 0.05, None)
    assert a_job(method__kind="dpo").method.beta == 0.1


def test_a_job_cannot_be_changed_once_it_is_read():
    with pytest.raises(ValidationError):
        a_job().seed = 7


@pytest.mark.parametrize(
    ("written", "meant"),
    [("00:00:01", 1), ("1:00:00", 3600), ("2-00:00:00", 172800), ("45s", 45), ("3 m", 180)],
)
def test_a_duration_is_a_number_of_seconds(written, meant):
    assert seconds(written) == meant


@pytest.mark.parametrize("written", ["", "60", "1:00", "1:60:00", "-1:00:00", "1w", "a day"])
def test_a_duration_without_a_clear_unit_is_refused(written):
    with pytest.raises(ValueError, match="a duration such as"):
        seconds(written)


@pytest.mark.parametrize("name", ["a", "Home-3B-v2_ha-GGUF", "mistral.7b", "x" * 100])
def test_run_names_of_the_guide_are_accepted(name):
    assert a_job(name=name).name == name


@pytest.mark.parametrize("name", ["", "a b", "../up", ".hidden", "-dash", "a/b", "x" * 101, "küche", "a\n", "$x"])
def test_a_name_that_is_no_plain_folder_name_is_refused(name):
    with pytest.raises(ValidationError):
        a_job(name=name)


def test_types_of_an_export_are_ordered_and_named_once():
    assert a_job().export is None
    written = a_job(export__gguf="q4_k_m, f16,q8_0,f16").export
    assert (written.gguf, written.ollama, written.requests) == (("f16", "q8_0", "q4_k_m"), False, 50)


@pytest.mark.parametrize("types", [["q4_k"], [], "", "f16;q8_0"])
def test_an_unknown_type_of_file_is_refused(types):
    with pytest.raises(ValidationError):
        a_job(export__gguf=types)


def test_an_export_is_no_part_of_a_runs_identity():
    assert a_job(export__gguf=["f16"]).identity() == a_job().identity()


# --- identity -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 7},
        {"model__base": "other/base"},
        {"model__dtype": "bf16"},
        {"model__dtype": "fp16"},
        {"data__train": "other.jsonl"},
        {"data__order": "by_length"},
        {"method__learning_rate": 2e-5},
        {"method__batch_size": 16},
        {"method__lora": {}},
        {"method__kind": "dpo"},
        {"method__ctx_size": 1024},
        {"method__max_steps": 500},
        {"evaluation__stop_after": 3},
    ],
)
def test_keys_that_change_the_weights_change_the_identity(changes):
    assert a_job(**changes).identity() != a_job().identity()


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "other"},
        {"method__micro_batch_size": 4},
        {"method__packing": "off"},
        {"method__gradient_checkpointing": False},
        {"hardware__gpus_per_node": 4},
        {"hardware__gpu": "h100-80gb", "model__dtype": "fp32"},
        {"checkpoints__save_steps": 10},
        {"evaluation__eval_steps": 10},
        {"evaluation__keep": "best", "evaluation__metric": "accuracy"},
        {"logging__logging_steps": 1},
        {"limits__retries": 9},
        {"after": "other"},
    ],
)
def test_keys_of_place_speed_and_logging_do_not(changes):
    assert a_job(**changes).identity() == a_job().identity()


def test_where_looks_end_training_what_they_depend_on_changes_the_identity():
    by_loss, by_accuracy = ({"evaluation__stop_after": 3, "evaluation__metric": name} for name in ("loss", "accuracy"))
    assert a_job(**by_loss, evaluation__eval_steps=10).identity() != a_job(**by_loss).identity()
    assert a_job(**by_loss, evaluation__sample=9).identity() != a_job(**by_loss).identity()
    assert a_job(**by_loss, evaluation__requests=9).identity() == a_job(**by_loss).identity()
    assert a_job(**by_loss, evaluation__keep="best").identity() == a_job(**by_loss).identity()
    assert a_job(**by_accuracy).identity() != a_job(**by_loss).identity()
    assert a_job(**by_accuracy, evaluation__requests=9).identity() != a_job(**by_accuracy).identity()
    assert a_job(**by_accuracy, evaluation__sample=9).identity() == a_job(**by_accuracy).identity()


def test_a_default_that_is_written_out_changes_no_identity():
    assert (
        a_job(method__kind="sft", data__train=[{"path": "train.jsonl", "weight": 1}]).identity() == a_job().identity()
    )


@pytest.mark.parametrize(("gpu", "dtype"), [("cpu", "fp32"), ("a100-80gb", "bf16"), ("t4-16gb", "fp32")])
def test_auto_is_the_type_that_the_hardware_has_and_the_identity_is_that_of_the_type(gpu, dtype):
    job = a_job(hardware__gpu=gpu)
    assert job.model.dtype == "auto" and job.with_dtype().model.dtype == dtype
    assert job.identity() == a_job(hardware__gpu=gpu, model__dtype=dtype).identity() == job.with_dtype().identity()
    assert job.identity_parts()["model"]["dtype"] == dtype


def test_auto_stays_what_the_run_began_with():
    job, earlier = a_job(), a_job(model__dtype="bf16")
    assert job.with_dtype(earlier).identity() == earlier.identity()
    assert a_job(model__dtype="fp16").with_dtype(earlier).model.dtype == "fp16"


RECORDED = json.loads((Path(__file__).parent / "recorded" / "identities.json").read_text())


@pytest.mark.parametrize("job", [path.stem for path in shipped.JOBS])
def test_the_identity_of_every_job_stays_what_it_is(job):
    """A changed identity makes run directories of older versions foreign. Record a new job here once, and never
    again."""
    assert load_job(str(JOBS / f"{job}.yaml")).identity() == RECORDED.get(job)


def test_a_job_with_every_kind_of_key_keeps_its_identity():
    job = a_job(
        model__dtype="bf16",
        model__quantization={"kind": "4bit", "double": False},
        data__train=["a.jsonl", {"path": "b.jsonl", "weight": 0.5}],
        data__prefix_ids=[1, 2],
        data__suffix_ids=[3],
        method={"kind": "dpo", "beta": 0.2, "lora": {"rank": 8, "modules": ["mlp"], "merge": True}},
    )
    assert job.identity() == RECORDED["every kind of key"]


def test_a_key_that_is_added_later_counts_only_where_it_differs_from_its_default():
    class LaterLora(LoraSpec):
        extra: int = 7

    class LaterData(DataSpec):
        extra: tuple[int, ...] = ()

    def later(**extra):
        job = a_job(method__lora={})
        lora = LaterLora(**job.method.lora.model_dump(), **extra)
        return job.model_copy(update={"method": job.method.model_copy(update={"lora": lora})})

    job = a_job(method__lora={})
    assert later().identity() == job.identity()
    assert later(extra=7).identity() == job.identity()
    assert later(extra=8).identity() != job.identity()
    data = LaterData(**job.data.model_dump())
    assert job.model_copy(update={"data": data}).identity() == job.identity()


# --- the schema ---------------------------------------------------------------------------------------------


def objects(schema):
    if isinstance(schema, dict):
        if "properties" in schema:
            yield schema
        for part in schema.values():
            yield from objects(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from objects(part)


def test_every_key_of_the_schema_is_described_and_nothing_else_is_accepted():
    for part in objects(json_schema()):
        assert part["additionalProperties"] is False
        for key, value in part["properties"].items():
            described = (
                "description" in value or "$ref" in value or key in ("kind", "method", "model", "data", "hardware")
            )
            assert described, f"{part['title']}.{key}"


def test_the_schema_is_plain_json():
    assert json.loads(json.dumps(json_schema()))["title"] == "JobSpec"
    assert JobSpec.__doc__ in json.dumps(json_schema())
