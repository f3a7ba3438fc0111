"""Commands, rows and YAML in the documentation are valid."""

import argparse
import importlib
import json
import re
import shlex
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from hatrain.cli import VERBS, _module
from hatrain.contract.load import read_text
from hatrain.contract.spec import DataSpec, TokenIds
from hatrain.data.rows import read_rows
from tests.guide.commands import IDS

DOCS = Path(__file__).parents[2] / "docs"
NAMES = ("troubleshooting.md", "data.md")


def fenced(name: str, kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```", (DOCS / name).read_text(encoding="utf-8"), re.M | re.S)


COMMANDS = [line for name in NAMES for block in fenced(name, "console") for line in block.splitlines()]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_documented_command_is_accepted(command):
    program, verb, *rest = shlex.split(command)
    assert (program, verb in VERBS) == ("hatrain", True)
    parser = argparse.ArgumentParser(exit_on_error=False, allow_abbrev=False)
    importlib.import_module(f"hatrain.cli.{_module(verb)}").add_arguments(parser)
    parser.parse_args(rest)


def test_every_documented_row_can_be_read(tmp_path):
    for block in fenced("data.md", "jsonl"):
        (tmp_path / "rows.jsonl").write_text(block)
        assert len(list(read_rows(tmp_path / "rows.jsonl"))) == len(block.splitlines())


def test_every_documented_pair_has_both_answers():
    for block in fenced("data.md", "json"):
        for line in block.splitlines():
            assert {"chosen", "rejected"} < set(json.loads(line))


@pytest.mark.parametrize("block", [block for name in NAMES for block in fenced(name, "yaml")])
def test_every_documented_data_section_is_valid(block):
    data = read_text(block, "docs").data["data"]
    DataSpec.model_validate({"train": "t.jsonl", **data})


@pytest.mark.parametrize("family", IDS)
def test_the_published_ids_of_each_family_are_in_the_table(family):
    prefix, suffix = re.findall(r"[\d,]{1,}", IDS[family][0])
    table = (DOCS / "troubleshooting.md").read_text(encoding="utf-8")
    assert f"| `{prefix}` | `{suffix}` |" in table
    assert TypeAdapter(TokenIds).validate_python(prefix)


def test_links_between_documents_have_a_target():
    for name in NAMES:
        text = (DOCS / name).read_text(encoding="utf-8")
        headings = {
            re.sub(r"[^\w -]", "", line.lstrip("# ").lower()).replace(" ", "-")
            for line in text.splitlines()
            if line.startswith("#")
        }
        for target in re.findall(r"\]\(([^)]+)\)", text):
            path, _, anchor = target.partition("#")
            assert not path or (DOCS / path).is_file()
            assert path or anchor in headings


def test_the_documented_matrix_of_strategies_is_the_printed_one():
    from hatrain.cli.plan import matrix

    assert f"```\n$ hatrain plan --matrix\n{matrix()}\n```" in (DOCS / "clusters.md").read_text(encoding="utf-8")
