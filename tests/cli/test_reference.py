"""docs/reference.md says what the parsers and the schema say."""

from pathlib import Path

from hatrain.cli import VERBS, parser_of
from hatrain.contract.spec import JobSpec, leaves
from tests import reference
from tests.golden import matches

PAGE = Path(__file__).parents[2] / "docs/reference.md"


def test_the_page_is_current():
    matches(PAGE, reference.page())


def test_the_page_has_every_option_of_every_verb():
    text = PAGE.read_text(encoding="utf-8")
    for verb in VERBS:
        section = text.partition(f"### hatrain {verb}\n")[2].partition("\n### ")[0]
        options = {flag for action in parser_of(verb)._actions for flag in action.option_strings} - {"-h", "--help"}
        assert [flag for flag in options if f"`{flag}" not in section] == [], verb


def test_the_page_has_every_key_of_a_job():
    rows = {line.split("`")[1] for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")}
    job = JobSpec.model_validate(
        {
            "name": "a",
            "model": {"base": "b", "quantization": "4bit"},
            "data": {"train": "t"},
            "method": {"kind": "dpo", "lora": {}},
            "hardware": {"gpu": "cpu"},
            "export": {"gguf": ["f16"]},
        }
    )
    assert {key.rpartition(".")[2] for key, _ in leaves(job.model_dump())} <= rows
