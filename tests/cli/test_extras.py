"""What an installation without torch does: every verb works, or says in one line what to install."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from hatrain.cli import VERBS
from hatrain.contract import extras
from hatrain.contract.run import RunDirectory
from tests.plans import a_plan

ROOT = Path(__file__).parents[2]
DATASET, BASE = "rows.jsonl", "base"

NEEDS_TRAIN = {
    "check": [DATASET, "--model", BASE],
    "ask": [BASE, "turn on the light"],
    "evaluate": [BASE, "--dataset", DATASET],
    "find-split": [BASE],
    "tiny": ["--data", DATASET, "--out", "tiny"],
    "train": ["job.yaml"],
    "submit": ["job.yaml"],
    "fetch": ["hub.yaml"],
    "export": [BASE],
    "publish": ["done", "--repo", "a/b", "--dry-run"],
}
WORKS = {
    "plan": ["job.yaml"],
    "render": ["job.yaml"],
    "schema": [],
    "clusters": [],
    "runs": [],
    "status": ["done"],
    "import": ["--", "python3", "train.py", "--run_name", "x", "--base_model", "a/b", "--train_dataset", "t.jsonl"],
    "compare": ["done", "done"],
    "doctor": [],
    "data": ["--sample", "--language", "english", "--out", "data"],
    "init": ["my-home"],
    "jobs": [],
    "help": ["plan"],
    "completion": ["bash"],
}


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("home")
    (folder / DATASET).write_text('{"text": "hello"}\n' * 8)
    (folder / BASE).mkdir()
    (folder / BASE / "config.json").write_text("{}")
    job = f"name: x\nmodel: {{base: ./{BASE}}}\ndata: {{train: {DATASET}}}\nhardware: {{gpu: cpu}}\n"
    (folder / "job.yaml").write_text(job)
    (folder / "hub.yaml").write_text(job.replace(f"./{BASE}", "some/base"))
    plan = a_plan(folder, name="done")
    run = RunDirectory(Path(plan.paths.run))
    run.adopt(plan, {})
    tried = NEEDS_TRAIN | {"report": ["done"]} | WORKS
    commands = [[verb, *arguments] for verb, arguments in tried.items() if verb in VERBS]
    ended = subprocess.run(
        [sys.executable, "-I", str(Path(__file__).with_name("launch_only.py"))],
        input=json.dumps(commands),
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert ended.returncode == 0, ended.stderr
    return dict(zip((command[0] for command in commands), json.loads(ended.stdout), strict=True))


@pytest.mark.parametrize("verb", NEEDS_TRAIN)
def test_a_verb_that_needs_torch_says_in_one_line_what_to_install(answers, verb):
    code, lines = answers[verb]
    assert code in (2, 78), lines
    assert re.fullmatch(r"\S.* needs .*, not installed here: pip install 'hatrain\[train\]'", lines[-1])
    assert len(lines) == 1


def test_a_report_says_which_libraries_it_needs(answers):
    code, lines = answers["report"]
    assert code == 2
    assert lines == [
        "hatrain report: a report needs plotly, jinja2, markupsafe, not installed here: pip install 'hatrain[report]'"
    ]


@pytest.mark.parametrize("verb", [verb for verb in WORKS if verb in VERBS])
def test_a_verb_that_needs_no_torch_works_without(answers, verb):
    code, lines = answers[verb]
    assert code == 0, lines
    assert not any("not installed here" in line for line in lines if not line.startswith("note: not on this machine: "))


def test_every_verb_is_tried_or_asks_a_run_that_there_is_not():
    other = {"diff", "logs", "wait", "stop", "cancel", "memory", "pull"}  # of runs and their records alone
    assert set(VERBS) <= set(NEEDS_TRAIN) | set(WORKS) | {"report"} | other


# --- the table ----------------------------------------------------------------------------------------------


def test_every_extra_has_its_modules():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(extras.EXTRAS) == set(declared) - {"dev"}
    for extra, requirements in declared.items():
        names = {re.split(r"[<>=~]", line)[0].lower().replace("-", "_") for line in requirements}
        if extra not in ("dev", "train"):
            assert names <= set(extras.EXTRAS[extra])
    assert {"torch", "transformers", "trl", "peft", "accelerate", "datasets"} <= set(extras.EXTRAS["train"])


def test_every_library_that_is_imported_is_in_the_table():
    known = {name for names in extras.EXTRAS.values() for name in names}
    known |= {"pydantic", "pydantic_core", "yaml", "rich", "hatrain", "launch", "conversion"}
    imported = set()
    for path in [*(ROOT / "hatrain").rglob("*.py"), *(ROOT / "launch").rglob("*.py")]:
        imported |= set(
            re.findall(r"^\s*(?:import|from) (\w+)(?:\.[\w.]+)?(?: import .*| as \w+)?$", path.read_text(), re.M)
        )
    assert imported - known - set(sys.stdlib_module_names) == {"tensorboard"} & imported


def test_a_fault_of_hatrain_itself_stays_a_fault():
    assert extras.without("hatrain.no_such_module", "hatrain plan") is None
    assert (
        extras.without("no_such_library.part", "x")
        == "x needs no_such_library, not installed here: pip install no_such_library"
    )
