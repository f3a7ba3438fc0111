"""Slurm's clients when they are missing, silent or talk nonsense, pretended by small programs on the PATH. What they
say when all is well is in tests/slurm."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from hatrain.contract.cluster import SlurmCluster
from hatrain.contract.run import RunDirectory
from hatrain.errors import BadInput
from launch import render
from launch.backends import JobState
from launch.backends.slurm import client as module
from launch.backends.slurm.client import SlurmClient
from tests.plans import a_plan

PLACE = SlurmCluster.model_validate({"kind": "slurm", "partition": "gpu"})


@pytest.fixture
def pretend(tmp_path, monkeypatch):
    """Puts programs on an otherwise empty PATH: what each prints, and whatever else it does."""
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def make(**programs: str) -> None:
        for name, body in programs.items():
            (folder / name).write_text(f"#!/bin/bash\nPATH=/usr/bin:/bin\n{body}\n")
            (folder / name).chmod(0o755)

    return make


@pytest.fixture
def client() -> SlurmClient:
    return SlurmClient(PLACE)


def says(text: str) -> str:
    return f"printf '%s\\n' {shlex.quote(text)}"


def complains(text: str, code: int = 1) -> str:
    return f"{says(text)} >&2; exit {code}"


def states(client: SlurmClient, *jobs: str) -> dict[str, JobState]:
    return client.states(dict.fromkeys(jobs, RunDirectory(Path("/runs/x"))))


def submission(client: SlurmClient, folder: Path, parent: str | None = None):
    plan = a_plan(folder, PLACE)
    return client.submission(render.members([plan]), Path(plan.paths.run), parent)


def problem(call, *arguments) -> str:
    with pytest.raises(BadInput) as raised:
        call(*arguments)
    assert len(raised.value.problems) == 1
    assert "\n" not in raised.value.problems[0]
    return raised.value.problems[0]


# --- looking ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "state"),
    [
        ("PENDING|Resources", JobState("queued", "Resources")),
        ("PENDING|None", JobState("queued")),
        ("REQUEUE_HOLD|job requeued in held state", JobState("queued", "job requeued in held state")),
        ("CONFIGURING|None", JobState("running", "CONFIGURING")),
        ("RUNNING|None", JobState("running")),
        ("COMPLETING|None", JobState("running", "COMPLETING")),
        ("SUSPENDED|None", JobState("running", "SUSPENDED")),
        ("COMPLETED|None", JobState("ended", "COMPLETED", 0)),
        ("FAILED|NonZeroExitCode", JobState("ended", "FAILED")),
        ("TIMEOUT|TimeLimit", JobState("ended", "TIMEOUT")),
        ("NODE_FAIL|None", JobState("ended", "NODE_FAIL")),
        ("OUT_OF_MEMORY|OutOfMemory", JobState("ended", "OUT_OF_MEMORY")),
        # A word of a later version: the queue has it, and it has not ended.
        ("POLISHING|None", JobState("running", "POLISHING")),
    ],
)
def test_every_state_is_told_in_our_words_with_slurms_as_the_reason(pretend, client, said, state):
    pretend(squeue=says(f"12|{said}"))
    assert states(client, "12") == {"12": state}


def test_many_jobs_are_one_question_and_those_that_nobody_knows_are_unknown(pretend, client, tmp_path):
    pretend(squeue=f'echo "$*" >> {tmp_path}/asked; echo "12|RUNNING|None"; echo "13_1|PENDING|Priority"')
    told = states(client, "12", "13_1", "14")
    assert told == {
        "12": JobState("running"),
        "13_1": JobState("queued", "Priority"),
        "14": JobState("unknown"),
    }
    (asked,) = (tmp_path / "asked").read_text().splitlines()
    assert "--jobs=12,13_1,14" in asked and "json" not in asked


def test_tasks_of_an_array_that_wait_together_are_told_apart(pretend, client):
    pretend(squeue=says("12_[0-1,5%2]|PENDING|Priority"))
    told = states(client, "12_0", "12_1", "12_4", "12_5")
    assert [told[f"12_{number}"].phase for number in (0, 1, 4, 5)] == [
        "queued",
        "queued",
        "unknown",
        "queued",
    ]


def test_no_jobs_are_no_question(pretend, client):
    pretend()
    assert client.states({}) == {}


def test_what_has_left_the_queue_is_asked_of_the_accounts_with_its_exit_code(pretend, client):
    pretend(
        squeue=complains("slurm_load_jobs error: Invalid job id specified"),
        sacct=says("12|FAILED|78:0\n13|CANCELLED by 1000|0:15\n14|COMPLETED|0:0\n15|TIMEOUT|0:0"),
    )
    assert states(client, "12", "13", "14", "15") == {
        "12": JobState("ended", "FAILED", 78),
        "13": JobState("ended", "CANCELLED by 1000", 143),
        "14": JobState("ended", "COMPLETED", 0),
        # Zero would be a success, which it was not.
        "15": JobState("ended", "TIMEOUT"),
    }


def test_a_cluster_without_accounts_leaves_it_at_what_the_queue_knows(pretend, client):
    pretend(squeue=says("12|FAILED|NonZeroExitCode"), sacct=complains("Slurm accounting storage is disabled"))
    assert states(client, "12", "13") == {"12": JobState("ended", "FAILED"), "13": JobState("unknown")}


def test_accounts_that_do_not_answer_take_nothing_from_what_the_queue_knows(pretend, client):
    pretend(squeue=says("12|RUNNING|None"), sacct=complains("sacct: error: Connection refused"))
    told = states(client, "12", "13")
    assert told == {"12": JobState("running"), "13": JobState("unknown", "sacct: Connection refused")}


@pytest.mark.parametrize(
    "nonsense", ["garbage", "12|RUNNING", "12|running|None", "<html>|502|x", "12|RUNNING|None|more"]
)
def test_nonsense_is_one_clear_line(pretend, client, nonsense):
    pretend(squeue=says(nonsense))
    assert problem(states, client, "12").startswith(f"squeue: answered {nonsense!r}, which is not")


def test_nonsense_of_the_accounts_is_a_reason(pretend, client):
    pretend(squeue="", sacct=says("12|FAILED|oops"))
    assert "where an exit code was asked for" in states(client, "12")["12"].reason


def test_bytes_that_are_no_text_are_nonsense_too(pretend, client):
    pretend(squeue="printf '\\xff\\xfe\\n'")
    assert problem(states, client, "12").startswith("squeue: answered")


def test_a_client_that_is_missing_is_one_clear_line(pretend, client, tmp_path):
    pretend()
    assert problem(states, client, "12").startswith("squeue: not found here")
    assert problem(client.check, submission(client, tmp_path)).startswith("sbatch: not found here")
    assert problem(client.cancel, "12", RunDirectory(tmp_path)).startswith("scancel: not found here")


def test_a_client_that_does_not_answer_is_one_clear_line(pretend, client, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "TIMEOUT_SECONDS", 0.3)
    pretend(squeue="exec sleep 30", sbatch="exec sleep 30")
    assert problem(states, client, "12").startswith("squeue: no answer in 0.3 s")
    # It may have been heard all the same.
    assert "may have happened" in problem(client.start, submission(client, tmp_path))


def test_a_complaint_is_told_without_the_clients_own_name_before_each_line(pretend, client, tmp_path):
    pretend(
        sbatch=complains("sbatch: error: Memory is bad\nsbatch: error: Batch job submission failed: No\n\n")
    )
    assert (
        problem(client.start, submission(client, tmp_path))
        == "sbatch: Memory is bad; Batch job submission failed: No"
    )


def test_a_failure_without_a_word_tells_its_exit_code(pretend, client):
    pretend(squeue="exit 3")
    assert problem(states, client, "12") == "squeue: exit code 3"


def test_a_persons_own_settings_of_the_clients_change_no_answer(pretend, client, monkeypatch):
    monkeypatch.setenv("SQUEUE_STATES", "CD")
    monkeypatch.setenv("SACCT_FORMAT", "JobID")
    pretend(squeue='[[ -z ${SQUEUE_STATES-} && -z ${SACCT_FORMAT-} ]] && echo "12|RUNNING|None"')
    assert states(client, "12")["12"] == JobState("running")


# --- submitting ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("said", "job"), [("1234", "1234"), ("1234;house", "1234")])
def test_the_id_of_a_job_is_read_of_one_cluster_or_several(pretend, client, tmp_path, said, job):
    pretend(sbatch=says(said))
    assert client.start(submission(client, tmp_path)) == [job]


@pytest.mark.parametrize("said", ["", "Submitted batch job 1234", "1234 5"])
def test_an_answer_that_is_no_id_is_one_clear_line(pretend, client, tmp_path, said):
    pretend(sbatch=says(said))
    assert "which is no job's id" in problem(client.start, submission(client, tmp_path))


def test_a_parent_is_a_dependency_that_takes_the_job_along_when_it_fails(client, tmp_path):
    sent = submission(client, tmp_path, parent="12_3")
    assert sent.command[:-1] == (
        "sbatch",
        "--parsable",
        "--dependency=afterok:12_3",
        "--kill-on-invalid-dep=yes",
    )


def test_slurm_is_asked_with_the_very_script_before_anything_is_written(pretend, client, tmp_path):
    pretend(sbatch=f'echo "$*" > {tmp_path}/asked; cat > {tmp_path}/script')
    sent = submission(client, tmp_path, parent="12")
    client.check(sent)
    assert (tmp_path / "asked").read_text().split() == [*sent.command[1:-1], "--test-only"]
    assert (tmp_path / "script").read_text() == sent.members[0].files["launch/job.sbatch"]
    assert not sent.folder.exists()


def test_variables_of_another_job_and_of_sbatch_stay_behind_but_what_the_cluster_file_leaves_open(
    pretend, client, tmp_path, monkeypatch
):
    around = {
        "SLURM_JOB_ID": "7",
        "SLURM_CONF": "/etc/s",
        "SBATCH_ACCOUNT": "mine",
        "SBATCH_PARTITION": "other",
    }
    around |= {"SBATCH_TIMELIMIT": "1", "SRUN_DEBUG": "3", "MINE": "kept"}
    for name, value in around.items():
        monkeypatch.setenv(name, value)
    pretend(sbatch=f"env > {tmp_path}/environ; echo 1")
    client.start(submission(client, tmp_path))
    kept = {line.partition("=")[0] for line in (tmp_path / "environ").read_text().splitlines()} & set(around)
    assert kept == {"SLURM_CONF", "SBATCH_ACCOUNT", "MINE"}


# --- the verbs ----------------------------------------------------------------------------------------------


def test_submitting_where_there_is_no_slurm_writes_nothing_and_says_so_in_one_line(tmp_path):
    (tmp_path / "farm.yaml").write_text("kind: slurm\n")
    (tmp_path / "train.jsonl").write_text("{}\n")
    (tmp_path / "x.yaml").write_text(
        "name: x\nmodel: {base: some/base}\ndata: {train: train.jsonl}\nhardware: {gpu: cpu}\n"
    )
    told = subprocess.run(
        [sys.executable, "-m", "hatrain", "submit", "x.yaml", "--cluster", "farm.yaml"],
        cwd=tmp_path,
        env={**os.environ, "PATH": "/nowhere"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    said = [line for line in told.stderr.splitlines() if not line.startswith("note:")]
    assert (told.returncode, told.stdout, len(said)) == (2, "", 1), told.stderr
    assert said[0].startswith("sbatch: not found here")
    assert not (tmp_path / "runs").exists()
