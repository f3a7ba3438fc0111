"""What is rendered for one machine: recorded, clean under shellcheck, and proof against odd values."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from hatrain.contract.load import load
from hatrain.contract.plan import Plan
from hatrain.contract.spec import JobSpec
from launch import planner, run_files, submit
from launch.backends.local import render as local
from tests.golden import matches
from tests.plans import a_cluster, a_job, a_plan

GOLDEN = Path(__file__).parent / "golden" / "local"
NASTY = 'it\'s $HOME; "`id`" \\ é\nEND\nline # x'


@pytest.fixture(scope="module")
def plan():
    return recorded("fsdp")


def recorded(sharding: str) -> Plan:
    """A plan whose paths are the same on every machine."""
    job = a_job(
        name="home-1b",
        data={
            "train": [{"path": "data/a.jsonl"}, {"path": "data/b.jsonl", "weight": 2}],
            "test": "data/test.jsonl",
        },
        method={"learning_rate": 1e-5, "lora": {"rank": 32, "modules": "mlp,attention"}},
        hardware={"gpu": "a6000-48gb", "gpus_per_node": 2, "sharding": sharding},
    )
    place = a_cluster(python="/opt/hatrain/bin/python", environment={"HF_HOME": "/scratch/my cache"})
    return planner.plan(
        job, place, "desk", workdir=Path("/home/ada/house"), runs_root=Path("/home/ada/house/runs")
    )


def shellcheck(script: Path) -> None:
    command = shutil.which("shellcheck") or str(Path(sys.executable).with_name("shellcheck"))
    told = subprocess.run([command, str(script)], capture_output=True, text=True)
    assert told.returncode == 0, told.stdout


@pytest.mark.parametrize(
    "name",
    ["job.yaml", "launch/env.sh", "launch/node.sh", "launch/local.sh", "launch/accelerate.yaml"],
)
def test_files_are_as_recorded(plan, name):
    matches(GOLDEN / name, local.files(plan)[name])


@pytest.mark.parametrize("sharding", ["ddp", "fsdp", "zero3"])
def test_the_stream_is_as_recorded_and_clean_under_shellcheck(tmp_path, sharding):
    text = local.stream(recorded(sharding))
    matches(GOLDEN / f"stream-{sharding}.sh", text)
    (tmp_path / "stream.sh").write_text(text)
    shellcheck(tmp_path / "stream.sh")


def test_a_dry_run_is_as_recorded(plan):
    matches(GOLDEN / "dry-run.txt", submit.preview(submit.of([plan])[0]))


def test_no_file_is_left_unrecorded(plan):
    assert {name for name in local.files(plan) if not (GOLDEN / name).exists()} == set()


@pytest.mark.parametrize("name", ["launch/env.sh", "launch/node.sh", "launch/local.sh"])
def test_scripts_are_clean_under_shellcheck(plan, tmp_path, name):
    script = tmp_path / "script.sh"
    script.write_text(local.files(plan)[name])
    shellcheck(script)


def test_the_resolved_job_reads_back_as_the_same_job(plan, tmp_path):
    (tmp_path / "job.yaml").write_text(run_files.job_yaml(plan))
    assert load(JobSpec, tmp_path / "job.yaml") == plan.job


def test_the_resolved_job_says_numbers_as_numbers_to_any_reader(plan):
    assert yaml.safe_load(run_files.job_yaml(plan))["method"]["learning_rate"] == 1e-5


# --- the scripts at work ------------------------------------------------------------------------------------


def recorder(folder: Path, code: str = "exit 0") -> Path:
    """Return an interpreter that writes down how it was called, in a line of NUL-separated words, and leaves."""
    script = folder / "an interpreter"
    script.write_text(
        f'#!/usr/bin/env bash\nprintf "%s\\0" "$@" >> "$RECORD"\nenv -0 > "$RECORD.env"\n{code}\n'
    )
    script.chmod(0o755)
    return script


def written(folder: Path, plan: Plan) -> Path:
    for name, text in local.files(plan).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "plan.json").write_text(plan.model_dump_json())
    return folder


def environ(tmp_path: Path) -> dict[str, str]:
    text = (tmp_path / "record.env").read_bytes().decode()
    return dict(line.split("=", 1) for line in text.split("\0") if line)


def start(tmp_path, *command, plan_changes=None, **around):
    told = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "RECORD": str(tmp_path / "record"), **around}
    return subprocess.run(command, env=told, capture_output=True, text=True, timeout=60)


def test_node_sh_becomes_entry_with_the_run_and_the_environment_whatever_is_in_them(tmp_path):
    folder = tmp_path / "runs; of $HOME 'x'"
    folder.mkdir()
    place = a_cluster(python=str(recorder(tmp_path)), environment={"ODD": NASTY, "EMPTY": ""})
    run = written(folder, a_plan(tmp_path, place))
    told = start(tmp_path, "bash", str(run / "launch/node.sh"), str(run))
    assert told.returncode == 0, told.stderr
    assert (tmp_path / "record").read_text().split("\0")[:-1] == ["-m", "hatrain.entry", str(run)]
    assert environ(tmp_path)["ODD"] == NASTY
    assert environ(tmp_path)["EMPTY"] == ""


# --- secrets ------------------------------------------------------------------------------------------------

VALUE = "hf_it's $HOME; `id` \\ é"


def with_a_secret(tmp_path: Path, mode: int, file: str = "~/the token"):
    """Start a run whose cluster names a secret in a file of some mode; None has no such file."""
    if mode:
        (tmp_path / "the token").write_text(VALUE + "\n")
        (tmp_path / "the token").chmod(mode)
    place = a_cluster(python=str(recorder(tmp_path)), secrets={"HF_TOKEN": {"file": file}})
    run = written(tmp_path / "run", a_plan(tmp_path, place))
    return run, start(tmp_path, "bash", str(run / "launch/node.sh"), str(run))


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_secret_is_read_when_a_node_starts_and_written_nowhere(tmp_path, mode):
    run, told = with_a_secret(tmp_path, mode)
    assert told.returncode == 0, told.stderr
    assert environ(tmp_path)["HF_TOKEN"] == VALUE
    assert VALUE not in told.stdout + told.stderr
    assert not [path for path in run.rglob("*") if path.is_file() and "hf_" in path.read_text()]
    assert (run / "launch/env.sh").read_text().count("read_secret HF_TOKEN \"$HOME\"/'the token'") == 1


@pytest.mark.parametrize(
    ("mode", "told"),
    [
        (0o644, "has mode 644, so that others may read it; run: chmod 600"),
        (0o660, "has mode 660"),
        (0, "cannot be read"),
    ],
)
def test_a_secret_that_others_may_read_or_that_is_not_there_is_fatal(tmp_path, mode, told):
    _, left = with_a_secret(tmp_path, mode)
    assert left.returncode == 78
    assert "secrets.HF_TOKEN" in left.stderr
    assert told in left.stderr
    assert not (tmp_path / "record").exists()


def test_the_reading_of_secrets_is_clean_under_shellcheck(tmp_path):
    run, _ = with_a_secret(tmp_path, 0o600)
    shellcheck(run / "launch/env.sh")


# --- several nodes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("nodes", "around", "rank"),
    [
        (1, {}, "0"),
        (1, {"SLURM_NODEID": "3", "JOB_COMPLETION_INDEX": "2"}, "0"),
        (2, {"SLURM_NODEID": "1"}, "1"),
        (2, {"JOB_COMPLETION_INDEX": "1"}, "1"),
        (2, {}, "0"),
    ],
)
def test_node_sh_finds_its_rank_only_where_there_are_several_nodes(tmp_path, nodes, around, rank):
    plan = a_plan(tmp_path, a_cluster(python=str(recorder(tmp_path)))).model_copy(update={"nodes": nodes})
    run = written(tmp_path / "run", plan)
    around = {"MASTER_ADDR": "node-0", "MASTER_PORT": "29511", **around}
    told = start(tmp_path, "bash", str(run / "launch/node.sh"), str(run), **around)
    assert told.returncode == 0, told.stderr
    assert environ(tmp_path)["HATRAIN_NODE_RANK"] == rank


def test_node_sh_refuses_several_nodes_that_have_nowhere_to_meet(tmp_path):
    plan = a_plan(tmp_path, a_cluster(python=str(recorder(tmp_path)))).model_copy(update={"nodes": 2})
    run = written(tmp_path / "run", plan)
    told = start(tmp_path, "bash", str(run / "launch/node.sh"), str(run))
    assert told.returncode == 78
    assert "the launcher names the first node" in told.stderr
    assert not (tmp_path / "record").exists()


def test_the_stream_carries_everything_and_leaves_with_the_runs_own_code(tmp_path):
    python = recorder(tmp_path, 'cp -r "$(dirname "$3")" "$HOME/carried"; exit 75')
    plan = a_plan(tmp_path, a_cluster(python=str(python), environment={"ODD": NASTY}))
    told = subprocess.run(
        ["bash"],
        input=local.stream(plan),
        env={
            "PATH": "/usr/bin:/bin",
            "HOME": str(tmp_path),
            "RECORD": str(tmp_path / "record"),
            "TMPDIR": str(tmp_path),
        },
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert told.returncode == 75, told.stderr
    carried = tmp_path / "carried"
    assert Plan.model_validate_json((carried / "plan.json").read_text()) == plan
    for name, text in local.files(plan).items():
        assert name == "launch/local.sh" or (carried / name).read_text() == text


@pytest.mark.parametrize("code", [0, 75, 78, 130])
def test_local_sh_leaves_with_every_code_that_is_no_fault(tmp_path, code):
    run = written(
        tmp_path / "run", a_plan(tmp_path, a_cluster(python=str(recorder(tmp_path, f"exit {code}"))))
    )
    assert start(tmp_path, "bash", str(run / "launch/local.sh"), str(run)).returncode == code
    assert (tmp_path / "record").read_text().count("hatrain.entry") == 1


def test_local_sh_starts_again_after_a_fault_until_entry_ends_it(tmp_path):
    attempts = 'mkdir -p "$3/attempts"; n=$(ls "$3/attempts" | wc -l); mkdir "$3/attempts/$n"; '
    python = recorder(tmp_path, attempts + "(( n < 3 )) && exit 137; exit 78")
    run = written(tmp_path / "run", a_plan(tmp_path, a_cluster(python=str(python))))
    told = start(tmp_path, "bash", str(run / "launch/local.sh"), str(run))
    assert told.returncode == 78
    assert (tmp_path / "record").read_text().count("hatrain.entry") == 4
    assert told.stderr.count("starting again") == 3


def test_local_sh_does_not_repeat_what_never_began(tmp_path):
    run = written(tmp_path / "run", a_plan(tmp_path, a_cluster(python="/no/such/python")))
    told = start(tmp_path, "bash", str(run / "launch/local.sh"), str(run))
    assert told.returncode == 127
    assert "could not begin" in told.stderr
