"""The README is short, and its tour of the code agrees with the folders."""

import re
from pathlib import Path

from hatrain.cli import main
from tests.shipped import JOBS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SECTION = README.partition("## Tour of the code\n")[2].partition("\n## ")[0]
FOLDERS = re.findall(r"^\| \[([^]]+)\]\(\1\) \|", SECTION, re.M)


def test_the_tour_fits_on_one_screen():
    assert SECTION and len(SECTION.splitlines()) <= 30


def test_the_tour_has_every_folder_of_the_code():
    packages = {f"{path.parent.relative_to(ROOT)}/" for path in ROOT.glob("hatrain/*/__init__.py")}
    assert set(FOLDERS) == packages | {"launch/", "launch/backends/"}


def test_the_readme_is_under_150_lines():
    assert len(README.splitlines()) < 150


def test_every_job_is_in_a_table_of_jobs():
    jobs = {path.stem for path in JOBS} - {"demo", "demo-smollm2"}
    page = (ROOT / "docs/jobs.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| \[([^]]+)\]\(\.\./jobs/", page, re.M)) == jobs


def test_the_readme_shows_what_init_prints(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["init", "my-home"]) == 0
    assert f"\n```\n$ hatrain init my-home\n{capsys.readouterr().out}```\n" in README
