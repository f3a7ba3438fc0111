"""`hatrain import` of what people paste: prompts, comments, redirections, pipes, wrappers, variables."""

import pytest

from hatrain.contract.load import read_text, validate
from hatrain.contract.spec import JobSpec
from hatrain.errors import BadInput
from hatrain.guide.command import translate

FLAGS = "--run_name r --base_model b/m --train_dataset t.jsonl --bf16"
COMMAND = f"python3 train.py {FLAGS}"


@pytest.fixture(autouse=True)
def _a_machine_without_a_gpu(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.chdir(tmp_path)


def imported(text: str) -> tuple[JobSpec, list[str]]:
    translation = translate([text])
    return validate(JobSpec, read_text(translation.text, "stdout")), translation.notes


@pytest.mark.parametrize(
    ("text", "left_out"),
    [
        (f"{COMMAND} 2>&1 | tee log", "2>&1, | tee log"),
        (f"{COMMAND} |& tee -a log", "|& tee -a log"),
        (f"nohup {COMMAND} > log.txt 2>&1 &", "nohup, > log.txt, 2>&1, &"),
        (f"{COMMAND} < /dev/null &> 'my log'", "< /dev/null, &> 'my log'"),
        (f"cd ~/training && source venv/bin/activate; {COMMAND}", "cd ~/training, source venv/bin/activate"),
        (f"{COMMAND} && python3 evaluate.py r", "python3 evaluate.py r"),
        (f"time sudo -u ada {COMMAND}", "time sudo -u ada"),
        (f"srun -N 1 {COMMAND}", "srun -N 1"),
        (f"mkdir -p out\n{COMMAND}\n", "mkdir -p out"),
    ],
)
def test_what_surrounds_a_pasted_command_is_left_out_and_named(text, left_out):
    job, notes = imported(text)
    assert (job.name, job.model.base, job.data.train[0].path) == ("r", "b/m", "t.jsonl")
    assert f"left out of the job: {left_out}" in notes


@pytest.mark.parametrize(
    "text",
    [
        f"{COMMAND} # the first try, with 100% of it",
        f"# full fine-tuning\n{COMMAND}",
        f"$ {COMMAND}",
        f"(venv) ada@box:~/x$ {COMMAND}",
        f"```console\n{COMMAND}\n```",
        "$ python3 train.py --run_name r \\\n> --base_model b/m \\\n>   --train_dataset t.jsonl --bf16",
        "python3 train.py --run_name r \\\n  # --epochs 7 \\\n  --base_model b/m \\\n  --train_dataset t.jsonl --bf16",
        f"python3 train.py \\  \n {FLAGS}",
        f"/usr/bin/env python3 ./train.py {FLAGS}",
    ],
)
def test_prompts_comments_fences_and_continuations_are_no_part_of_a_command(text):
    job, notes = imported(text)
    assert (job.name, job.method.epochs, job.data.train[0].path) == ("r", 1, "t.jsonl")
    assert not any("left out" in note for note in notes)


@pytest.mark.parametrize("separator", ["; ", " && ", "\n"])
def test_exported_variables_are_those_of_the_command(separator):
    job, notes = imported(f"export CUDA_VISIBLE_DEVICES=0,1{separator}accelerate launch train.py {FLAGS}")
    assert job.hardware.gpus_per_node == 2
    assert any(note.startswith("CUDA_VISIBLE_DEVICES: not part of a job") for note in notes)


def test_a_variable_that_the_text_sets_is_put_in():
    job, notes = imported(f"NAME=small; python3 train.py {FLAGS.replace('r ', '$NAME-${NAME} ', 1)}")
    assert job.name == "small-small"
    assert not any("NAME" in note for note in notes)


@pytest.mark.parametrize("value", ["$NAME", "${NAME}", "$(date +%F)", "`date`"])
def test_a_value_that_only_the_shell_knows_is_refused(value):
    with pytest.raises(BadInput) as raised:
        imported(f"python3 train.py {FLAGS.replace('r ', f'{value} ', 1)}")
    assert raised.value.problems == (f"{value}: only the shell knows what {value} stands for; write its value",)


def test_a_dollar_in_single_quotes_is_a_dollar():
    job, _ = imported(COMMAND.replace("t.jsonl", "'t$x.jsonl'"))
    assert job.data.train[0].path == "t$x.jsonl"


def test_two_commands_are_refused_by_name():
    with pytest.raises(
        BadInput, match=r"found 2 commands: python3 train.py, python3 train.py; accepted: one at a time"
    ):
        imported(f"{COMMAND}\n{COMMAND}")


@pytest.mark.parametrize("ids", ["12,34", "12, 34", "12 34", "'12, 34'", '"12 34"', "[12, 34]", "'[12,34]'"])
def test_ids_may_have_blanks_and_brackets(ids):
    job, _ = imported(f"{COMMAND} --prefix_ids {ids} --suffix_ids 2")
    assert (job.data.prefix_ids, job.data.suffix_ids) == ((12, 34), (2,))


def test_a_secret_in_what_is_left_out_is_not_shown(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_abcdefghijklmnop")
    _, notes = imported(f"huggingface-cli login --token hf_abcdefghijklmnop; {COMMAND}")
    assert "left out of the job: huggingface-cli login --token ***" in notes
