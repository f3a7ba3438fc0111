"""What `pip install` of the wheel brings: a first job, plans and the jobs that come with hatrain, in an empty folder,
with the checkout nowhere on the path."""

import os
import shutil
import subprocess
import sys
import zipfile
from email import message_from_bytes
from pathlib import Path

import pydantic
import pytest
import yaml

import hatrain
from hatrain.contract.spec import JobSpec

ROOT = Path(__file__).parents[1]
SOURCES = ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "hatrain", "launch", "jobs")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        source, copy = ROOT / name, folder / "source" / name
        copy.parent.mkdir(exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copy(source, copy)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--no-index", "--no-deps"]
    built = subprocess.run(
        [*pip, "--no-build-isolation", "--wheel-dir", folder, folder / "source"], capture_output=True, text=True
    )
    assert built.returncode == 0, built.stdout + built.stderr
    (file,) = folder.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def installed(wheel) -> Path:
    folder = wheel.parent / "installed"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--no-index", "--no-deps"]
    subprocess.run([*pip, "--target", folder, wheel], check=True, capture_output=True)
    return folder


class Folder:
    """An empty folder, in which the installed hatrain runs. `-S` keeps the checkout, which a .pth file names, away."""

    def __init__(self, folder: Path, installed: Path):
        libraries = Path(pydantic.__file__).parents[1]
        self.folder = folder
        self.environment = {**os.environ, "PYTHONPATH": f"{installed}{os.pathsep}{libraries}", "HOME": str(folder)}
        self.environment["HF_HUB_OFFLINE"] = "1"
        for name in ("CLUSTER", "HATRAIN_RUNS"):
            self.environment.pop(name, None)

    def python(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-S", *arguments], cwd=self.folder, env=self.environment, capture_output=True, text=True
        )

    def hatrain(self, *arguments: str) -> str:
        """Run a command that must succeed. Returns its stdout."""
        result = self.python("-m", "hatrain", *arguments)
        assert result.returncode == 0, result.stderr
        return result.stdout


@pytest.fixture
def empty(installed, tmp_path) -> Folder:
    return Folder(tmp_path, installed)


def test_the_wheel_holds_jobs_schemas_licence_and_the_launchers_files(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        information = f"hatrain-{hatrain.__version__}.dist-info"
        facts = message_from_bytes(archive.read(f"{information}/METADATA"))
        licence = archive.read(f"{information}/licenses/LICENSE").decode()
    jobs = {f"hatrain/jobs/{file.name}" for file in (ROOT / "jobs").iterdir()}
    assert {name for name in names if name.startswith("hatrain/jobs/")} == jobs
    assert {"launch/node.sh", "launch/clusters/schema.json", "hatrain/home/demo.yaml"} <= names
    assert (facts["Version"], facts["License-Expression"]) == (hatrain.__version__, "MIT")
    assert len([line for line in facts.get_all("Requires-Dist") if "extra ==" not in line]) == 3  # for the launch side
    assert licence.startswith("MIT License\n\nCopyright (c) 2026 the hatrain contributors\n")


def test_the_installed_package_is_the_one_that_runs(empty, installed):
    found = empty.python("-c", "import hatrain, launch; print(hatrain.__file__, launch.__file__)").stdout.split()
    assert [Path(file).is_relative_to(installed) for file in found] == [True, True]


def test_init_then_plan_in_an_empty_folder(empty):
    said = empty.hatrain("init", "my-home")
    written = {str(path.relative_to(empty.folder)) for path in empty.folder.rglob("*") if path.is_file()}
    assert written == {"jobs/my-home.yaml", "jobs/schema.json", "homes/my-home.yaml"}
    assert "  hatrain plan my-home\n" in said

    planned = empty.python("-m", "hatrain", "plan", "my-home")
    assert planned.returncode == 0, planned.stderr
    assert planned.stdout.startswith("run            my-home on local\n")
    assert (
        "note: to make the rows: hatrain data --train --test --client assist --home homes/my-home.yaml"
        in planned.stderr
    )


def test_jobs_that_come_with_hatrain_are_listed_planned_and_printed(empty):
    listed = empty.hatrain("jobs")
    names = [line.split()[0] for line in listed.splitlines()[1:]]
    assert names == sorted(path.stem for path in (ROOT / "jobs").glob("*.yaml"))
    assert max(map(len, listed.splitlines())) <= 80
    assert empty.hatrain("plan", "tinyhome").startswith("run            tinyhome-rev4 on local\n")
    assert empty.hatrain("jobs", "tinyhome") == (ROOT / "jobs/tinyhome.yaml").read_text(encoding="utf-8")
    assert empty.hatrain("jobs", "llama-2.jinja") == (ROOT / "jobs/llama-2.jinja").read_text(encoding="utf-8")


def test_a_job_of_the_folder_takes_precedence_over_one_that_comes_with_hatrain(empty):
    text = empty.hatrain("jobs", "tinyhome").replace("tinyhome-rev4", "mine")
    (empty.folder / "jobs").mkdir()
    (empty.folder / "jobs/tinyhome.yaml").write_text(text)
    assert empty.hatrain("plan", "tinyhome").startswith("run            mine on local\n")


def test_a_path_of_a_job_that_comes_with_hatrain_is_answered_with_its_name(empty):
    answer = empty.python("-m", "hatrain", "plan", "jobs/tinyhome.yaml")
    assert answer.returncode == 2
    assert (
        answer.stderr == "jobs/tinyhome.yaml: no such job; the job tinyhome comes with hatrain: give its name alone\n"
    )


def test_the_version_is_in_one_place(empty):
    assert empty.hatrain("--version") == f"hatrain {hatrain.__version__}\n"
    assert hatrain.__version__ not in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert yaml.safe_load(empty.hatrain("schema"))["title"] == JobSpec.__name__
    assert f"## {hatrain.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
