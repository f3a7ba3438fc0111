"""The guide's flags are translated into the keys of a job, and none of them is dropped."""

import re
import shlex

import pytest

from hatrain.cli import main
from hatrain.contract.gpus import GIB, job_name
from hatrain.contract.spec import Dpo, HardwareSpec, JobSpec, LoraSpec
from hatrain.errors import BadInput
from hatrain.guide import flags_help, is_guide_command, job_from_flags
from hatrain.guide.flags import FLAGS, UNSUPPORTED, read_flags
from hatrain.guide.machine import first_gpu, this_machine
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
    """Add the required flags that are missing."""
    given = {part.replace("-", "_").lstrip("_") for part in flags.split() if part.startswith("--")}
    required = {"run_name": "r", "base_model": "b/m", "train_dataset": "t.jsonl"}
    return [
        *(part for name, value in required.items() if name not in given for part in (f"--{name}", value)),
        *shlex.split(flags),
    ]


@pytest.mark.parametrize("flags", CHANGES)
def test_every_flag_changes_the_job_in_both_spellings(flags):
    key, value = CHANGES[flags]
    dashed = " ".join(part.replace("_", "-") if part.startswith("--") else part for part in flags.split())
    for spelling in (flags, dashed):
        changed, _ = job_from_flags(_command(spelling), GPU)
        assert _at(changed, key) == value
    assert changed != job(), "the flag did not change the job"


def test_no_flag_of_the_guide_is_left_untested():
    tested = {part.removeprefix("--") for flags in CHANGES for part in flags.split() if part.startswith("--")}
    assert tested | {"resume_from_checkpoint"} == set(FLAGS)


def test_a_value_may_follow_an_equals_sign_and_a_switch_may_be_true_or_false():
    parsed = job("--batch_size=16 --bf16 true --gradient_checkpointing=false --group-by-length False")
    assert (parsed.method.batch_size, parsed.model.dtype) == (16, "bf16")
    assert (parsed.method.gradient_checkpointing, parsed.data.order) == (False, "shuffled")


def test_the_defaults_are_the_guides():
    parsed = job("--bf16 --dpo --use_lora")
    method, lora = parsed.method, parsed.method.lora
    assert isinstance(method, Dpo)
    assert (method.batch_size, method.micro_batch_size, method.epochs, method.ctx_size) == (8, 2, 1, 2048)
    assert (method.learning_rate, method.learning_rate_warmup, method.learning_rate_schedule) == (
        1e-5,
        0,
        "cosine",
    )
    assert (method.weight_decay, method.gradient_clip, method.beta, method.loss) == (0.1, 1.0, 0.1, "sigmoid")
    assert (lora.rank, lora.alpha, lora.dropout, lora.modules, lora.merge) == (4, 32, 0.05, None, False)
    assert (parsed.checkpoints.save_steps, parsed.checkpoints.save_total_limit) == (None, 1)
    assert (parsed.evaluation.eval_steps, parsed.logging.logging_steps) == (200, 5)
    assert (method.gradient_checkpointing, parsed.data.order) == (False, "shuffled")


def test_minus_one_saves_at_the_end_of_each_epoch_as_in_the_guide():
    assert job("--save_steps -1").checkpoints.save_steps is None


@pytest.mark.parametrize("family", IDS)
def test_ids_are_read_as_they_are_published(family):
    flags, prefix, suffix = IDS[family]
    parsed = job(flags)
    assert (len(parsed.data.prefix_ids), len(parsed.data.suffix_ids)) == (prefix, suffix)
    assert ",".join(map(str, parsed.data.prefix_ids)) in flags


def test_without_bf16_the_dtype_is_train_pys_choice_and_noted():
    assert job("").model.dtype == "fp32"
    assert job("--use_lora").model.dtype == "fp16"
    assert job("--use_lora --load_in_4bit").model.dtype == "fp32"
    assert "model.dtype is fp16" in notes("--use_lora")
    assert "dtype" not in notes("--bf16")


def test_dots_and_slashes_around_a_folder_are_dropped():
    assert job("").model.base == "b/m"
    parsed = job_from_flags(shlex.split("--run_name r --base_model ./models/old/ --train_dataset t"), GPU)[0]
    assert (parsed.model.base, parsed.after) == ("models/old", "old")


def test_a_real_folder_under_models_is_not_a_dependency(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models" / "plain").mkdir(parents=True)
    (tmp_path / "models" / "linked").symlink_to("../runs/linked/model")
    for name, run in (("plain", None), ("linked", "linked"), ("absent", "absent")):
        argv = ["--run_name", "r", "--base_model", f"models/{name}", "--train_dataset", "t"]
        assert job_from_flags(argv, GPU)[0].after == run


# --- what is refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (f"{REQUIRED} --lora_rnk 3", "--lora_rnk: no such flag; did you mean --lora_rank?"),
        (f"{REQUIRED} --learning-rat 3", "--learning-rat: no such flag; did you mean --learning_rate?"),
        (f"{REQUIRED} -bf16", "-bf16: no such flag"),
        (f"{REQUIRED} stray", "found 'stray'; accepted: a flag"),
        (f"{REQUIRED} --epochs", "--epochs: found nothing; accepted: a value"),
        (f"{REQUIRED} --epochs --bf16", "--epochs: found nothing; accepted: a value"),
        (f"{REQUIRED} --epochs 1 --epochs=2", "--epochs: given twice"),
        (f"{REQUIRED} --prefix_ids 1 --prefix-ids 2 --suffix_ids 3", "--prefix-ids: given twice"),
        (f"{REQUIRED} --bf16=maybe", "--bf16: found 'maybe'; accepted: no value, true or false"),
        (f"{REQUIRED} --lora_rank 8", "--lora_rank: has no effect without --use_lora"),
        (f"{REQUIRED} --lora-merge", "--lora-merge: has no effect without --use_lora"),
        (f"{REQUIRED} --beta 0.2", "--beta: has no effect without --dpo"),
        (
            f"{REQUIRED} --load_in_8bit --load_in_4bit",
            "--load_in_8bit and --load_in_4bit: only one of them is accepted",
        ),
        (f"{REQUIRED} --prefix-ids 1", "--prefix-ids: needs --suffix_ids as well"),
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
def test_invalid_flags_are_refused_by_name(flags, expected):
    assert expected in problems(flags)


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_flags_without_a_key_in_a_job_are_refused_with_the_reason(name):
    assert f"--{name}: not supported: {UNSUPPORTED[name]}" in problems(f"{REQUIRED} --{name} 1")


def test_all_problems_are_reported_at_once():
    assert len(problems(f"{REQUIRED} --lora_rnk 3 --epoch 2 stray").splitlines()) == 3
    assert len(problems(f"{REQUIRED} --learning_rate x --batch_size y").splitlines()) == 2


# --- notes ------------------------------------------------------------------------------------------------


def test_a_flag_without_effect_is_noted():
    assert "--eval-steps: has no effect" in notes("--bf16 --eval-steps 100")
    assert notes("--bf16 --eval_steps 100 --test_dataset e") == ""


def test_the_batch_over_several_gpus_is_noted():
    two = HardwareSpec(gpu="rtx3090-24gb", gpus_per_node=2, sharding="fsdp")
    assert "the batch of 64 rows is divided among 2 GPUs" in notes("--bf16 --batch_size 64", two)
    assert "128 per step" in notes("--bf16 --batch_size 64", two)


def test_a_bucket_and_a_folder_are_distinguished():
    assert job("--sync_to_bucket /mnt/bucket").checkpoints.sync_to == "/mnt/bucket"
    assert "checkpoints.sync_to: s3://b" in notes("--bf16 --sync_to_bucket b")


def test_a_checkpoint_to_resume_from_is_only_noted_for_a_job_file():
    assert "resumes from its newest complete checkpoint" in notes("--bf16 --resume_from_checkpoint checkpoint-9")
    assert notes("--bf16 --resume_from_checkpoint ''") == ""


def test_training_now_resumes_from_the_named_checkpoint_or_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("HATRAIN_RUNS", str(tmp_path))
    resume = f"{REQUIRED} --bf16 --resume_from_checkpoint"
    assert "the run has no checkpoint" in problems(f"{resume} checkpoint-10", None)
    for step in (9, 10):
        (tmp_path / "r" / "checkpoints" / f"checkpoint-{step}").mkdir(parents=True)
    assert "accepted: checkpoint-10" in problems(f"{resume} checkpoint-7", None)
    assert "resumes from its newest checkpoint, checkpoint-10" in problems(f"{resume} ./models/r/checkpoint-9", None)
    assert "has no effect" in notes("--bf16 --resume_from_checkpoint models/r/checkpoint-10", None)


# --- this machine -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("product", "memory", "name"),
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
        ("An unknown large GPU", 30, "rtx3090-24gb"),
        ("An unknown small GPU", 6, "rtx3060-12gb"),
    ],
)
def test_a_gpu_is_recognized_by_its_product_name(product, memory, name):
    accepted = (name, "rtx4090-24gb", "a5000-24gb") if "unknown" in product else (name,)
    assert job_name(product, memory * GIB) in accepted


def _nvidia_smi(folder, monkeypatch, answer: str) -> None:
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{answer}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)


def test_this_machines_gpu_is_used_unless_it_is_hidden(tmp_path, monkeypatch):
    _nvidia_smi(tmp_path, monkeypatch, "echo 'NVIDIA RTX A6000, 49140'")
    assert job("", None).hardware == HardwareSpec(gpu="a6000-48gb")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert job("", None).hardware.gpu == "cpu"


@pytest.mark.parametrize("answer", ["exit 9", "echo 'no devices were found'", "echo"])
def test_a_machine_without_a_working_driver_trains_on_the_cpu(tmp_path, monkeypatch, answer):
    _nvidia_smi(tmp_path, monkeypatch, answer)
    assert first_gpu() is None
    assert job("", None).hardware == HardwareSpec(gpu="cpu")


def test_the_job_has_torchruns_nodes_and_processes(tmp_path, monkeypatch):
    _nvidia_smi(tmp_path, monkeypatch, "echo 'NVIDIA RTX A6000, 49140'")
    monkeypatch.setenv("WORLD_SIZE", "8")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert (this_machine().nodes, this_machine().gpus_per_node) == (2, 4)


def test_the_guides_flags_are_distinguished_from_a_job_name():
    assert is_guide_command(["--run_name", "x"])
    assert is_guide_command(["--bf16", "--run-name=x"])
    assert not is_guide_command(["tinyhome", "--set", "method.epochs=2"])
    assert not is_guide_command(["--help"])
    assert re.search(r"--lora_modules_to_save +method.lora.modules_to_save", flags_help())


@pytest.mark.parametrize(
    ("flag", "meant"), [("output_dir", "run_name"), ("num_train_epochs", "epochs"), ("Bf16x", "bf16")]
)
def test_another_programs_flag_names_the_guides(flag, meant):
    with pytest.raises(BadInput, match=f"no such flag; did you mean --{meant}?"):
        read_flags([f"--{flag}", "3"])


def test_the_guides_flags_with_a_job_say_how_the_job_takes_them():
    with pytest.raises(BadInput) as raised:
        is_guide_command(["tinyhome", "--learning_rate", "1e-5", "--bf16", "--use_lora"])
    (line,) = raised.value.problems
    assert line.startswith("--learning_rate, --bf16, --use_lora: the training guide's, which go without a job")
    assert "tinyhome --set method.learning_rate=1e-5 --set model.dtype=bf16 --set 'method.lora={}'" in line


def test_the_guides_flags_without_a_run_name_say_whose_they_are(capsys):
    assert main(["train", "--base_model", "b/m", "--learning_rate", "1e-5"]) == 2
    *missing, last = capsys.readouterr().err.splitlines()
    assert missing == [f"--{name}: missing, and has no default" for name in ("run_name", "train_dataset")]
    assert last.startswith(
        "--base_model, --learning_rate: flags of the training guide's train.py, which needs --run_name"
    )
    assert last.endswith("hatrain train JOB --set model.base=b/m --set method.learning_rate=1e-5")
