"""A question is put as the rows of the model's run would put it, in the house that the user names."""

import json
import shutil
from pathlib import Path

import pytest

from hatrain.cli.ask import told
from hatrain.contract.run import RunDirectory
from hatrain.errors import BadInput
from hatrain.evaluate.asking import Question, ask, put_question
from hatrain.evaluate.sources import Source
from hatrain.home.calls.judge import PromptContents
from hatrain.home.calls.parse import read_answer
from tests.evaluate.models import Scripted
from tests.families import CHAT_FAMILIES, build_tokenizer
from tests.plans import a_plan

PROMPT = "Dienste: light.turn_off()\nGeräte:\nlight.flur 'Flurlicht' = on"
HOME = "areas:\n  Kitchen:\n    light.kitchen: Kitchen Light\n    lock.door: Back Door\n"
KNOWN = PromptContents(
    {"light.flur": "Flurlicht", "lock.door": "Back Door"}, frozenset({"light.turn_off", "lock.lock"})
)


@pytest.fixture
def source(tmp_path):
    """Make the source of a run that was trained on one row."""

    def make(row: dict) -> Source:
        run = RunDirectory(tmp_path / "runs" / "kitchen")
        run.adopt(a_plan(tmp_path), {})
        (tmp_path / "train.jsonl").write_text(json.dumps(row) + "\n")
        return Source("kitchen", "nowhere", run)

    return make


@pytest.fixture
def home(tmp_path) -> Path:
    (tmp_path / "home.yaml").write_text(HOME)
    return tmp_path / "home.yaml"


def row(*turns: tuple[str, str], **others: object) -> dict:
    return {"conversations": [{"from": who, "value": text} for who, text in turns], **others}


SYSTEM_ROW = row(
    ("system", PROMPT), ("human", "Licht aus"), ("gpt", "Ja."), ("human", "Danke"), ("gpt", "Gern.")
)


def test_a_question_takes_the_place_of_the_first_rows_own(source):
    question = put_question("Mach das Licht aus!", source(SYSTEM_ROW), None)
    assert [(turn.role, turn.content) for turn in question.messages] == [
        ("system", PROMPT),
        ("user", "Mach das Licht aus!"),
    ]
    assert question.known.entities == {"light.flur": "Flurlicht"}


def test_without_a_system_role_the_home_stays_in_the_users_text(source):
    made = row(("human", f"{PROMPT}\nAnweisung:\nLicht aus"), ("gpt", "Ja."))
    question = put_question("Mach das Licht aus!", source(made), None)
    assert [(turn.role, turn.content) for turn in question.messages] == [
        ("user", f"{PROMPT}\nAnweisung:\nMach das Licht aus!")
    ]


def test_a_row_without_any_home_is_asked_without_one(source):
    question = put_question("Hello", source(row(("human", "Hi\nthere"), ("gpt", "Ho."))), None)
    assert [(turn.role, turn.content) for turn in question.messages] == [("user", "Hello")]


def test_a_home_file_is_told_as_the_generator_tells_homes(source, home):
    question = put_question("Lock up", source(SYSTEM_ROW), home)
    assert [turn.role for turn in question.messages] == ["system", "user"]
    assert question.messages[1].content == "Lock up"
    assert question.known.entities == {"light.kitchen": "Kitchen Light", "lock.door": "Back Door"}
    assert {"light.turn_on", "lock.lock"} <= question.known.services
    assert question.tools == ()


def test_a_home_file_follows_rows_without_a_system_role(source, home):
    question = put_question("Lock up", source(row(("human", f"{PROMPT}\nx\ny"), ("gpt", "Ja."))), home)
    assert [turn.role for turn in question.messages] == ["user"]
    assert question.messages[0].content.endswith("\nLock up")
    assert "lock.door" in question.known.entities


@pytest.mark.parametrize(
    ("offered", "wanted"), [("HassTurnOff", "HassTurnOn"), ("light.turn_off", "lock.lock")]
)
def test_a_home_file_comes_with_tools_of_the_kind_that_the_rows_have(offered, wanted, source, home):
    made = row(
        ("system", "x"),
        ("human", "y"),
        ("gpt", "z"),
        tools=[{"type": "function", "function": {"name": offered}}],
    )
    question = put_question("Lock up", source(made), home)
    assert wanted in {tool["function"]["name"] for tool in question.tools}


def test_a_home_file_that_is_not_there_is_refused(source, tmp_path):
    with pytest.raises(BadInput, match=r"none\.yaml"):
        put_question("Lock up", source(SYSTEM_ROW), tmp_path / "none.yaml")


def test_a_model_of_no_run_gets_a_house_that_is_made_up(source):
    question = put_question("Lock up", Source("some/model", "some/model"), None)
    assert 2 <= len(question.known.entities) <= 12
    assert question.known.services
    assert "made up" in question.home


def test_a_run_whose_rows_are_gone_gets_one_too(source, tmp_path):
    gone = source(SYSTEM_ROW)
    (tmp_path / "train.jsonl").unlink()
    assert "made up" in put_question("Lock up", gone, None).home
    shutil.rmtree(tmp_path / "runs")


@pytest.mark.parametrize("family", [name for name in CHAT_FAMILIES if name not in ("gemma", "mistral")])
def test_any_family_can_be_asked(family, source):
    tokenizer = build_tokenizer(family)
    reply = tokenizer("Ja.", add_special_tokens=False)["input_ids"]
    model = Scripted(tokenizer, lambda prompt: [*reply, tokenizer.eos_token_id])
    answer = ask(model, tokenizer, put_question("Licht aus", source(SYSTEM_ROW), None))
    assert (answer.text, answer.calls) == ("Ja.", ())
    ((prompt,),) = model.batches
    assert "Licht aus" in tokenizer.decode(prompt) and "Sure." not in tokenizer.decode(prompt)


TOLD = [
    ("Fertig.", True, ["Fertig.", "", "would do nothing"]),
    ("", True, ["(says nothing)", "", "would do nothing"]),
    ("la la", False, ["la la", "", "would do nothing", "does not end; cut off here"]),
    (
        'Ja.\n```homeassistant\n{"service": "light.turn_off", "target_device": "light.flur"}\n```',
        True,
        ["Ja.", "", "would turn off Flurlicht (light.flur)"],
    ),
    (
        'Ja.\n```homeassistant\n{"service": "light.turn_off", "target_device": "light.flurr"}\n{\n```',
        True,
        [
            "Ja.",
            "",
            "cannot turn off light.flurr",
            "  target_device: 'light.flurr' is not in this home; did you mean light.flur?",
            "no call in valid JSON: {",
        ],
    ),
    (
        'Ja.\n```homeassistant\n{"service": "fan.toggle", "target_device": "light.flur"}\n```',
        True,
        [
            "Ja.",
            "",
            "cannot toggle Flurlicht (light.flur)",
            "  fan.toggle: not offered in this home",
            "  target_device: light.flur is not a fan, which fan.toggle needs",
        ],
    ),
    (
        '<tool_call>{"name": "HassTurnOff", "arguments": {"name": "Keller"}}</tool_call>',
        True,
        [
            "(says nothing)",
            "",
            "cannot HassTurnOff: name Keller",
            "  HassTurnOff: not offered in this home",
            "  Keller: not in this home",
        ],
    ),
]


@pytest.mark.parametrize(("said", "ended", "lines"), TOLD)
def test_an_answer_is_told_with_what_it_would_do_and_why_it_could_not(said, ended, lines):
    assert told(read_answer(said, ended=ended), KNOWN) == lines


def test_what_a_home_has_is_read_from_the_question():
    assert Question((), (), "nowhere").known == PromptContents()
