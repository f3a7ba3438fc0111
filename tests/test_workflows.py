"""The workflow for a public host runs the commands of this repository, on every Python that hatrain supports."""

import os
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.y*ml"))


@pytest.fixture(params=WORKFLOWS, ids=lambda path: path.name)
def workflow(request):
    # YAML 1.1 reads the key `on` as true.
    return yaml.safe_load(request.param.read_text(encoding="utf-8").replace("\non:", '\n"on":'))


def steps(workflow):
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


def test_there_is_a_workflow_for_changes():
    assert [path.name for path in WORKFLOWS] == ["ci.yml"]


def test_every_action_is_pinned_to_a_commit(workflow):
    uses = [step["uses"] for step in steps(workflow) if "uses" in step]
    assert uses
    assert [name for name in uses if not re.fullmatch(r"[\w.-]+/[\w./-]+@[0-9a-f]{40}", name)] == []


def test_it_may_only_read_and_keeps_no_credentials(workflow):
    assert workflow["permissions"] == {"contents": "read"}
    assert [step["with"]["persist-credentials"] for step in steps(workflow) if "uses" in step] == [False] * 3


def test_each_command_is_one_of_this_repository(workflow):
    targets = set(re.findall(r"^([a-z0-9-]+):.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    commands = [step["run"] for step in steps(workflow) if "run" in step and not step["run"].startswith("git config ")]
    assert set(commands) == {".ci/run", ".ci/wheel", "make docs"}
    for command in commands:
        program, *rest = command.split()
        assert set(rest) <= targets if program == "make" else os.access(ROOT / program, os.X_OK)


@pytest.mark.parametrize("job", ["tests", "wheel"])
def test_it_runs_on_each_python_that_is_supported(workflow, job):
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    supported = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', text)
    assert f'requires-python = ">={supported[0]}"' in text
    assert workflow["jobs"][job]["strategy"]["matrix"]["python"] == supported
