"""The README's tour of the code is short, and agrees with the folders."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SECTION = README.partition("## Tour of the code\n")[2].partition("\n## ")[0]
FOLDERS = re.findall(r"^\| \[([^]]+)\]\(\1\) \|", SECTION, re.M)


def test_the_tour_fits_on_one_screen():
    assert SECTION and len(SECTION.splitlines()) <= 30


def test_the_tour_has_every_folder_of_the_code():
    packages = {f"{path.parent.relative_to(ROOT)}/" for path in ROOT.glob("hatrain/*/__init__.py")}
    assert set(FOLDERS) == packages | {"launch/", "launch/backends/"}


@pytest.mark.parametrize("target", re.findall(r"\]\(([^)#]+)\)", README))
def test_every_link_leads_to_a_file_or_folder(target):
    assert (ROOT / target).exists()


def test_every_job_is_in_the_table_of_runs():
    jobs = {path.stem for path in ROOT.glob("jobs/*.yaml")} - {"demo", "demo-smollm2"}
    assert set(re.findall(r"^\| \[([^]]+)\]\(jobs/", README, re.M)) == jobs
