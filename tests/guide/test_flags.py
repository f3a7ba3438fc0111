"""The guide's flags become the job that they meant, and none of them is lost on the way."""

import re
import shlex

import pytest

from hatrain.contract.gpus import GIB
from hatrain.contract.spec import Dpo, HardwareSpec, JobSpec, LoraSpec
from hatrain.errors import BadInput
from hatrain.guide import flags_help, is_guide_command, job_from_flags
from hatrain.guide.flags import FLAGS, WITHOUT_A_PLACE
from hatrain.guide.machine import first_gpu, known_as, this_machine
from tests.guide.commands import IDS

REQUIRED = "--run_name r --base_model b/m --train_dataset t.jsonl"
GPU = HardwareSpec(gpu="rtx3090-24gb")


def job(flags: str = "", hardware: HardwareSpec | None = GPU) -> JobSpec:
    return job_from_flags(shlex.split(f"{REQUIRED} {flags}"), hardware)[0]


def notes(flags: str = "", hardware: HardwareSpec | None = GPU) -> str:
    return "\n".join(job_from_flags(shlex.split(f"{REQUIRED} {flags}"), hardware)[1])


def problems(flags: str, hardware: HardwareSpec | None = GPU) -> str:
    with pytest.raises(BadInput) as caught:
        job_from_flags(shlex.split(flags), hardware)
    return str(caught.value)


# Each flag with a value that is not the default, and what it changes in the job.
CHANGES = {
    "--run_name other": ("name", "other"),
    "--base_model x/y": ("model.base", "x/y"),
    "--train_dataset other.jsonl": ("data.train.0.path", "other.jsonl"),
    "--bf16": ("model.dtype", "bf16"),
    "--test_dataset e.jsonl": ("data.test", "e.jsonl"),
    "--learning_rate 3e-4": ("method.learning_rate", 3e-4),
    "--learning_rate_warmup 0.03": ("method.learning_rate_warmup", 0.03),
    "--learning_rate_schedule linear": ("method.learning_rate_schedule", "linear"),
    "--batch_size 64": ("method.batch_size", 64),
    "--micro_batch_size 4": ("method.micro_batch_size", 4),
    "--epochs 3": ("method.epochs", 3.0),
    "--gradient_checkpointing": ("method.gradient_checkpointing", True),
    "--group_by_length": ("data.order", "by_length"),
    "--ctx_size 1024": ("method.ctx_size", 1024),
    "--save_steps 50": ("checkpoints.save_steps", 50),
    "--save_total_limit 7": ("checkpoints.save_total_limit", 7),
    "--eval_steps 11": ("evaluation.eval_steps", 11),
    "--logging_steps 9": ("logging.logging_steps", 9),
    "--weight_decay 0": ("method.weight_decay", 0.0),
    "--gradient_clip 0.5": ("method.gradient_clip", 0.5),
    "--add_pad_token": ("model.add_pad_token", True),
    "--add_chatml_tokens": ("model.add_chatml_tokens", True),
    "--use_lora": ("method.lora", LoraSpec().model_dump()),
    "--use_lora --lora_rank 8": ("method.lora.rank", 8),
    "--use_lora --lora_alpha 16": ("method.lora.alpha", 16.0),
    "--use_lora --lora_dropout 0.2": ("method.lora.dropout", 0.2),
    "--use_lora --lora_modules q_proj,v_proj": ("method.lora.modules", ("q_proj", "v_proj")),
    "--use_lora --lora_modules_to_save lm_head": ("method.lora.modules_to_save", ("lm_head",)),
    "--use_lora --lora_merge": ("method.lora.merge", True),
    "--load_in_8bit": ("model.quantization", {"kind": "8bit"}),
    "--load_in_4bit": ("model.quantization", {"kind": "4bit", "type": "nf4", "double": True}),
    "--load_as_gptq": ("model.quantization", {"kind": "gptq"}),
    "--dpo": ("method.kind", "dpo"),
    "--dpo --beta 0.3": ("method.beta", 0.3),
    "--dpo --dpo_loss ipo": ("method.loss", "ipo"),
    "--prefix_ids 1,2 --suffix_ids 3": ("data.prefix_ids", (1, 2)),
    "--prefix_ids 1,2 --suffix_ids 3,4": ("data.suffix_ids", (3, 4)),
    "--sync_to_bucket my-bucket": ("checkpoints.sync_to", "s3://my-bucket"),
}


def _at(spec: JobSpec, dotted: str) -> object:
    value: object = spec.model_dump()
    for part in dotted.split("."):
        value = value[int(part)] if part.isdigit() else value[part]
    return value


def _command(flags: str) -> list[str]:
    """The flags with those that are required, unless they are among them."""
    given = {word.replace("-", "_").lstrip("_") for word in flags.split() if word.startswith("--")}
    pairs = {"run_name": "r", "base_model": "b/m", "train_dataset": "t.jsonl"}
    return [
        *(word for name, value in pairs.items() if name not in given for word in (f"--{name}", value)),
        *shlex.split(flags),
    ]


@pytest.mark.parametrize("flags", CHANGES)
def test_every_flag_changes_the_job_in_both_spellings(flags):
    key, value = CHANGES[flags]
    dashed = " ".join(word.replace("_", "-") if word.startswith("--") else word for word in flags.split())
    for spelling in (flags, dashed):
        made, _ = job_from_flags(_command(spelling), GPU)
        assert _at(made, key) == value
    assert made != job(), "the flag left the job as it was"


def test_no_flag_of_the_guide_is_left_untested():
    tested = {word.removeprefix("--") for flags in CHANGES for word in flags.split() if word.startswith("--")}
    assert tested | {"resume_from_checkpoint"} == set(FLAGS)


def test_a_value_may_follow_an_equals_sign_and_a_switch_may_say_true_or_false():
    made = job("--batch_size=16 --bf16 true --gradient_checkpointing=false --group-by-length False")
    assert (made.method.batch_size, made.model.dtype) == (16, "bf16")
    assert (made.method.gradient_checkpointing, made.data.order) == (False, "shuffled")


def test_the_defaults_are_the_guides():
    made = job("--bf16 --dpo --use_lora")
    method, lora = made.method, made.method.lora
    assert isinstance(method, Dpo)
    assert (method.batch_size, method.micro_batch_size, method.epochs, method.ctx_size) == (8, 2, 1, 2048)
    assert (method.learning_rate, method.learning_rate_warmup, method.learning_rate_schedule) == (
        1e-5,
        0,
        "cosine",
    )
    assert (method.weight_decay, method.gradient_clip, method.beta, method.loss) == (0.1, 1.0, 0.1, "sigmoid")
    assert (lora.rank, lora.alpha, lora.dropout, lora.modules, lora.merge) == (4, 32, 0.05, None, False)
    assert (made.checkpoints.save_steps, made.checkpoints.save_total_limit) == (None, 1)
    assert (made.evaluation.eval_steps, made.logging.logging_steps) == (200, 5)
    assert (method.gradient_checkpointing, made.data.order) == (False, "shuffled")


def test_minus_one_saves_at_the_end_of_each_epoch_as_in_the_guide():
    assert job("--save_steps -1").checkpoints.save_steps is None


@pytest.mark.parametrize("family", IDS)
def test_the_known_ids_are_read_in_the_spelling_they_are_published_in(family):
    flags, prefix, suffix = IDS[family]
    made = job(flags)
    assert (len(made.data.prefix_ids), len(made.data.suffix_ids)) == (prefix, suffix)
    assert ",".join(map(str, made.data.prefix_ids)) in flags


def test_without_bf16_the_dtype_is_train_pys_own_choice_and_is_said():
    assert job("").model.dtype == "fp32"
    assert job("--use_lora").model.dtype == "fp16"
    assert job("--use_lora --load_in_4bit").model.dtype == "fp32"
    assert "model.dtype is fp16" in notes("--use_lora")
    assert "dtype" not in notes("--bf16")


def test_a_folder_loses_the_dots_and_slashes_around_it():
    assert job("").model.base == "b/m"
    made = job_from_flags(shlex.split("--run_name r --base_model ./models/old/ --train_dataset t"), GPU)[0]
    assert (made.model.base, made.after) == ("models/old", "old")


def test_a_real_folder_under_models_is_no_run_to_wait_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models" / "plain").mkdir(parents=True)
    (tmp_path / "models" / "linked").symlink_to("../runs/linked/model")
    for name, run in (("plain", None), ("linked", "linked"), ("absent", "absent")):
        argv = ["--run_name", "r", "--base_model", f"models/{name}", "--train_dataset", "t"]
        assert job_from_flags(argv, GPU)[0].after == run


# --- what is refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (f"{REQUIRED} --lora_rnk 3", "--lora_rnk: no such flag; did you mean --lora_rank?"),
        (f"{REQUIRED} --learning-rat 3", "--learning-rat: no such flag; did you mean --learning_rate?"),
        (f"{REQUIRED} -bf16", "-bf16: no such flag"),
        (f"{REQUIRED} stray", "found 'stray' where a flag was expected"),
        (f"{REQUIRED} --epochs", "--epochs: found nothing; accepted: a value"),
        (f"{REQUIRED} --epochs --bf16", "--epochs: found nothing; accepted: a value"),
        (f"{REQUIRED} --epochs 1 --epochs=2", "--epochs: given twice"),
        (f"{REQUIRED} --prefix_ids 1 --prefix-ids 2 --suffix_ids 3", "--prefix-ids: given twice"),
        (f"{REQUIRED} --bf16=maybe", "--bf16: found 'maybe'; accepted: alone, or with true or false"),
        (f"{REQUIRED} --lora_rank 8", "--lora_rank: means nothing without --use_lora"),
        (f"{REQUIRED} --lora-merge", "--lora-merge: means nothing without --use_lora"),
        (f"{REQUIRED} --beta 0.2", "--beta: means nothing without --dpo"),
        (
            f"{REQUIRED} --load_in_8bit --load_in_4bit",
            "--load_in_8bit and --load_in_4bit: one of them, not 2",
        ),
        (f"{REQUIRED} --prefix-ids 1", "--prefix-ids: wants --suffix_ids beside it"),
        (f"{REQUIRED} --learning_rate fast", "--learning_rate: found 'fast'; accepted: a number"),
        (f"{REQUIRED} --batch-size 2.5", "--batch-size: found '2.5'; accepted: a whole number"),
        (f"{REQUIRED} --save_steps 0", "--save_steps: found '0'; accepted: above 0"),
        (f"{REQUIRED} --eval_steps -1", "--eval_steps: found '-1'; accepted: at least 1"),
        (f"{REQUIRED} --learning_rate_schedule cosin", "did you mean cosine?"),
        (f"{REQUIRED} --dpo --dpo_loss sigmod", "did you mean sigmoid?"),
        (f"{REQUIRED} --prefix_ids a,b --suffix_ids 2", "--prefix_ids: found 'a,b'; accepted:"),
        ("--run_name a/b --base_model b --train_dataset t", "--run_name: found 'a/b'; accepted:"),
        ("--bf16", "--train_dataset: missing, and has no default"),
        ("", "--run_name: missing, and has no default"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_flag(flags, said):
    assert said in problems(flags)


@pytest.mark.parametrize("name", WITHOUT_A_PLACE)
def test_flags_of_train_py_without_a_place_in_a_job_are_refused_with_the_reason(name):
    assert f"--{name}: not taken here: {WITHOUT_A_PLACE[name]}" in problems(f"{REQUIRED} --{name} 1")


def test_all_problems_are_told_at_once():
    assert len(problems(f"{REQUIRED} --lora_rnk 3 --epoch 2 stray").splitlines()) == 3
    assert len(problems(f"{REQUIRED} --learning_rate x --batch_size y").splitlines()) == 2


# --- what is said -------------------------------------------------------------------------------------------


def test_a_flag_that_changes_nothing_is_said():
    assert "--eval-steps: changes nothing" in notes("--bf16 --eval-steps 100")
    assert notes("--bf16 --eval_steps 100 --test_dataset e") == ""


def test_the_batch_over_several_gpus_is_said():
    two = HardwareSpec(gpu="rtx3090-24gb", gpus_per_node=2, sharding="fsdp")
    assert "the batch of 64 rows is over all 2 GPUs" in notes("--bf16 --batch_size 64", two)
    assert "128 rows a step" in notes("--bf16 --batch_size 64", two)


def test_a_bucket_is_told_from_a_folder():
    assert job("--sync_to_bucket /mnt/bucket").checkpoints.sync_to == "/mnt/bucket"
    assert "checkpoints.sync_to: s3://b" in notes("--bf16 --sync_to_bucket b")


def test_a_checkpoint_to_resume_from_is_only_noted_where_a_job_is_written():
    assert "goes on from its newest complete checkpoint" in notes(
        "--bf16 --resume_from_checkpoint checkpoint-9"
    )
    assert notes("--bf16 --resume_from_checkpoint ''") == ""


def test_training_here_resumes_from_the_named_checkpoint_or_says_why_not(tmp_path, monkeypatch):
    monkeypatch.setenv("HATRAIN_RUNS", str(tmp_path))
    resume = f"{REQUIRED} --bf16 --resume_from_checkpoint"
    assert "there is none to go on from" in problems(f"{resume} checkpoint-10", None)
    for step in (9, 10):
        (tmp_path / "r" / "checkpoints" / f"checkpoint-{step}").mkdir(parents=True)
    assert "accepted: checkpoint-10" in problems(f"{resume} checkpoint-7", None)
    assert "checkpoint-10 is newer" in problems(f"{resume} ./models/r/checkpoint-9", None)
    assert "changes nothing" in notes("--bf16 --resume_from_checkpoint models/r/checkpoint-10", None)


# --- this machine -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("called", "memory", "name"),
    [
        ("NVIDIA GeForce RTX 3090", 24, "rtx3090-24gb"),
        ("NVIDIA GeForce RTX 4060 Ti", 16, "rtx4060ti-16gb"),
        ("NVIDIA A100-SXM4-40GB", 40, "a100-40gb"),
        ("NVIDIA A100 80GB PCIe", 80, "a100-80gb"),
        ("NVIDIA H100 80GB HBM3", 80, "h100-80gb"),
        ("NVIDIA H200", 140, "h200-141gb"),
        ("NVIDIA RTX A6000", 48, "a6000-48gb"),
        ("NVIDIA RTX 6000 Ada Generation", 48, "rtx6000ada-48gb"),
        ("NVIDIA L40S", 45, "l40s-48gb"),
        ("NVIDIA L4", 22, "l4-24gb"),
        ("NVIDIA A10G", 22, "a10-24gb"),
        ("Tesla V100-SXM2-32GB", 32, "v100-32gb"),
        ("Tesla T4", 15, "t4-16gb"),
        ("Some new one", 30, "rtx3090-24gb"),
        ("Some small one", 6, "rtx3060-12gb"),
    ],
)
def test_a_gpu_is_known_by_its_makers_name(called, memory, name):
    found = known_as(called, memory * GIB)
    if called.startswith("Some"):
        assert found in (name, "rtx4090-24gb", "a5000-24gb")
    else:
        assert found == name


def _nvidia_smi(folder, monkeypatch, answer: str) -> None:
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{answer}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)


def test_this_machines_gpu_is_used_and_none_when_it_is_hidden(tmp_path, monkeypatch):
    _nvidia_smi(tmp_path, monkeypatch, "echo 'NVIDIA RTX A6000, 49140'")
    assert job("", None).hardware == HardwareSpec(gpu="a6000-48gb")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert job("", None).hardware.gpu == "cpu"


@pytest.mark.parametrize("answer", ["exit 9", "echo 'no devices were found'", "echo"])
def test_a_machine_without_a_working_driver_trains_on_its_processor(tmp_path, monkeypatch, answer):
    _nvidia_smi(tmp_path, monkeypatch, answer)
    assert first_gpu() is None
    assert job("", None).hardware == HardwareSpec(gpu="cpu")


def test_torchruns_processes_are_the_jobs(tmp_path, monkeypatch):
    _nvidia_smi(tmp_path, monkeypatch, "echo 'NVIDIA RTX A6000, 49140'")
    monkeypatch.setenv("WORLD_SIZE", "8")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert (this_machine().nodes, this_machine().gpus_per_node) == (2, 4)


def test_the_guides_flags_are_told_from_a_job_name():
    assert is_guide_command(["--run_name", "x"])
    assert is_guide_command(["--bf16", "--run-name=x"])
    assert not is_guide_command(["tinyhome", "--set", "method.epochs=2"])
    assert not is_guide_command(["--help"])
    assert re.search(r"--lora_modules_to_save +method.lora.modules_to_save", flags_help())
