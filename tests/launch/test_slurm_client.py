"""Slurm's programs when they are missing, silent or print nonsense, with stand-ins on the PATH. tests/slurm uses
the real ones."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from hatrain.contract.cluster import SlurmCluster
from hatrain.contract.run import RunDirectory
from hatrain.errors import BadInput
from launch import submit
from launch.backends.protocol import JobState
from launch.backends.slurm import programs as module
from launch.backends.slurm.client import SlurmClient
from tests.plans import a_plan

TIMEOUT = "ended at its time limit before it had left; raise signal_lead in the cluster file"
MEMORY = "the job needed more memory than it had; raise memory in the cluster file (the partition's default now)"
CLUSTER = SlurmCluster.model_validate({"kind": "slurm", "partition": "gpu"})


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """A function that puts programs, given as bash, on an otherwise empty PATH."""
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def make(**scripts: str) -> None:
        for name, body in scripts.items():
            (folder / name).write_text(f"#!/bin/bash\nPATH=/usr/bin:/bin\n{body}\n")
            (folder / name).chmod(0o755)

    return make


@pytest.fixture
def client() -> SlurmClient:
    return SlurmClient(CLUSTER)


def prints(text: str) -> str:
    return f"printf '%s\\n' {shlex.quote(text)}"


def fails(text: str, code: int = 1) -> str:
    return f"{prints(text)} >&2; exit {code}"


def states(client: SlurmClient, *jobs: str) -> dict[str, JobState]:
    return client.states(dict.fromkeys(jobs, RunDirectory(Path("/runs/x"))))


def submission(client: SlurmClient, folder: Path, parent: str | None = None):
    plan = a_plan(folder, CLUSTER)
    return client.submission(submit.planned_runs([plan]), Path(plan.paths.run), parent)


def problem(call, *arguments) -> str:
    with pytest.raises(BadInput) as raised:
        call(*arguments)
    assert len(raised.value.problems) == 1
    assert "\n" not in raised.value.problems[0]
    return raised.value.problems[0]


# --- watching -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "state"),
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
        ("TIMEOUT|TimeLimit", JobState("ended", "TIMEOUT", advice=TIMEOUT)),
        ("NODE_FAIL|None", JobState("ended", "NODE_FAIL", advice="a node failed")),
        ("OUT_OF_MEMORY|OutOfMemory", JobState("ended", "OUT_OF_MEMORY", advice=MEMORY)),
        # A state of a later version: the job is in the queue and has not ended.
        ("POLISHING|None", JobState("running", "POLISHING")),
    ],
)
def test_every_state_of_slurm_has_a_phase_and_keeps_slurms_name_as_the_reason(programs, client, line, state):
    programs(squeue=prints(f"12|{line}"))
    assert states(client, "12") == {"12": state}


def test_many_jobs_are_one_query_and_jobs_that_slurm_does_not_know_are_unknown(programs, client, tmp_path):
    programs(squeue=f'echo "$*" >> {tmp_path}/calls; echo "12|RUNNING|None"; echo "13_1|PENDING|Priority"')
    found = states(client, "12", "13_1", "14")
    assert found == {
        "12": JobState("running"),
        "13_1": JobState("queued", "Priority"),
        "14": JobState("unknown"),
    }
    (call,) = (tmp_path / "calls").read_text().splitlines()
    assert "--jobs=12,13_1,14" in call and "json" not in call


def test_pending_tasks_of_an_array_are_expanded(programs, client):
    programs(squeue=prints("12_[0-1,5%2]|PENDING|Priority"))
    found = states(client, "12_0", "12_1", "12_4", "12_5")
    assert [found[f"12_{number}"].phase for number in (0, 1, 4, 5)] == [
        "queued",
        "queued",
        "unknown",
        "queued",
    ]


def test_no_jobs_are_no_query(programs, client):
    programs()
    assert client.states({}) == {}


def test_the_exit_codes_of_ended_jobs_come_from_sacct(programs, client):
    programs(
        squeue=fails("slurm_load_jobs error: Invalid job id specified"),
        sacct=prints("12|FAILED|78:0\n13|CANCELLED by 1000|0:15\n14|COMPLETED|0:0\n15|TIMEOUT|0:0\n16|TIMEOUT|75:0"),
    )
    by_sacct = "exit code {} in sacct, which takes 128 off those above 128"
    assert states(client, "12", "13", "14", "15", "16") == {
        # sacct has 2 for 130 and 127 for 255.
        "12": JobState("ended", f"FAILED: {by_sacct.format(78)}", 78),
        "13": JobState("ended", "CANCELLED by 1000", 143, cancelled=True),
        "14": JobState("ended", "COMPLETED", 0),
        # 0 would mean success.
        "15": JobState("ended", "TIMEOUT", advice=TIMEOUT),
        "16": JobState("ended", f"TIMEOUT: {by_sacct.format(75)}", 75, advice=TIMEOUT),
    }


def test_exit_codes_come_from_squeue_while_it_remembers_them(programs, client):
    """It gives wait statuses: code times 256, or the signal that killed the batch script."""
    ended = "12|FAILED|NonZeroExitCode\n13|FAILED|None\n14|CANCELLED|None\n15|RUNNING|None"
    statuses = "12 65280\n13 9\n14 256\n15 0"
    programs(squeue=f'case "$*" in *exit_code*) {prints(statuses)} ;; *) {prints(ended)} ;; esac')
    assert states(client, "12", "13", "14", "15") == {
        "12": JobState("ended", "FAILED", 255),
        "13": JobState("ended", "FAILED", 137, advice="the batch script itself was killed (signal 9)"),
        "14": JobState("ended", "CANCELLED", cancelled=True),
        "15": JobState("running"),
    }


def test_without_accounting_only_squeue_counts(programs, client):
    programs(squeue=prints("12|FAILED|NonZeroExitCode"), sacct=fails("Slurm accounting storage is disabled"))
    assert states(client, "12", "13") == {"12": JobState("ended", "FAILED"), "13": JobState("unknown")}


def test_if_sacct_fails_the_states_of_squeue_are_kept(programs, client):
    programs(squeue=prints("12|RUNNING|None"), sacct=fails("sacct: error: Connection refused"))
    found = states(client, "12", "13")
    assert found == {"12": JobState("running"), "13": JobState("unknown", "sacct: Connection refused")}


@pytest.mark.parametrize(
    "nonsense", ["garbage", "12|RUNNING", "12|running|None", "<html>|502|x", "12|RUNNING|None|more"]
)
def test_unexpected_output_of_squeue_is_one_line(programs, client, nonsense):
    programs(squeue=prints(nonsense))
    assert problem(states, client, "12").startswith(f"squeue: printed {nonsense!r}, which is not")


def test_unexpected_output_of_sacct_is_the_reason(programs, client):
    programs(squeue="", sacct=prints("12|FAILED|oops"))
    assert "where an exit code was expected" in states(client, "12")["12"].reason


def test_bytes_that_are_no_text_are_one_line(programs, client):
    programs(squeue="printf '\\xff\\xfe\\n'")
    assert problem(states, client, "12").startswith("squeue: printed")


def test_a_missing_program_is_one_line(programs, client, tmp_path):
    programs()
    assert problem(states, client, "12").startswith("squeue: not found on this machine")
    assert problem(client.check, submission(client, tmp_path)).startswith("sbatch: not found on this machine")
    assert problem(client.cancel, "12", RunDirectory(tmp_path)).startswith("scancel: not found on this machine")


def test_a_program_that_does_not_answer_is_one_line(programs, client, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "TIMEOUT_SECONDS", 0.3)
    programs(squeue="exec sleep 30", sbatch="exec sleep 30")
    assert problem(states, client, "12").startswith("squeue: no answer in 0.3 s")
    assert "may have been submitted" in problem(client.start, submission(client, tmp_path))


def test_an_error_is_one_line_without_the_name_of_the_program_before_each_part(programs, client, tmp_path):
    programs(sbatch=fails("sbatch: error: Memory is bad\nsbatch: error: Batch job submission failed: No\n\n"))
    assert (
        problem(client.start, submission(client, tmp_path)) == "sbatch: Memory is bad; Batch job submission failed: No"
    )


def test_a_failure_without_a_message_has_its_exit_code(programs, client):
    programs(squeue="exit 3")
    assert problem(states, client, "12") == "squeue: exit code 3"


def test_a_users_settings_of_the_programs_do_not_change_the_output(programs, client, monkeypatch):
    monkeypatch.setenv("SQUEUE_STATES", "CD")
    monkeypatch.setenv("SACCT_FORMAT", "JobID")
    programs(squeue='[[ -z ${SQUEUE_STATES-} && -z ${SACCT_FORMAT-} ]] && echo "12|RUNNING|None"')
    assert states(client, "12")["12"] == JobState("running")


# --- submitting ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("output", "job"), [("1234", "1234"), ("1234;garden", "1234")])
def test_the_job_id_is_read_with_one_cluster_or_several(programs, client, tmp_path, output, job):
    programs(sbatch=prints(output))
    assert client.start(submission(client, tmp_path)) == [job]


@pytest.mark.parametrize("output", ["", "Submitted batch job 1234", "1234 5"])
def test_output_that_is_no_job_id_is_one_line(programs, client, tmp_path, output):
    programs(sbatch=prints(output))
    assert "which is no job id" in problem(client.start, submission(client, tmp_path))


def test_a_parent_becomes_a_dependency_that_cancels_the_job_if_it_fails(client, tmp_path):
    sent = submission(client, tmp_path, parent="12_3")
    assert sent.command[:-1] == (
        "sbatch",
        "--parsable",
        "--dependency=afterok:12_3",
        "--kill-on-invalid-dep=yes",
    )


def test_slurm_checks_the_script_before_anything_is_written(programs, client, tmp_path):
    programs(sbatch=f'echo "$*" > {tmp_path}/calls; cat > {tmp_path}/script', squeue="")
    sent = submission(client, tmp_path, parent="12")
    client.check(sent)
    assert (tmp_path / "calls").read_text().split() == [*sent.command[1:-1], "--test-only"]
    assert (tmp_path / "script").read_text() == sent.runs[0].files["launch/job.sbatch"]
    assert not sent.folder.exists()


def test_a_site_that_does_not_queue_jobs_again_is_named_before_the_submission(programs, client, tmp_path):
    partition = "PartitionName=gpu PreemptMode=CANCEL"
    scontrol = f"case $2 in config) echo 'JobRequeue      = 0' ;; *) echo '{partition}' ;; esac"
    programs(sbatch="", squeue="", scontrol=scontrol)
    notes = client.check(submission(client, tmp_path))
    assert ["JobRequeue=0" in notes[0], "PreemptMode=CANCEL" in notes[1]] == [True, True]


def test_a_job_of_this_name_that_no_record_has_is_named(programs, client, tmp_path):
    sent = submission(client, tmp_path)
    plan = sent.runs[0].plan
    programs(sbatch="", scontrol="", squeue=prints(f"77|PENDING|{plan.paths.workdir}"))
    assert "Slurm has job 77 (PENDING)" in problem(client.check, sent)
    programs(squeue=prints(f"77|PENDING|{plan.paths.workdir}/elsewhere\n78|COMPLETING|{plan.paths.workdir}"))
    assert client.check(sent) == []


def test_variables_of_slurm_are_dropped_except_those_that_the_cluster_file_leaves_open(
    programs, client, tmp_path, monkeypatch
):
    variables = {
        "SLURM_JOB_ID": "7",
        "SLURM_CONF": "/etc/s",
        "SBATCH_ACCOUNT": "mine",
        "SBATCH_EXPORT": "NONE",
        "SBATCH_PARTITION": "other",
    }
    variables |= {"SBATCH_TIMELIMIT": "1", "SRUN_DEBUG": "3", "MINE": "kept"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    programs(sbatch=f"env > {tmp_path}/environ; echo 1")
    client.start(submission(client, tmp_path))
    kept = {line.partition("=")[0] for line in (tmp_path / "environ").read_text().splitlines()} & set(variables)
    assert kept == {"SLURM_CONF", "SBATCH_ACCOUNT", "SBATCH_EXPORT", "MINE"}


# --- the verbs ----------------------------------------------------------------------------------------------


def test_submitting_without_slurm_writes_nothing_and_fails_with_one_line(tmp_path):
    (tmp_path / "cluster.yaml").write_text("kind: slurm\n")
    (tmp_path / "train.jsonl").write_text("{}\n")
    (tmp_path / "x.yaml").write_text(
        "name: x\nmodel: {base: some/base}\ndata: {train: train.jsonl}\nhardware: {gpu: cpu}\n"
    )
    result = subprocess.run(
        [sys.executable, "-m", "hatrain", "submit", "x.yaml", "--cluster", "cluster.yaml"],
        cwd=tmp_path,
        env={**os.environ, "PATH": "/nowhere"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    errors = [line for line in result.stderr.splitlines() if not line.startswith("note:")]
    assert (result.returncode, result.stdout, len(errors)) == (2, "", 1), result.stderr
    assert errors[0].startswith("sbatch: not found on this machine")
    assert not (tmp_path / "runs").exists()
