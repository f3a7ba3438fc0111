"""plan, render and schema: what they print, where to, and which modules they do not load."""

import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml

from hatrain.cli import main
from hatrain.cli.plan import table
from hatrain.contract.plan import Plan
from launch import planner
from launch.cluster_files import SHIPPED
from tests import shipped
from tests.golden import matches
from tests.launch.rendering import files, single_file
from tests.plans import a_cluster, a_job, a_plan

GOLDEN = Path(__file__).parent / "golden"
ROOT = Path(__file__).parents[2]


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """A working folder with a job and its rows."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("CLUSTER", "HATRAIN_RUNS"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "train.jsonl").write_text('{"text": "hello"}\n' * 20)
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "kitchen.yaml").write_text(
        "name: kitchen\nmodel:\n  base: some/base\ndata:\n  train: train.jsonl\nhardware:\n  gpu: cpu\n"
    )
    return tmp_path


# --- plan ---------------------------------------------------------------------------------------------------


def test_the_table_of_a_plan_is_as_recorded():
    job = a_job(
        name="big",
        model={"base": "some/base", "quantization": "4bit"},
        method={
            "kind": "dpo",
            "epochs": 2.5,
            "batch_size": 64,
            "lora": {"rank": 64},
            "optimizer": "adamw_8bit",
        },
        hardware={"gpu": "a6000-48gb", "gpus_per_node": 2},
        checkpoints={"save_steps": 50, "save_total_limit": 10},
    )
    workdir = Path("/home/ada/training")
    plan = planner.plan(job, a_cluster(), "workstation", workdir=workdir, runs_root=workdir / "runs")
    matches(GOLDEN / "plan.txt", table(plan) + "\n")


def test_the_table_of_a_plan_has_the_steps_and_the_warm_up(tmp_path):
    plan = a_plan(tmp_path, rows=12345, method__batch_size=64, method__learning_rate_warmup=0.03)
    lines = dict(line.split("  ", 1) for line in table(plan).splitlines())
    assert lines["steps"].strip() == "193 = 193 per epoch (12,345 rows ÷ 64) × 1 epoch; warm-up 6"
    assert lines["ranks"].strip() == "1 = 1 node × 1 process"


def test_plan_json_is_the_plan_that_would_be_written(workspace, capsys):
    assert main(["plan", "kitchen", "--json", "--set", "method.epochs=2"]) == 0
    plan = Plan.model_validate_json(capsys.readouterr().out)
    assert plan.steps.total == 6
    assert plan.paths.run == str(workspace / "runs" / "kitchen")


def test_the_matrix_in_the_documentation_is_the_one_that_is_printed(workspace, capsys):
    assert main(["plan", "--matrix"]) == 0
    assert capsys.readouterr().out in (ROOT / "docs" / "clusters.md").read_text(encoding="utf-8")


def test_plan_without_a_job_says_what_is_accepted(workspace, capsys):
    assert main(["plan"]) == 2
    assert "JOB is missing; accepted: a job file" in capsys.readouterr().err


def test_hatrain_runs_sets_the_folder_of_all_runs(workspace, capsys, monkeypatch):
    monkeypatch.setenv("HATRAIN_RUNS", "elsewhere")
    main(["plan", "kitchen", "--json"])
    assert json.loads(capsys.readouterr().out)["paths"]["run"] == str(workspace / "elsewhere" / "kitchen")


def test_a_missing_input_is_only_noted(workspace, capsys):
    (workspace / "train.jsonl").unlink()
    assert main(["plan", "kitchen"]) == 0
    captured = capsys.readouterr()
    assert "note: not on this machine: data.train: train.jsonl" in captured.err
    assert "note" not in captured.out
    assert "unknown: the training rows are not on this machine, or cannot be counted" in captured.out


def test_a_batch_that_does_not_divide_is_reported_with_file_and_line(workspace, capsys):
    (workspace / "jobs" / "odd.yaml").write_text(
        (workspace / "jobs" / "kitchen.yaml").read_text() + "method:\n  batch_size: 7\n"
    )
    assert main(["plan", "odd"]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("jobs/odd.yaml:9: method.batch_size: found 7, which is not")
    assert captured.out == ""


def test_a_wrong_setting_is_reported_as_it_was_given(workspace, capsys):
    assert main(["plan", "kitchen", "--set", "method.batch_size=7"]) == 2
    assert capsys.readouterr().err.startswith("--set method.batch_size=7: found 7")


def test_the_cluster_comes_from_the_environment_when_none_is_given(workspace, capsys, monkeypatch):
    monkeypatch.setenv("CLUSTER", "nowhere")
    assert main(["plan", "kitchen"]) == 2
    assert "nowhere: no such cluster" in capsys.readouterr().err
    assert main(["plan", "kitchen", "--cluster", "local"]) == 0


# --- render -------------------------------------------------------------------------------------------------


def test_render_prints_the_single_file_and_nothing_else(workspace, capsys):
    assert main(["render", "kitchen"]) == 0
    out = capsys.readouterr().out
    main(["plan", "kitchen", "--json"])
    assert out == single_file(Plan.model_validate_json(capsys.readouterr().out))


def test_render_writes_the_files_and_prints_the_start_command(workspace, capsys):
    assert main(["render", "kitchen", "--out", "rendered"]) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "bash rendered/launch/node.sh rendered/plan.json" in captured.err
    plan = Plan.model_validate_json((workspace / "rendered" / "plan.json").read_text())
    for name, text in files(plan).items():
        assert (workspace / "rendered" / name).read_text() == text
    assert (workspace / "rendered/launch/node.sh").stat().st_mode & 0o111


def test_render_does_not_overwrite_a_file(workspace, capsys):
    (workspace / "rendered").write_text("mine")
    assert main(["render", "kitchen", "--out", "rendered"]) == 2
    assert (workspace / "rendered").read_text() == "mine"


# --- schema -------------------------------------------------------------------------------------------------


def test_the_schema_in_the_repository_is_the_one_that_is_printed(capsys):
    assert main(["schema"]) == 0
    matches(ROOT / "jobs" / "schema.json", capsys.readouterr().out)


def test_the_schema_of_clusters_is_the_one_that_is_printed(capsys):
    assert main(["schema", "--cluster"]) == 0
    matches(SHIPPED / "schema.json", capsys.readouterr().out)


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_cluster_names_its_schema_and_is_what_the_schema_accepts(path):
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# yaml-language-server: $schema=schema.json\n#\n# ")
    jsonschema.validate(yaml.safe_load(text), json.loads((SHIPPED / "schema.json").read_text()))


def test_every_job_in_the_repository_names_its_schema():
    jobs = shipped.JOBS
    unnamed = [
        path.name
        for path in jobs
        if "# yaml-language-server: $schema=schema.json" not in path.read_text(encoding="utf-8").splitlines()
    ]
    assert unnamed == []


# --- imports ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ["plan", "kitchen"],
        ["render", "kitchen"],
        ["schema"],
        ["submit", "kitchen", "--dry-run"],
        ["stop", "kitchen"],
    ],
)
def test_light_verbs_load_neither_torch_nor_transformers(workspace, words):
    script = (
        "import sys\nfrom hatrain.cli import main\n"
        f"main({words!r})\n"
        "print(sorted({'torch', 'transformers', 'numpy', 'datasets'} & set(sys.modules)), file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=600)
    assert result.stderr.splitlines()[-1] == "[]"
