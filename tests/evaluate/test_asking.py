"""A question has the format of the rows that the model was trained on, and the home that the user names."""

import json
import shutil
from pathlib import Path

import pytest

from hatrain.cli.ask import answer_lines
from hatrain.contract.run import RunDirectory
from hatrain.errors import BadInput
from hatrain.evaluate.asking import Question, ask, build_question
from hatrain.evaluate.sources import Source
from hatrain.home.calls.answer import read_answer
from hatrain.home.calls.prompt import PromptContents
from hatrain.home.devices.entity import Entity
from hatrain.home.judge.judge import understand_as
from tests.evaluate.models import Scripted
from tests.families import CHAT_FAMILIES, build_tokenizer
from tests.plans import a_plan

PROMPT = "Dienste: light.turn_off()\nGeräte:\nlight.flur 'Flurlicht' = on"
HOME = "areas:\n  Kitchen:\n    light.kitchen: Kitchen Light\n    lock.door: Back Door\n"
KNOWN = PromptContents(
    (Entity("light.flur", "Flurlicht", "on"), Entity("lock.door", "Back Door", "unlocked")),
    frozenset({"light.turn_off", "lock.lock"}),
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


SYSTEM_ROW = row(("system", PROMPT), ("human", "Licht aus"), ("gpt", "Ja."), ("human", "Danke"), ("gpt", "Gern."))


def test_a_question_replaces_the_first_request_of_the_first_row(source):
    question = build_question("Mach das Licht aus!", source(SYSTEM_ROW), None)
    assert [(turn.role, turn.content) for turn in question.messages] == [
        ("system", PROMPT),
        ("user", "Mach das Licht aus!"),
    ]
    assert question.known.entities == {"light.flur": "Flurlicht"}


def test_without_a_system_role_the_home_stays_in_the_users_text(source):
    made = row(("human", f"{PROMPT}\nAnweisung:\nLicht aus"), ("gpt", "Ja."))
    question = build_question("Mach das Licht aus!", source(made), None)
    assert [(turn.role, turn.content) for turn in question.messages] == [
        ("user", f"{PROMPT}\nAnweisung:\nMach das Licht aus!")
    ]


def test_a_row_without_a_home_gives_a_question_without_one(source):
    question = build_question("Hello", source(row(("human", "Hi\nthere"), ("gpt", "Ho."))), None)
    assert [(turn.role, turn.content) for turn in question.messages] == [("user", "Hello")]


def test_a_home_file_is_listed_as_in_generated_rows(source, home):
    question = build_question("Lock up", source(SYSTEM_ROW), home)
    assert [turn.role for turn in question.messages] == ["system", "user"]
    assert question.messages[1].content == "Lock up"
    assert question.known.entities == {"light.kitchen": "Kitchen Light", "lock.door": "Back Door"}
    assert {"light.turn_on", "lock.lock"} <= question.known.services
    assert question.tools == ()


def test_a_home_file_follows_rows_without_a_system_role(source, home):
    question = build_question("Lock up", source(row(("human", f"{PROMPT}\nx\ny"), ("gpt", "Ja."))), home)
    assert [turn.role for turn in question.messages] == ["user"]
    assert question.messages[0].content.endswith("\nLock up")
    assert "lock.door" in question.known.entities


@pytest.mark.parametrize(("offered", "wanted"), [("HassTurnOff", "HassTurnOn"), ("light.turn_off", "lock.lock")])
def test_a_home_file_comes_with_tools_of_the_kind_that_the_rows_have(offered, wanted, source, home):
    made = row(
        ("system", "x"),
        ("human", "y"),
        ("gpt", "z"),
        tools=[{"type": "function", "function": {"name": offered}}],
    )
    question = build_question("Lock up", source(made), home)
    assert wanted in {tool["function"]["name"] for tool in question.tools}


def test_a_run_for_a_client_is_asked_as_that_client_asks(source):
    """The prompt of `assist` lists no states, so a home whose devices are known is drawn."""
    made = row(
        ("system", "- names: Flurlicht"), ("human", "Licht an"), ("gpt", "Ja."), client="assist", tools=[{"x": 1}]
    )
    question = build_question("Lock up", source(made), None)
    assert question.client == "assist" and question.known.devices
    assert "GetLiveContext" in question.known.services
    name = question.known.devices[0].name
    said = f'<tool_call>{{"name": "GetLiveContext", "arguments": {{"name": "{name}"}}}}</tool_call>'
    assert answer_lines(read_answer(said), question.known, question.understand)[2].startswith("would GetLiveContext")


def test_a_row_for_a_client_with_its_devices_is_asked_as_it_is(source):
    devices = [{"entity_id": "light.flur", "name": "Flurlicht", "state": "on"}]
    question = build_question(
        "Licht aus", source({**SYSTEM_ROW, "client": "home-llm-legacy", "devices": devices}), None
    )
    assert question.messages[1].content == "Licht aus"
    assert [device.state for device in question.known.devices] == ["on"]
    refused = '```homeassistant\n{"service": "light.turn_on", "target_device": "light.flur", "brightness_pct": 4}\n```'
    assert any(
        "brightness_pct: not a key" in line
        for line in answer_lines(read_answer(refused), question.known, question.understand)
    )


def test_a_missing_home_file_is_refused(source, tmp_path):
    with pytest.raises(BadInput, match=r"none\.yaml"):
        build_question("Lock up", source(SYSTEM_ROW), tmp_path / "none.yaml")


def test_a_model_without_a_run_gets_a_generated_home(source):
    question = build_question("Lock up", Source("some/model", "some/model"), None)
    assert 2 <= len(question.known.entities) <= 12
    assert question.known.services
    assert "generated" in question.home


def test_a_run_without_its_rows_gets_a_generated_home(source, tmp_path):
    gone = source(SYSTEM_ROW)
    (tmp_path / "train.jsonl").unlink()
    assert "generated" in build_question("Lock up", gone, None).home
    shutil.rmtree(tmp_path / "runs")


@pytest.mark.parametrize("family", [name for name in CHAT_FAMILIES if name not in ("gemma", "mistral")])
def test_any_family_can_be_asked(family, source):
    tokenizer = build_tokenizer(family)
    reply = tokenizer("Ja.", add_special_tokens=False)["input_ids"]
    model = Scripted(tokenizer, lambda prompt: [*reply, tokenizer.eos_token_id])
    answer = ask(model, tokenizer, build_question("Licht aus", source(SYSTEM_ROW), None))
    assert (answer.text, answer.calls) == ("Ja.", ())
    ((prompt,),) = model.batches
    assert "Licht aus" in tokenizer.decode(prompt) and "Sure." not in tokenizer.decode(prompt)


SHOWN = [
    ("Fertig.", True, ["Fertig.", "", "would do nothing"]),
    ("", True, ["(no text)", "", "would do nothing"]),
    ("la la", False, ["la la", "", "would do nothing", "cut off at the limit of tokens"]),
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
            "  light.flurr: not in this home; did you mean light.flur?",
            "not a call in valid JSON: {",
        ],
    ),
    (
        'Ja.\n```homeassistant\n{"service": "fan.toggle", "target_device": "light.flur"}\n```',
        True,
        [
            "Ja.",
            "",
            "cannot toggle Flurlicht (light.flur)",
            "  light.flur: not a fan, which fan.toggle needs",
        ],
    ),
    (
        '<tool_call>{"name": "HassTurnOff", "arguments": {"name": "Keller"}}</tool_call>',
        True,
        [
            "(no text)",
            "",
            "cannot HassTurnOff: name Keller",
            "  HassTurnOff: name: no 'Keller' in this home",
        ],
    ),
]


@pytest.mark.parametrize(("text", "ended", "lines"), SHOWN)
def test_an_answer_is_shown_with_what_it_would_do_and_why_it_cannot(text, ended, lines):
    assert answer_lines(read_answer(text, ended=ended), KNOWN, understand_as(None)) == lines


def test_a_question_without_messages_knows_no_home():
    assert Question((), (), "nowhere").known == PromptContents()
