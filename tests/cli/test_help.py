"""Help: every verb in a group, with examples that the real parsers accept, and the nearest name for a mistake."""

import shlex

import pytest

from hatrain.cli import GROUPS, VERBS, main, overview
from hatrain.cli.examples import EXAMPLES
from hatrain.guide import is_guide_command
from tests.command_lines import accepted, simple_commands


def answer(capsys, *arguments: str) -> tuple[int, str, str]:
    try:
        code = main(arguments)
    except SystemExit as exit:
        code = int(exit.code or 0)
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_every_verb_is_in_one_group():
    assert sorted(verb for verbs in GROUPS.values() for verb in verbs) == sorted(VERBS)


def test_the_overview_has_one_line_for_each_verb_in_80_columns(capsys):
    lines = overview().splitlines()
    assert [line.split()[0] for line in lines if line[:2] == "  " != line[1:3]] == [
        verb for verbs in GROUPS.values() for verb in verbs
    ]
    assert max(map(len, lines)) <= 80
    assert [answer(capsys, *arguments)[1] for arguments in ((), ("--help",), ("help",))] == [overview() + "\n"] * 3


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_verb_ends_with_its_examples(verb, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    code, out, _ = answer(capsys, "help", verb)
    assert code == 0
    assert out == answer(capsys, verb, "--help")[1]
    ends = [line.strip() for command, what in EXAMPLES[verb] for line in (command, what)]
    assert [line.strip() for line in out.splitlines()][-len(ends) :] == ends
    assert ends[-2].startswith(f"hatrain {verb}")


@pytest.mark.parametrize("command", [command for examples in EXAMPLES.values() for command, _ in examples])
def test_every_example_is_accepted_by_its_parser(command):
    ours = [words for words in simple_commands(command) if words[0] == "hatrain"]
    assert ours
    for words in ours:
        accepted(words)


def test_the_check_of_examples_refuses_a_wrong_option():
    with pytest.raises(ValueError, match="--clustr"):
        accepted(shlex.split("hatrain plan demo --clustr x"))
    assert is_guide_command(shlex.split(EXAMPLES["train"][1][0])[2:])


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("submti", "x"), "hatrain submti: no such verb; did you mean submit?; `hatrain help` lists all"),
        (("version",), "hatrain version: no such verb; did you mean --version?; `hatrain help` lists all"),
        (("help", "submti"), "hatrain help: no verb submti; did you mean submit?; `hatrain help` lists all"),
        (
            ("plan", "demo", "--clustr", "local"),
            "hatrain plan: unrecognized arguments: --clustr local; did you mean --cluster?; see: hatrain help plan",
        ),
        (
            ("status",),
            "hatrain status: the following arguments are required: RUN; see: hatrain help status",
        ),
    ],
)
def test_a_mistake_is_one_line_with_the_nearest_name(arguments, line, capsys):
    assert answer(capsys, *arguments) == (2, "", line + "\n")


def test_a_wrong_value_is_one_line_with_the_nearest_value(capsys):
    code, out, err = answer(capsys, "completion", "bsh")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.endswith("; did you mean bash?; see: hatrain help completion\n")
