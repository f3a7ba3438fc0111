"""The audit tells which of Home Assistant's own sentences the generator can draw."""

from pathlib import Path

import pytest

from hatrain.cli import main
from hatrain.home.clients import CLIENTS
from hatrain.home.intents.clone import is_clone, read_sentences
from hatrain.home.intents.coverage import Coverage, Drawn, bigrams, coverage, words
from hatrain.home.intents.coverage_report import report
from hatrain.home.intents.shape import Shape, make_shape, shape_of
from hatrain.home.language.load import find_language, load_language

SHARED = Path(__file__).parents[4] / "shared" / "intents"
real = pytest.mark.skipif(not is_clone(SHARED), reason="needs a clone of home-assistant/intents beside the repository")

FIXTURES = """
language: en
areas: [{name: Den, id: den}]
entities:
  - {name: Den Lamp, id: light.den, area: den, state: "off"}
  - {name: Left Shade, id: cover.left, area: den, state: open, attributes: {device_class: blind}}
"""
TESTS = """
language: en
tests:
  - sentences: [den lamp on]
    intent: {name: HassTurnOn, slots: {name: Den Lamp}}
  - sentences: [shade down]
    intent: {name: HassTurnOff, slots: {name: left shade}}
  - sentences: [half light]
    intent: {name: HassLightSet, context: {area: Den}, slots: {area: Den, brightness: 50}}
  - sentences: [half light in the hall]
    intent: {name: HassLightSet, context: {area: Den}, slots: {area: Hall, brightness: 50}}
  - sentences: [lights on up there]
    intent: {name: HassTurnOn, context: {area: Den}, slots: {floor: Attic, domain: light}}
  - sentences: [a timer of an hour and a minute]
    intent: {name: HassStartTimer, slots: {hours: 1, minutes: 1}}
  - sentences: [a minute more on the hour timer]
    intent: {name: HassIncreaseTimer, slots: {minutes: 1, start_hours: 1}}
  - sentences: [put pears on the shopping list]
    intent: {name: HassShoppingListAddItem, slots: {item: pears}}
  - sentences: [is a battery low]
    intent: {name: HassGetState, slots: {domain: binary_sensor, device_class: battery, state: "on"}}
  - sentences: [forget it]
    intent: {name: HassNevermind}
"""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    tests = tmp_path / "intents" / "tests" / "en"
    tests.mkdir(parents=True)
    (tests / "_fixtures.yaml").write_text(FIXTURES)
    (tests / "all.yaml").write_text(TESTS)
    return tmp_path / "intents"


def test_a_shape_says_intent_domain_and_what_is_said(clone: Path) -> None:
    tests = read_sentences(clone, "en")
    assert [str(shape_of(block, tests)) for block in tests.blocks] == [
        "HassTurnOn light name",
        "HassTurnOff cover.blind name",
        "HassLightSet light brightness+here",
        "HassLightSet light area+brightness",
        "HassTurnOn light floor",
        "HassStartTimer - duration",
        "HassIncreaseTimer - duration+start",
        "HassListAddItem todo item",
        "HassGetState binary_sensor.battery -",
        "HassNevermind - -",
    ]


def test_only_what_was_drawn_is_covered_and_what_is_missing_is_shown_with_an_example() -> None:
    lamp, lock = make_shape("HassTurnOn", ["name"], "light"), make_shape("HassGetState", ["name"], "lock")
    requests = frozenset({words("Lamp on!"), words("the lamp")})
    pairs = frozenset(pair for request in requests for pair in bigrams(request))
    sentences = (("lamp on", lamp), ("the lamp on", lamp), ("locked", lock))
    lines = list(report(Coverage("english", "assist", 2, sentences, Drawn(frozenset({lamp}), requests, pairs))))
    assert "  service sentences covered: 2 of 2 (100.0%)" in lines
    assert "  all sentences covered: 2 of 3 (66.7%)" in lines
    assert "  known bigrams: 77.8%" in lines  # 7 of 9: not the edges of "locked"
    assert lines[lines.index("  verbatim matches: 1 (never copy tests into the tables)") + 1] == "    lamp on"
    assert lines[-1] == "      1  HassGetState lock name: locked"


def test_drawn_requests_have_the_shapes_of_sentences(clone: Path) -> None:
    english = load_language(find_language("english"))
    found = coverage(clone, english, CLIENTS["assist"], 1500, 42)
    assert found.covered(Shape("HassTurnOn", "light", frozenset({"name"})))
    assert found.covered(Shape("HassLightSet", "light", frozenset({"area", "brightness"})))
    assert not found.covered(Shape("HassTurnOn", "light", frozenset({"name", "item"})))
    assert found.drawn == coverage(clone, english, CLIENTS["assist"], 1500, 42).drawn


@real
@pytest.mark.parametrize("language", ["en", "de"])
def test_home_assistants_sentences_are_audited(language: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "--audit", "--intents", str(SHARED), "--language", language, "--rows", "300"]) == 0
    printed = capsys.readouterr()
    assert "service sentences covered" in printed.out and "by domain" in printed.out
    assert "verbatim matches" in printed.out
    assert "300 of 300 rows" in printed.err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--audit", "one.jsonl"], "--audit: found 1 datasets; accepted: two, or none with --intents DIR"),
        (["--rows", "9"], "--rows: needs --audit --intents DIR"),
        (["--audit", "--intents", "CLONE", "--rows", "0"], "--rows: found 0, accepted: 1 or more"),
        (["--audit", "--intents", "CLONE", "--train"], "--audit --intents: found --train beside it"),
        (["--audit", "--intents", "CLONE", "--language", "pl"], "no tests of pl; accepted: en"),
        (["--audit", "--intents", "CLONE/tests"], "accepted: a clone of home-assistant/intents"),
    ],
)
def test_bad_input_is_one_line(flags: list[str], message: str, clone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", *(flag.replace("CLONE", str(clone)) for flag in flags)]) == 2
    printed = capsys.readouterr().err.strip()
    assert message in printed and "\n" not in printed
