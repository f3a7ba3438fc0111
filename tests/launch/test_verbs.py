"""plan, render and schema at the door: what they print, where, and how little they load."""

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
from launch.backends.local import render as local
from launch.cluster_files import SHIPPED
from tests.golden import matches
from tests.plans import a_cluster, a_job, a_plan

GOLDEN = Path(__file__).parent / "golden" / "plan"
ROOT = Path(__file__).parents[2]


@pytest.fixture
def desk(tmp_path, monkeypatch):
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


def test_a_plan_is_printed_as_recorded(tmp_path):
    plan = a_plan(tmp_path, rows=12345, name="home", method__batch_size=64, method__learning_rate_warmup=0.03)
    matches(GOLDEN / "cpu.txt", table(plan).replace(str(tmp_path), "/home/ada/house") + "\n")


def test_a_plan_for_several_gpus_is_printed_as_recorded():
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
    plan = planner.plan(
        job, a_cluster(), "desk", workdir=Path("/home/ada/house"), runs_root=Path("/home/ada/house/runs")
    )
    matches(GOLDEN / "gpus.txt", table(plan) + "\n")


def test_plan_json_is_the_plan_that_would_be_written(desk, capsys):
    assert main(["plan", "kitchen", "--json", "--set", "method.epochs=2"]) == 0
    plan = Plan.model_validate_json(capsys.readouterr().out)
    assert plan.steps.total == 6
    assert plan.paths.run == str(desk / "runs" / "kitchen")


def test_the_matrix_of_strategies_is_printed_as_recorded(desk, capsys):
    assert main(["plan", "--matrix"]) == 0
    matches(GOLDEN / "matrix.txt", capsys.readouterr().out)


def test_a_plan_of_nothing_says_what_it_could_be_of(desk, capsys):
    assert main(["plan"]) == 2
    assert "found no JOB; accepted: a job file" in capsys.readouterr().err


def test_runs_go_where_the_environment_says(desk, capsys, monkeypatch):
    monkeypatch.setenv("HATRAIN_RUNS", "elsewhere")
    main(["plan", "kitchen", "--json"])
    assert json.loads(capsys.readouterr().out)["paths"]["run"] == str(desk / "elsewhere" / "kitchen")


def test_what_is_not_here_is_only_noted(desk, capsys):
    (desk / "train.jsonl").unlink()
    assert main(["plan", "kitchen"]) == 0
    told = capsys.readouterr()
    assert "note: not here: data.train: train.jsonl" in told.err
    assert "note" not in told.out
    assert "not known: the training rows are not here" in told.out


def test_a_batch_that_does_not_divide_is_told_with_file_and_line(desk, capsys):
    (desk / "jobs" / "odd.yaml").write_text(
        (desk / "jobs" / "kitchen.yaml").read_text() + "method:\n  batch_size: 7\n"
    )
    assert main(["plan", "odd"]) == 2
    told = capsys.readouterr()
    assert told.err.startswith("jobs/odd.yaml:9: method.batch_size: found 7, which is not")
    assert told.out == ""


def test_a_setting_that_is_wrong_is_told_as_it_was_given(desk, capsys):
    assert main(["plan", "kitchen", "--set", "method.batch_size=7"]) == 2
    assert capsys.readouterr().err.startswith("--set method.batch_size=7: found 7")


def test_the_cluster_comes_from_the_environment_when_none_is_given(desk, capsys, monkeypatch):
    monkeypatch.setenv("CLUSTER", "nowhere")
    assert main(["plan", "kitchen"]) == 2
    assert "nowhere: no such cluster" in capsys.readouterr().err
    assert main(["plan", "kitchen", "--cluster", "local"]) == 0


# --- render -------------------------------------------------------------------------------------------------


def test_render_prints_one_stream_and_nothing_else(desk, capsys):
    assert main(["render", "kitchen"]) == 0
    out = capsys.readouterr().out
    main(["plan", "kitchen", "--json"])
    assert out == local.stream(Plan.model_validate_json(capsys.readouterr().out))


def test_render_writes_the_files_and_says_how_to_start_them(desk, capsys):
    assert main(["render", "kitchen", "--out", "there"]) == 0
    told = capsys.readouterr()
    assert told.out == ""
    assert "bash there/launch/node.sh there/plan.json" in told.err
    plan = Plan.model_validate_json((desk / "there" / "plan.json").read_text())
    for name, text in local.files(plan).items():
        assert (desk / "there" / name).read_text() == text
    assert (desk / "there/launch/node.sh").stat().st_mode & 0o111


def test_render_does_not_write_over_a_file(desk, capsys):
    (desk / "there").write_text("mine")
    assert main(["render", "kitchen", "--out", "there"]) == 2
    assert (desk / "there").read_text() == "mine"


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
    jobs = sorted((ROOT / "jobs").glob("*.yaml"))
    unnamed = [
        path.name
        for path in jobs
        if "# yaml-language-server: $schema=schema.json" not in path.read_text(encoding="utf-8").splitlines()
    ]
    assert unnamed == []


# --- lightness ----------------------------------------------------------------------------------------------


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
def test_light_verbs_load_neither_torch_nor_transformers(desk, words):
    script = (
        "import sys\nfrom hatrain.cli import main\n"
        f"main({words!r})\n"
        "print(sorted({'torch', 'transformers', 'numpy', 'datasets'} & set(sys.modules)), file=sys.stderr)"
    )
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert told.stderr.splitlines()[-1] == "[]"
