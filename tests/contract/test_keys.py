"""What is said of a key at the wrong level, of another program's name for it, and of a value of the wrong kind."""

import pytest

from hatrain.contract import load
from hatrain.contract.cluster import KINDS
from hatrain.contract.keys import target
from hatrain.contract.other_words import KEYS, VALUES
from hatrain.contract.spec import JobSpec
from hatrain.errors import BadInput
from hatrain.guide.flags import FLAGS

JOB = """\
name: kitchen
model:
  base: some/base
data:
  train: train.jsonl
hardware:
  gpu: a100-80gb
"""


def problem(model, text: str, *settings: str) -> str:
    document = load.read_text(text, "job.yaml")
    load.override(document, settings)
    with pytest.raises(BadInput) as raised:
        load.validate(model, document)
    (line,) = raised.value.problems
    return line


def keys() -> set[str]:
    """Every dotted key of a job, read from its JSON schema alone."""
    root = JobSpec.model_json_schema()
    found: set[str] = set()

    def visit(schema: dict, prefix: str) -> None:
        if "$ref" in schema:
            schema = root["$defs"][schema["$ref"].rsplit("/", 1)[-1]]
        for option in (*schema.get("anyOf", ()), *schema.get("oneOf", ())):
            visit(option, prefix)
        for name, value in schema.get("properties", {}).items():
            found.add(f"{prefix}{name}")
            visit(value, f"{prefix}{name}.")

    visit(root, "")
    return found


# --- the wrong level ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "meant"),
    [
        ("learning_rate=2e-5", "method.learning_rate"),
        ("learning-rate=2e-5", "method.learning_rate"),
        ("Learning_Rate=2e-5", "method.learning_rate"),
        ("lora={rank: 8}", "method.lora"),
        ("lora.rank=8", "method.lora.rank"),
        ("rank=8", "method.lora.rank"),
        ("method.rank=8", "method.lora.rank"),
        ("method.seed=1", "seed"),
        ("model.name=x", "name"),
        ("data.batch_size=8", "method.batch_size"),
        ("requests=8", "evaluation.requests or export.requests"),
        ("packing=true", "method.packing: auto"),
        ("gradient_checkpointing=true", "method.gradient_checkpointing"),
    ],
)
def test_a_setting_at_the_wrong_level_names_the_right_key(setting, meant):
    assert problem(JobSpec, JOB, setting) == f"--set {setting}: unknown key here; did you mean {meant}?"


def test_a_key_of_a_file_at_the_wrong_level_is_named_with_file_and_line():
    line = problem(JobSpec, f"{JOB}lora:\n  rank: 8\n")
    assert line == "job.yaml:8: lora: unknown key here; did you mean method.lora?"
    line = problem(JobSpec, f"{JOB}method:\n  epochs: 2\n  seed: 1\n")
    assert line == "job.yaml:10: method.seed: unknown key here; did you mean seed?"


def test_a_misspelt_key_is_looked_for_at_its_level_first_and_then_everywhere():
    assert problem(JobSpec, JOB, "method.learnig_rate=1").endswith("; did you mean learning_rate?")
    assert problem(JobSpec, JOB, "learnig_rate=1").endswith("; did you mean method.learning_rate?")


def test_a_key_of_another_kind_says_which():
    assert problem(JobSpec, JOB, "method.beta=0.1").endswith("; it needs kind: dpo")


@pytest.mark.parametrize(
    ("setting", "kinds"), [("partition=gpu", "slurm"), ("namespace=x", "kubernetes"), ("python=x", "local or slurm")]
)
def test_a_cluster_files_key_in_a_job_says_so(setting, kinds):
    assert f"it belongs into a cluster file of kind: {kinds}" in problem(JobSpec, JOB, setting)


def test_a_jobs_key_in_a_cluster_file_says_so():
    line = problem(KINDS["slurm"], "kind: slurm\ngpus_per_node: 2\n")
    assert line == "job.yaml:2: gpus_per_node: unknown key; it belongs into a job, as hardware.gpus_per_node"


# --- the names of other programs ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("bf16=true", "model.dtype: bf16"),
        ("method.bf16=true", "model.dtype: bf16"),
        ("load_in_4bit=true", "model.quantization: 4bit"),
        ("num_train_epochs=3", "method.epochs"),
        ("per_device_train_batch_size=4", "method.micro_batch_size (rows per GPU at a time; "),
        ("gradient_accumulation_steps=4", "method.batch_size (accumulation follows from it"),
        ("method.lora.r=16", "method.lora.rank"),
        ("model.base_model=x/y", "model.base"),
    ],
)
def test_a_name_of_another_program_says_what_is_meant_here(setting, words):
    assert problem(JobSpec, JOB, setting).startswith(f"--set {setting}: unknown key; write {words}")


def test_every_name_of_another_program_stands_for_a_key_and_is_none_itself():
    known = keys()
    assert [name for name, words in KEYS.items() if target(words) not in known] == []
    assert {name for name in KEYS if name in {key.rpartition(".")[2] for key in known}} == set()
    assert [key for key, _ in VALUES if key not in known] == []


def test_the_guides_flags_stand_for_what_its_commands_set():
    names = {key.rpartition(".")[2] for key in keys()}
    for name, flag in FLAGS.items():
        if name not in names and name != "resume_from_checkpoint":
            assert target(KEYS[name]) == target(flag.sets)


# --- values of the wrong kind -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "meant"),
    [
        ("method.packing=true", "auto"),
        ("method.packing=no", "off"),
        ("method.lora=true", "{}, for its defaults"),
        ("method.lora=false", "null"),
        ("model.quantization=4", "4bit"),
        ("model.quantization=none", "null"),
        ("model.dtype=bfloat16", "bf16"),
        ("model=some/base", "model.base: some/base"),
        ("data=rows.jsonl", "data.train: rows.jsonl"),
        ("method=dpo", "method.kind: dpo"),
        ("method.kind=SFT", "sft"),
        ("method.optimizer=adamw_torch", "adamw"),
        ("hardware.gpu=4090", "rtx4090-24gb"),
        ("hardware.gpu=A100", "a100-80gb"),
        ("hardware.sharding=false", "none"),
    ],
)
def test_a_value_of_the_wrong_kind_says_what_is_meant(setting, meant):
    assert problem(JobSpec, JOB, setting).endswith(f"; did you mean {meant}?")


@pytest.mark.parametrize("setting", ["data.order=true", "export=true", "method.micro_batch_size=off", "seed=true"])
def test_a_value_that_stands_for_nothing_gets_no_guess(setting):
    assert "did you mean" not in problem(JobSpec, JOB, setting)


def test_a_secret_is_not_repeated_in_a_guess():
    assert "hunter2" not in problem(KINDS["local"], "kind: local\nsecrets: {HF_TOKEN: hunter2}\n")
