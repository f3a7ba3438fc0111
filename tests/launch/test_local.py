"""Rendering for one machine, and the scripts at work."""

import subprocess
from pathlib import Path

import pytest
import yaml

from hatrain.contract import variables
from hatrain.contract.load import load
from hatrain.contract.plan import Plan
from hatrain.contract.spec import JobSpec
from launch import planner, run_files, submit
from tests.golden import matches
from tests.launch.rendering import files, shellcheck, single_file, write
from tests.plans import a_cluster, a_job, a_plan

GOLDEN = Path(__file__).parent / "golden"
WORKDIR = Path("/home/ada/training")
NASTY = 'it\'s $HOME; "`id`" \\ é\nEND\nline # x'


@pytest.fixture(scope="module")
def plan():
    """A plan whose paths are the same on every machine."""
    job = a_job(
        name="home-1b",
        data={
            "train": [{"path": "data/a.jsonl"}, {"path": "data/b.jsonl", "weight": 2}],
            "test": "data/test.jsonl",
        },
        method={"learning_rate": 1e-5, "lora": {"rank": 32, "modules": "mlp,attention"}},
        hardware={"gpu": "a6000-48gb", "gpus_per_node": 2, "sharding": "fsdp"},
    )
    cluster = a_cluster(python="/opt/hatrain/bin/python", environment={"HF_HOME": "/scratch/my cache"})
    return planner.plan(job, cluster, "workstation", workdir=WORKDIR, runs_root=WORKDIR / "runs")


def test_the_single_file_is_as_recorded(plan):
    matches(GOLDEN / "local.sh", single_file(plan))


def test_every_script_is_clean_under_shellcheck(plan):
    scripts = {name: text for name, text in files(plan).items() if name.endswith(".sh")}
    assert set(scripts) == {"launch/env.sh", "launch/node.sh", "launch/local.sh"}
    shellcheck(*scripts.values(), single_file(plan))


def test_a_dry_run_shows_every_file_and_the_command(plan):
    submission, _ = submit.prepare([plan])
    preview = submit.preview(submission)
    run = WORKDIR / "runs/home-1b"
    for path, text in {**files(plan), "plan.json": run_files.plan_json(plan)}.items():
        assert f"==> {run / path} <==\n{text}" in preview
    assert preview.endswith(f"==> command <==\nbash {run}/launch/local.sh {run}\n")


def test_the_resolved_job_reads_back_as_the_same_job(plan, tmp_path):
    (tmp_path / "job.yaml").write_text(run_files.job_yaml(plan))
    assert load(JobSpec, tmp_path / "job.yaml") == plan.job


def test_numbers_of_the_resolved_job_are_numbers_for_any_yaml_reader(plan):
    assert yaml.safe_load(run_files.job_yaml(plan))["method"]["learning_rate"] == 1e-5


# --- running the scripts ------------------------------------------------------------------------------------


def recorder(folder: Path, code: str = "exit 0") -> Path:
    """An interpreter that records its arguments, separated by NUL, and its environment, and runs `code`."""
    script = folder / "an interpreter"
    script.write_text(f'#!/usr/bin/env bash\nprintf "%s\\0" "$@" >> "$RECORD"\nenv -0 > "$RECORD.env"\n{code}\n')
    script.chmod(0o755)
    return script


def environ(tmp_path: Path) -> dict[str, str]:
    text = (tmp_path / "record.env").read_bytes().decode()
    return dict(line.split("=", 1) for line in text.split("\0") if line)


def start(tmp_path, *command, stdin=None, **environment):
    environment |= {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "RECORD": str(tmp_path / "record")}
    return subprocess.run(command, input=stdin, env=environment, capture_output=True, text=True, timeout=600)


def test_node_sh_starts_the_entry_with_any_run_directory_and_environment(tmp_path):
    folder = tmp_path / "runs; of $HOME 'x'"
    folder.mkdir()
    cluster = a_cluster(python=str(recorder(tmp_path)), environment={"ODD": variables.literal(NASTY), "EMPTY": ""})
    run = write(folder, a_plan(tmp_path, cluster))
    result = start(tmp_path, "bash", str(run / "launch/node.sh"), str(run))
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "record").read_text().split("\0")[:-1] == ["-m", "hatrain.entry", str(run)]
    assert environ(tmp_path)["ODD"] == NASTY
    assert environ(tmp_path)["EMPTY"] == ""


# --- secrets ------------------------------------------------------------------------------------------------

VALUE = "hf_it's $HOME; `id` \\ é"


def run_with_a_secret(tmp_path: Path, mode: int, file: str = "~/the token"):
    """Start a run with a secret in a file of this mode; with mode 0 there is no file."""
    if mode:
        (tmp_path / "the token").write_text(VALUE + "\n")
        (tmp_path / "the token").chmod(mode)
    cluster = a_cluster(python=str(recorder(tmp_path)), secrets={"HF_TOKEN": {"file": file}})
    run = write(tmp_path / "run", a_plan(tmp_path, cluster))
    return run, start(tmp_path, "bash", str(run / "launch/node.sh"), str(run))


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_secret_is_read_when_a_node_starts_and_written_nowhere(tmp_path, mode):
    run, result = run_with_a_secret(tmp_path, mode)
    assert result.returncode == 0, result.stderr
    assert environ(tmp_path)["HF_TOKEN"] == VALUE
    assert VALUE not in result.stdout + result.stderr
    assert not [path for path in run.rglob("*") if path.is_file() and "hf_" in path.read_text()]
    assert (run / "launch/env.sh").read_text().count("read_secret HF_TOKEN \"$HOME\"/'the token'") == 1


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        (0o644, "has mode 644, so others can read it; run: chmod 600"),
        (0o660, "has mode 660"),
        (0, "cannot read"),
    ],
)
def test_a_secret_that_others_can_read_or_that_is_missing_is_fatal(tmp_path, mode, message):
    _, result = run_with_a_secret(tmp_path, mode)
    assert result.returncode == 78
    assert "secrets.HF_TOKEN" in result.stderr
    assert message in result.stderr
    assert not (tmp_path / "record").exists()


def test_a_secret_whose_path_names_a_variable_that_is_not_set_is_fatal_with_its_key(tmp_path):
    _, result = run_with_a_secret(tmp_path, 0o600, file="$NO_SUCH_VARIABLE/the token")
    assert result.returncode == 78
    assert "secrets.HF_TOKEN: $NO_SUCH_VARIABLE is not set on" in result.stderr


def test_env_sh_with_secrets_is_clean_under_shellcheck(tmp_path):
    run, _ = run_with_a_secret(tmp_path, 0o600)
    shellcheck(run / "launch/env.sh")


# --- several nodes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("nodes", "environment", "rank"),
    [
        (1, {}, "0"),
        (1, {"SLURM_NODEID": "3", "JOB_COMPLETION_INDEX": "2"}, "0"),
        (2, {"SLURM_NODEID": "1"}, "1"),
        (2, {"JOB_COMPLETION_INDEX": "1"}, "1"),
        (2, {}, "0"),
    ],
)
def test_node_sh_takes_the_rank_of_the_scheduler_only_with_several_nodes(tmp_path, nodes, environment, rank):
    plan = a_plan(tmp_path, a_cluster(python=str(recorder(tmp_path)))).model_copy(update={"nodes": nodes})
    run = write(tmp_path / "run", plan)
    environment = {"MASTER_ADDR": "node-0", "MASTER_PORT": "29511", **environment}
    result = start(tmp_path, "bash", str(run / "launch/node.sh"), str(run), **environment)
    assert result.returncode == 0, result.stderr
    assert environ(tmp_path)["HATRAIN_NODE_RANK"] == rank


def test_node_sh_refuses_several_nodes_without_a_rendezvous_address(tmp_path):
    plan = a_plan(tmp_path, a_cluster(python=str(recorder(tmp_path)))).model_copy(update={"nodes": 2})
    run = write(tmp_path / "run", plan)
    result = start(tmp_path, "bash", str(run / "launch/node.sh"), str(run))
    assert result.returncode == 78
    assert "set them to the first node" in result.stderr
    assert not (tmp_path / "record").exists()


def test_the_single_file_carries_every_file_and_exits_with_the_code_of_the_run(tmp_path):
    python = recorder(tmp_path, 'cp -r "$(dirname "$3")" "$HOME/carried"; exit 75')
    plan = a_plan(tmp_path, a_cluster(python=str(python), environment={"ODD": NASTY}))
    result = start(tmp_path, "bash", stdin=single_file(plan), TMPDIR=str(tmp_path))
    assert result.returncode == 75, result.stderr
    carried = tmp_path / "carried"
    assert Plan.model_validate_json((carried / "plan.json").read_text()) == plan
    for name, text in files(plan).items():
        assert name == "launch/local.sh" or (carried / name).read_text() == text


@pytest.mark.parametrize("code", [0, 75, 78, 130])
def test_local_sh_exits_with_every_code_that_is_no_fault(tmp_path, code):
    run = write(tmp_path / "run", a_plan(tmp_path, a_cluster(python=str(recorder(tmp_path, f"exit {code}")))))
    assert start(tmp_path, "bash", str(run / "launch/local.sh"), str(run)).returncode == code
    assert (tmp_path / "record").read_text().count("hatrain.entry") == 1


def test_local_sh_restarts_after_a_fault_until_the_entry_gives_up(tmp_path):
    attempts = 'mkdir -p "$3/attempts"; n=$(ls "$3/attempts" | wc -l); mkdir "$3/attempts/$n"; '
    python = recorder(tmp_path, attempts + "(( n < 3 )) && exit 137; exit 78")
    run = write(tmp_path / "run", a_plan(tmp_path, a_cluster(python=str(python))))
    result = start(tmp_path, "bash", str(run / "launch/local.sh"), str(run))
    assert result.returncode == 78
    assert (tmp_path / "record").read_text().count("hatrain.entry") == 4
    assert result.stderr.count("restarting") == 3


def test_local_sh_does_not_restart_if_no_attempt_started(tmp_path):
    run = write(tmp_path / "run", a_plan(tmp_path, a_cluster(python="/no/such/python")))
    result = start(tmp_path, "bash", str(run / "launch/local.sh"), str(run))
    assert result.returncode == 127
    assert "no attempt started" in result.stderr
