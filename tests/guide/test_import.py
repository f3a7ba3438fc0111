"""`hatrain import`: every command of the guide gives the job that the repository has for it."""

import json
import re
import shlex
from pathlib import Path

import pytest

from hatrain.cli import main
from hatrain.contract.load import load_job, read_text, validate
from hatrain.contract.spec import JobSpec
from hatrain.errors import BadInput
from hatrain.guide.command import ASSUMED_GPU, Translation, translate
from tests.guide.commands import EARLIER, FSDP_CONFIG, IDS, OTHER, TRAIN

REPOSITORY = Path(__file__).parents[2]
TRAIN_FLAGS = "--run_name r --base_model b/m --train_dataset t.jsonl --bf16"


@pytest.fixture(autouse=True)
def _a_machine_without_a_gpu(tmp_path, monkeypatch):
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.chdir(tmp_path)


def pasted(command: str) -> list[str]:
    """Split a command as a shell does."""
    return shlex.split(command.replace("\\\n", " "))


def job_of(translation: Translation) -> JobSpec:
    return validate(JobSpec, read_text(translation.text, "stdout"))


def without_additions(job: JobSpec) -> dict:
    """Drop what a command cannot express: the GPU, and the chat template of a base without one."""
    return job.with_dtype().model_dump(exclude={"hardware": {"gpu"}, "model": {"chat_template"}})


@pytest.mark.parametrize("name", TRAIN)
def test_each_command_of_the_guide_gives_the_job_of_its_name(name):
    imported = job_of(translate(pasted(TRAIN[name])))
    assert without_additions(imported) == without_additions(load_job(str(REPOSITORY / "jobs" / f"{name}.yaml")))
    assert imported.hardware.gpu == ASSUMED_GPU


@pytest.mark.parametrize("name", TRAIN)
def test_a_command_in_one_quoted_argument_gives_the_same_job(name):
    assert job_of(translate([TRAIN[name]])) == job_of(translate(pasted(TRAIN[name])))


@pytest.mark.parametrize("name", EARLIER)
def test_commands_of_earlier_editions_are_accepted(name):
    job = job_of(translate(pasted(EARLIER[name])))
    assert job.name == name
    assert job.hardware.sharding == ("fsdp" if name == "home-3b" else "auto")


@pytest.mark.parametrize("family", IDS)
def test_published_ids_are_written_to_the_file(family):
    flags, prefix, suffix = IDS[family]
    job = job_of(translate(pasted(f"python3 train.py {TRAIN_FLAGS} {flags}")))
    assert (len(job.data.prefix_ids), len(job.data.suffix_ids)) == (prefix, suffix)


@pytest.mark.parametrize("command", OTHER)
def test_the_other_scripts_become_hatrain_commands(command):
    assert translate(pasted(command)).text == OTHER[command] + "\n"


def test_the_printed_hatrain_commands_are_accepted():
    import argparse

    from hatrain.cli import data, find_split

    for command in OTHER.values():
        verb, *rest = shlex.split(command)[1:]
        parser = argparse.ArgumentParser(exit_on_error=False)
        {"data": data, "find-split": find_split}[verb].add_arguments(parser)
        parser.parse_args(rest)


# --- the command line -------------------------------------------------------------------------------------


def test_the_file_goes_to_stdout_and_notes_to_stderr(capsys):
    assert main(["import", "--", *pasted(TRAIN["stablehome-3b"])]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("# yaml-language-server: $schema=schema.json\n# From: accelerate launch")
    assert "fsdp_config.yaml: no such file; assumed FSDP on 2 GPUs" in err
    assert f"assumed {ASSUMED_GPU}" in err
    assert "the batch of 64 rows is divided among 2 GPUs" in err


def test_the_two_dashes_may_be_left_out(capsys):
    assert main(["import", *pasted(TRAIN["tinyhome"])]) == 0
    assert "name: tinyhome-rev4" in capsys.readouterr().out


def test_an_invalid_command_is_bad_input(capsys):
    assert main(["import"]) == 2
    assert main(["import", "--", "python3", "train.py", "--run_nam", "x"]) == 2
    assert "--run_nam: no such flag; did you mean --run_name?" in capsys.readouterr().err


def test_the_file_holds_only_what_is_needed():
    text = translate(pasted(f"python3 train.py {TRAIN_FLAGS} --gradient_checkpointing")).text
    assert [line for line in text.splitlines() if not line.startswith("#")] == [
        "name: r",
        "model:",
        "  base: b/m",
        "  dtype: bf16",
        "data:",
        "  train: t.jsonl",
        "method:",
        "  learning_rate: 1e-5",
        "  batch_size: 8",
        "  micro_batch_size: 2",
        "hardware:",
        f"  gpu: {ASSUMED_GPU}",
    ]


@pytest.mark.parametrize("value", ["no", "null", "010", "a: b", "#x", "1e5", "it's", "überall/päth", " x ", "a\nb"])
def test_text_that_yaml_would_convert_is_quoted(value):
    argv = [
        "python3",
        "train.py",
        "--run_name",
        "r",
        "--base_model",
        value,
        "--train_dataset",
        value,
        "--bf16",
    ]
    job = job_of(translate(argv))
    assert (job.model.base, job.data.train[0].path) == (value, value)


# --- how commands are typed ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "front",
    [
        "python train.py",
        "python3 ./train.py",
        "python3.11 -u /home/me/home-llm/train.py",
        "./train.py",
        "$ python3 train.py",
        "CUDA_VISIBLE_DEVICES=0 python3 train.py",
        "env TOKENIZERS_PARALLELISM=false python3 train.py",
        ".venv/bin/python train.py",
    ],
)
def test_one_process_is_one_gpu_however_it_is_started(front):
    job = job_of(translate(pasted(f"{front} {TRAIN_FLAGS}")))
    assert (job.hardware.nodes, job.hardware.gpus_per_node, job.hardware.sharding) == (1, 1, "auto")


def test_variables_before_a_command_are_named_and_their_values_never_printed(capsys):
    assert main(["import", "--", "HF_TOKEN=hf_verysecret", *pasted(f"python3 train.py {TRAIN_FLAGS}")]) == 0
    out, err = capsys.readouterr()
    assert "HF_TOKEN: not part of a job; set them under environment or secrets of a cluster file" in err
    assert "hf_verysecret" not in out + err


def test_a_space_after_a_line_continuation_is_accepted():
    broken = TRAIN["tinyhome"].replace("\\\n", "\\ \n")
    assert job_of(translate([broken])) == job_of(translate(pasted(TRAIN["tinyhome"])))
    assert job_of(translate(shlex.split(broken))) == job_of(translate(pasted(TRAIN["tinyhome"])))


def test_quoted_values_keep_their_spaces():
    job = job_of(translate(["python3 train.py --bf16 --run_name 'r' --base_model \"my models/b\" --train_dataset t"]))
    assert job.model.base == "my models/b"


def test_the_comment_of_the_file_holds_the_same_command():
    argv = [
        "python3",
        "train.py",
        "--run_name",
        "r",
        "--base_model",
        "b " * 80,
        "--train_dataset",
        "t",
        "--bf16",
    ]
    comment = [line[2:] for line in translate(argv).text.splitlines()[1:] if line.startswith("#")]
    assert shlex.split("\n".join(comment).removeprefix("From: ").replace("\\\n", " ")) == argv


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("python3 trian.py --bf16", "trian.py: not a script of the guide; accepted: train.py"),
        ("python3", "no script"),
        ("accelerate launch --config_file", "found nothing; accepted: a value"),
        ("accelerate launch --num_proceses 2 train.py", "did you mean --num_processes?"),
        ("torchrun --nproc 2 train.py", "no such option"),
        ("python3 find_split.py a b", "accepted: one model"),
        ("python3 generate_home_assistant_data.py --tran", "--tran: no such flag; did you mean --train?"),
        ("python3 generate_home_assistant_data.py --train --language germn", "did you mean german?"),
        ("python3 generate_home_assistant_data.py --merge alpaca", "list both files under data.train"),
    ],
)
def test_other_commands_are_refused(command, expected):
    with pytest.raises(BadInput, match=re.escape(expected)):
        translate(pasted(command))


def test_an_open_quote_is_refused():
    with pytest.raises(BadInput, match="no closing quotation"):
        translate(["python3 train.py --run_name 'r"])


# --- launchers ----------------------------------------------------------------------------------------------


def launched(front: str) -> tuple[str, str]:
    """Return `NODESxGPUS SHARDING`, and the notes."""
    translation = translate(pasted(f"{front} train.py {TRAIN_FLAGS} --batch_size 64"))
    hardware = job_of(translation).hardware
    processes = f"{hardware.nodes}x{hardware.gpus_per_node} {hardware.sharding}"
    return processes, "\n".join(translation.notes)


def test_an_existing_configuration_is_read():
    Path("fsdp_config.yaml").write_text(FSDP_CONFIG.format(processes=4))
    processes, notes = launched("accelerate launch --config_file fsdp_config.yaml")
    assert processes == "1x4 fsdp"
    assert "assumed FSDP" not in notes
    assert launched("accelerate launch --config-file=fsdp_config.yaml --num_processes 8")[0] == "1x8 fsdp"


@pytest.mark.parametrize(
    ("config", "processes"),
    [
        ("distributed_type: 'NO'", "1x1 auto"),
        ("distributed_type: MULTI_GPU\nnum_processes: 4", "1x4 ddp"),
        ("distributed_type: MULTI_GPU\nnum_processes: 8\nnum_machines: 2", "2x4 ddp"),
        ("distributed_type: FSDP\nnum_processes: 2\nfsdp_config: {fsdp_sharding_strategy: 3}", "1x2 ddp"),
        ("distributed_type: DEEPSPEED\nnum_processes: 2\ndeepspeed_config: {zero_stage: 3}", "1x2 zero3"),
        ("distributed_type: DEEPSPEED\nnum_processes: 2", "1x2 zero2"),
        (
            "distributed_type: DEEPSPEED\nnum_processes: 2\n"
            "deepspeed_config: {deepspeed_config_file: ds.json, zero3_init_flag: true}",
            "1x2 zero1",
        ),
    ],
)
def test_each_distributed_type_has_its_sharding(config, processes):
    Path("ds.json").write_text(json.dumps({"zero_optimization": {"stage": 1}}))
    Path("config.yaml").write_text(config)
    assert launched("accelerate launch --config_file config.yaml")[0] == processes


@pytest.mark.parametrize(
    ("config", "deepspeed", "offload", "note"),
    [
        ("{zero_stage: 2, offload_optimizer_device: cpu}", {}, "optimizer", ""),
        ("{zero_stage: 3, offload_optimizer_device: cpu, offload_param_device: cpu}", {}, "all", ""),
        ("{zero_stage: 3, offload_param_device: nvme}", {}, "all", "nvme becomes CPU memory"),
        ("{zero_stage: 2, offload_optimizer_device: none}", {}, "none", ""),
        (
            "{deepspeed_config_file: ds.json}",
            {"stage": 2, "offload_optimizer": {"device": "cpu"}},
            "optimizer",
            "",
        ),
        ("{deepspeed_config_file: ds.json}", {"stage": 2}, "none", ""),
    ],
)
def test_offload_of_accelerate_or_deepspeed_is_translated(config, deepspeed, offload, note):
    Path("ds.json").write_text(json.dumps({"zero_optimization": deepspeed}))
    Path("config.yaml").write_text(f"distributed_type: DEEPSPEED\nnum_processes: 2\ndeepspeed_config: {config}")
    translation = translate(pasted(f"accelerate launch --config_file config.yaml train.py {TRAIN_FLAGS}"))
    assert job_of(translation).hardware.offload == offload
    assert note in "\n".join(translation.notes)


@pytest.mark.parametrize(
    ("front", "processes"),
    [
        ("accelerate launch --multi_gpu --num_processes 4", "1x4 ddp"),
        ("accelerate launch --num_processes 4 --num_machines 2 --machine_rank 0", "2x2 ddp"),
        ("accelerate launch --num_processes 1", "1x1 auto"),
        ("accelerate launch --use_fsdp --num_processes 2", "1x2 fsdp"),
        ("accelerate launch --use_deepspeed --zero_stage 3 --num_processes 2", "1x2 zero3"),
        ("accelerate launch --multi_gpu --gpu_ids 0,1,2", "1x3 ddp"),
        ("CUDA_VISIBLE_DEVICES=0,1 accelerate launch --multi_gpu", "1x2 ddp"),
        ("python3 -m accelerate.commands.launch --num_processes 2", "1x2 ddp"),
        ("torchrun --nproc_per_node 2", "1x2 auto"),
        ("torchrun --nnodes=2 --nproc-per-node=4 --standalone --master_port 29500", "2x4 auto"),
        ("python -m torch.distributed.run --nproc-per-node 2", "1x2 auto"),
        ("CUDA_VISIBLE_DEVICES=0,1 torchrun --nproc-per-node gpu", "1x2 auto"),
    ],
)
def test_every_launcher_has_its_processes(front, processes):
    assert launched(front)[0] == processes


def test_accelerates_default_configuration_is_read_if_none_is_named():
    assert launched("accelerate launch")[0] == "1x2 fsdp"
    default = Path.home() / ".cache/huggingface/accelerate/default_config.yaml"
    default.parent.mkdir(parents=True)
    default.write_text("distributed_type: MULTI_GPU\nnum_processes: 3\n")
    processes, notes = launched("accelerate launch")
    assert (processes, "assumed FSDP" in notes) == ("1x3 ddp", False)


def test_training_on_cpus_gives_a_job_for_cpus():
    translation = translate(pasted(f"accelerate launch --cpu --num_processes 2 train.py {TRAIN_FLAGS}"))
    assert job_of(translation).hardware.gpu == "cpu"


def test_ignored_options_of_a_launcher_are_noted():
    assert (
        "--main_process_port: ignored; set by the cluster file"
        in launched("accelerate launch --num_processes 2 --main_process_port 29501")[1]
    )
    Path("config.yaml").write_text("distributed_type: FSDP\nnum_processes: 2\nfsdp_config: {fsdp_offload_params: true}")
    assert "only ZeRO can offload to the CPU" in launched("accelerate launch --config_file config.yaml")[1]


def test_accelerates_mixed_precision_is_used_if_train_py_sets_none():
    command = "accelerate launch --num_processes 2 --mixed_precision bf16 train.py"
    translation = translate(pasted(f"{command} {TRAIN_FLAGS.removesuffix(' --bf16')}"))
    assert job_of(translation).model.dtype == "bf16"
    assert "accelerate's mixed_precision: bf16 is read as --bf16" in translation.notes
    assert "train.py's flags take precedence" in launched("accelerate launch --num_processes 2 --mixed_precision no")[1]


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ("distributed_type: MEGATRON_LM", "config.yaml:1: distributed_type: found 'MEGATRON_LM'"),
        ("distributed_type: FSPD\nnum_processes: 2", "did you mean FSDP?"),
        ("distributed_type: FSDP", "num_processes: missing"),
        ("distributed_type: FSDP\nnum_processes: two", "config.yaml:2: num_processes: found 'two'"),
        ("distributed_type: FSDP\nnum_processes: 3\nnum_machines: 2", "3 processes on 2 machines"),
        ("distributed_type: [", "not YAML"),
        ("- a", "accepted: a mapping of keys"),
        (
            "distributed_type: DEEPSPEED\nnum_processes: 2\ndeepspeed_config: {deepspeed_config_file: no.json}",
            "no.json: no such file",
        ),
        (
            "distributed_type: DEEPSPEED\nnum_processes: 2\ndeepspeed_config: {zero_stage: 4}",
            "accepted: 0 | 1 | 2",
        ),
        (
            "distributed_type: FSDP\nnum_processes: 2\nfsdp_config: {fsdp_sharding_strategy: FULL}",
            "FULL_SHARD",
        ),
    ],
)
def test_an_invalid_configuration_is_refused_by_file_and_line(config, expected):
    Path("config.yaml").write_text(config)
    with pytest.raises(BadInput, match=re.escape(expected)):
        launched("accelerate launch --config_file config.yaml")
