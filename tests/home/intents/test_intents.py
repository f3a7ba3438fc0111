"""Home Assistant's own test sentences become requests whose expected answers are right, in each client's form."""

import json
from collections import Counter
from pathlib import Path

import pytest

from hatrain.cli import main
from hatrain.data.replies import ReplyFinder
from hatrain.data.rows import read_rows
from hatrain.errors import BadInput
from hatrain.evaluate.requests import Request, read_requests
from hatrain.home.calls.answer import read_answer
from hatrain.home.clients import CLIENTS
from hatrain.home.generate.audit import audit
from hatrain.home.intents.clone import is_clone, plain, read_sentences
from hatrain.home.intents.rows import MOST_OF_A_BLOCK, MOST_OF_A_LANGUAGE, pick_rows
from hatrain.home.intents.write import write_test_set
from hatrain.home.judge.judge import judge
from hatrain.home.language.load import find_language, load_language
from tests.families import build_tokenizer

SHARED = Path(__file__).parents[4] / "shared" / "intents"
real = pytest.mark.skipif(not is_clone(SHARED), reason="needs a clone of home-assistant/intents beside the repository")

FIXTURES = """
language: en
floors: [{name: Upstairs, id: up}]
areas:
  - {name: Kitchen, id: kitchen}
  - {name: Den, id: den, floor: up}
entities:
  - {name: Counter Light, id: light.counter, area: kitchen, state: "on"}
  - {name: Ceiling Light, id: light.ceiling, area: kitchen, state: "on"}
  - {name: Den Lamp, id: light.den, area: den, state: "off"}
  - {name: "Miller[']s", id: todo.miller}
  - {name: Garden Tap, id: valve.tap, state: open}
  - {name: Cat Flap, id: binary_sensor.flap, state: {in: closed, out: "off"}, attributes: {device_class: door}}
  - {name: Shed Door, id: binary_sensor.shed, state: {in: open, out: "on"}, attributes: {device_class: door}}
  - {name: Stove, id: climate.stove, area: den, state: heat, attributes: {current_temperature: "21.5"}}
"""
TESTS = """
language: en
tests:
  - sentences: [brighten the kitchen, kitchen lamps please, I need light in the kitchen, kitchen bright]
    intent: {name: HassTurnOn, slots: {area: Kitchen, domain: light}}
    response: Turned on the lights
  - sentences: [dim it to half]
    intent: {name: HassLightSet, context: {area: Den}, slots: {area: Den, brightness: "50"}}
    response: Brightness set
  - sentences: [put pears on the millers list]
    intent: {name: HassListAddItem, slots: {item: [pears, pears ], name: Millers}}
    response: Added pears
  - sentences: [shut the garden tap]
    intent: {name: HassTurnOff, slots: {name: Garden Tap, domain: valve}}
    response: Closed
  - sentences: [is the cat flap open]
    intent: {name: HassGetState, slots: {name: Cat Flap, domain: binary_sensor, device_class: door, state: "on"}}
    response: No, closed
  - sentences: [which doors stand open]
    intent: {name: HassGetState, slots: {domain: binary_sensor, device_class: door, state: "on"}}
    response: Shed Door
  - sentences: [how warm is it]
    intent: {name: HassClimateGetTemperature, context: {area: Den}}
    response: 21.5 degrees
  - sentences: [set a timer for a minute]
    intent: {name: HassStartTimer, slots: {minutes: 1}}
    response: Timer set
  - sentences: [how long is left on the tea timer]
    intent: {name: HassTimerStatus, context: {area: Den}, slots: {name: tea}}
    response: 3 minutes
  - sentences: [tell everyone that dinner is ready]
    intent: {name: HassBroadcast, slots: {message: dinner is ready}}
    response: Done
  - sentences: [tick pears off the millers list]
    intent: {name: HassListCompleteItem, slots: {item: pears, name: Millers}}
    response: Done
  - sentences: [mow the lawn]
    intent: {name: HassToggle, slots: {name: Garden Tap}}
    response: Toggled
  - sentences: [never mind]
    intent: {name: HassNevermind}
    response: ""
"""
OWN_FILE = """
language: en
entities: [{name: Spotlight, domain: light, state: "on"}]
tests:
  - sentences: [turn on Spotlight]
    slots: {name: Spotlight}
    response: Turned on the light
"""


@pytest.fixture
def clone(tmp_path) -> Path:
    folder = tmp_path / "intents"
    tests = folder / "tests" / "en"
    (tests / "HassTurnOn").mkdir(parents=True)
    (tests / "_fixtures.yaml").write_text(FIXTURES)
    (tests / "all.yaml").write_text(TESTS)
    (tests / "HassTurnOn" / "name_only.yaml").write_text(OWN_FILE)
    return folder


def picked(clone: Path, client: str, language: str = "english"):
    spoken = load_language(find_language(language))
    return pick_rows(read_sentences(clone, spoken.code), CLIENTS[client], spoken, 42)


def requests_of(rows: list[dict], tmp_path: Path) -> list[Request]:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    family = "qwen2" if "messages" in rows[0] else "chatml"
    return read_requests(read_rows(path), ReplyFinder(build_tokenizer(family)))


def strict(request: Request, text: str) -> bool:
    return judge(request.case, read_answer(text, forms=request.forms)).strict


def test_a_clone_is_read_with_its_home_and_what_is_left_out_is_counted(clone):
    rows, left_out = picked(clone, "assist").rows, picked(clone, "assist").left_out
    assert Counter(row["kind"] for row in rows) == {
        "HassTurnOn": MOST_OF_A_BLOCK + 1,
        "HassLightSet": 1,
        "HassListAddItem": 1,
        "HassListCompleteItem": 1,
        "HassTurnOff": 1,
        "HassStartTimer": 1,
        "HassTimerStatus": 1,
        "HassBroadcast": 1,
        "HassGetState": 2,
        "HassClimateGetTemperature": 1,
        "HassNevermind": 1,
    }
    assert {intent for intent, _ in left_out} == {"HassToggle"}
    assert all("CC BY 4.0" in row["source"] and row["client"] == "assist" for row in rows)
    devices = {device["entity_id"]: device for device in rows[0]["devices"]}
    assert devices["light.den"] == {
        "entity_id": "light.den", "name": "Den Lamp", "state": "off", "area": "Den", "floor": "Upstairs"
    }  # fmt: skip
    assert devices["todo.miller"]["aliases"] == ["Millers"]


def test_a_client_with_its_own_keys_is_asked_for_a_brightness(clone):
    (row,) = [row for row in picked(clone, "home-llm-legacy").rows if row["kind"] == "HassLightSet"]
    assert '"brightness": 128' in row["conversations"][-1]["value"]


@pytest.mark.parametrize("client", CLIENTS)
def test_expected_answers_are_right_and_silence_is_not(client, clone, tmp_path):
    requests = requests_of(list(picked(clone, client).rows), tmp_path)
    assert requests
    for request in requests:
        assert strict(request, request.reply), (request.user_text, request.reply)
        assert strict(request, "Hm.") is (request.kind == "HassNevermind"), request.user_text


def test_lights_that_are_on_already_are_put_out_for_a_request_to_turn_them_on(clone, tmp_path):
    rows = [row for row in picked(clone, "home-llm").rows if row["kind"] == "HassTurnOn"]
    for request in requests_of(rows, tmp_path):
        states = {device.entity_id: device.state for device in request.known.devices}
        targets = ["light.counter", "light.ceiling"] if "itchen" in request.user_text else ["light.spotlight"]
        assert {states[target] for target in targets} == {"off"}
        assert states["light.den"] == "off" and states["climate.stove"] == "heat"


def test_a_request_in_here_comes_with_the_area_of_the_user(clone):
    (row,) = [row for row in picked(clone, "assist").rows if row["kind"] == "HassLightSet"]
    assert "The user is in the area Den on the floor Upstairs." in row["messages"][0]["content"]
    call = row["messages"][2]["tool_calls"][0]["function"]
    assert (call["name"], json.loads(call["arguments"])) == ("HassLightSet", {"area": "Den", "brightness": 50})


def test_a_client_without_satellites_is_told_the_area_by_its_opening(clone):
    (row,) = [row for row in picked(clone, "home-llm-legacy").rows if row["kind"] == "HassLightSet"]
    assert "The user is in the area Den.\n" in row["conversations"][0]["value"]
    left_out = picked(clone, "home-llm-legacy").left_out
    satellites = {intent for intent, reason in left_out if "voice satellite" in reason}
    assert satellites == {"HassStartTimer", "HassTimerStatus", "HassBroadcast"}


def test_what_only_a_satellite_can_do_comes_through_one(clone, tmp_path):
    rows = {row["kind"]: row for row in picked(clone, "assist").rows}
    for kind, area in (("HassStartTimer", "Den"), ("HassTimerStatus", "Den"), ("HassBroadcast", "Den")):
        assert f"The user is in the area {area} on the floor Upstairs." in rows[kind]["messages"][0]["content"]
        assert kind in {tool["function"]["name"] for tool in rows[kind]["tools"]}
        assert [message["role"] for message in rows[kind]["messages"]] == ["system", "user", "assistant"]
    assert "HassStartTimer" not in {tool["function"]["name"] for tool in rows["HassListCompleteItem"]["tools"]}
    start, status, broadcast = requests_of(
        [rows[kind] for kind in ("HassStartTimer", "HassTimerStatus", "HassBroadcast")], tmp_path
    )
    call = '<tool_call>{"name": "%s", "arguments": %s}</tool_call>'
    assert strict(start, call % ("HassStartTimer", '{"seconds": 60}'))
    assert not strict(start, call % ("HassStartTimer", '{"seconds": 61}'))
    assert strict(status, call % ("HassTimerStatus", "{}")) and not strict(status, "Three minutes.")
    assert strict(broadcast, call % ("HassBroadcast", '{"message": "Dinner is ready."}'))
    assert not strict(broadcast, call % ("HassBroadcast", '{"message": "Dinner is late."}'))


def test_a_client_that_does_not_say_where_the_user_is_has_no_timers(clone):
    found = picked(clone, "home-llm")
    assert not {"HassStartTimer", "HassBroadcast"} & {row["kind"] for row in found.rows}
    assert ("HassStartTimer", "home-llm has no timers or broadcasts of a voice satellite") in found.left_out


def test_questions_are_judged_by_state_or_by_response(clone, tmp_path):
    requests = requests_of(list(picked(clone, "home-llm").rows), tmp_path)
    by_text = {request.user_text: request for request in requests}
    pet = by_text["is the cat flap open"]
    assert strict(pet, "No.") and strict(pet, "It is closed.") and strict(pet, "No, closed")
    assert not strict(pet, "Yes.") and not strict(pet, "It is open.")
    which = by_text["which doors stand open"]
    assert strict(which, "The shed door.") and not strict(which, "Cat Flap") and not strict(which, "Both.")
    warm = by_text["how warm is it"]
    assert strict(warm, "21.5 degrees") and not strict(warm, "21 degrees")
    assert pet.covered and which.covered


def test_a_client_that_must_look_first_gets_a_turn_to_look(clone, tmp_path):
    rows = [row for row in picked(clone, "assist").rows if row["kind"] == "HassGetState"]
    look, answer = requests_of(rows[:1], tmp_path)
    assert [call.service for call in look.expected.calls] == ["GetLiveContext"]
    assert answer.case.says_the_answer and not look.case.says_the_answer


def test_data_intents_writes_the_rows_and_a_card_with_the_attribution(clone, tmp_path, capsys):
    assert main(["data", "--intents", str(clone), "--client", "home-llm-legacy", "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr()
    rows, card = map(Path, printed.out.split())
    assert json.loads(rows.read_text().splitlines()[0])["client"] == "home-llm-legacy"
    for text in (card.read_text(), printed.err):
        assert "Creative Commons Attribution 4.0" in text and "Home Assistant Authors" in text
        assert "HassStartTimer" in text
    assert card.read_text().startswith("---\nlicense: cc-by-4.0\n")


def test_data_intents_refuses_what_it_would_ignore(clone, tmp_path, capsys):
    assert main(["data", "--intents", str(clone), "--train", "--single-calls", "--out", str(tmp_path / "out")]) == 2
    assert "--intents: found --train, --single-calls beside it" in capsys.readouterr().err
    assert main(["data", "--intents", str(clone), "--client", "asist", "--out", str(tmp_path / "out")]) == 2
    assert "did you mean assist" in capsys.readouterr().err


def test_the_same_seed_writes_the_same_rows(clone, tmp_path):
    files = [write_test_set(clone, ["en"], "assist", tmp_path / name, 7).rows.read_bytes() for name in "ab"]
    assert files[0] == files[1]


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda folder: None, "accepted: a clone of home-assistant/intents"),
        (lambda folder: (folder / "tests" / "de" / "_fixtures.yaml").write_text("language: de"), "no tests of en"),
        (
            lambda folder: (folder / "tests" / "en" / "_fixtures.yaml").write_text("- 1"),
            "found list; accepted: a mapping",
        ),
    ],
)
def test_a_folder_that_cannot_be_used_is_refused_in_one_line(make, problem, tmp_path, capsys):
    for language in ("de", "en"):
        (tmp_path / "tests" / language).mkdir(parents=True)
    make(tmp_path)
    assert main(["data", "--intents", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert problem in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_test_in_another_form_is_named(clone):
    (clone / "tests" / "en" / "new.yaml").write_text("tests: [{sentences: [hi]}, {texts: [hi], intent: {name: X}}]")
    (clone / "tests" / "en" / "text.yaml").write_text("tests: [hi]")
    (clone / "tests" / "en" / "own.yaml").write_text("entities: [{id: light.a}]")
    with pytest.raises(BadInput) as refused:
        read_sentences(clone, "en")
    new, own, text = refused.value.problems
    assert "new.yaml: test 1: found another form; accepted: sentences, intent, slots" in new
    assert "own.yaml: entities: found another form; accepted: a list of name, and id or domain" in own
    assert "text.yaml: test 0: found another form" in text


@pytest.mark.parametrize(
    "fixtures", ["areas: [{name: Den}]", "areas: [Den]", "entities: [{name: Lamp}]", "entities: 1"]
)
def test_a_home_in_another_form_is_named(fixtures, clone):
    (clone / "tests" / "en" / "_fixtures.yaml").write_text(fixtures)
    with pytest.raises(BadInput, match=r"_fixtures\.yaml: (entities: )?found another form; accepted: "):
        read_sentences(clone, "en")


def test_the_marks_of_templates_are_left_out_of_names():
    assert [plain(name) for name in ("Ada[']s", "(Den|Study) Lamp", "[the] Fan")] == ["Ada's", "Den Lamp", "the Fan"]


def test_the_audit_takes_a_clone(clone, tmp_path):
    written = write_test_set(clone, ["en"], "assist", tmp_path / "out", 1)
    requests, names, _ = audit(written.rows, clone).overlaps
    assert len(requests.shared) == len({row["kind"] + str(row) for row in picked(clone, "assist").rows})
    assert len(names.shared) == names.distinct == 8


@real
@pytest.mark.parametrize(("client", "language"), [("home-llm-legacy", "english"), ("home-llm", "german")])
def test_the_real_sentences_are_about_300_of_every_intent_and_their_answers_are_right(client, language, tmp_path):
    rows = picked(SHARED, client, language).rows
    assert 270 <= len(rows) <= MOST_OF_A_LANGUAGE
    kinds = Counter(row["kind"] for row in rows)
    assert len(kinds) >= 12 and min(kinds.values()) >= 1
    assert sum(row["covered"] for row in rows) / len(rows) > 0.8
    wrong = [request for request in requests_of(list(rows), tmp_path) if not strict(request, request.reply)]
    assert [(request.user_text, request.reply) for request in wrong] == []
