"""An answer says what is asked if it says the value in the language's words, and no other value of it."""

import pytest

from hatrain.errors import BadInput
from hatrain.home.devices.entity import Entity
from hatrain.home.judge.asked import Asked, read_asked
from hatrain.home.judge.sayings import sayings_of

HOME = (
    Entity("light.desk", "On Air Lamp", "on", aliases=("Desk 40",)),
    Entity("climate.den", "Den", "heat"),
    Entity("sensor.out", "Outside", "21.47", {"unit_of_measurement": "°C"}),
    Entity("lock.front", "Front Door", "locked"),
    Entity("lock.back", "Back Door", "unlocked"),
)
DOOR = {"off": ["closed"], "on": ["open"]}

# language, entity, key, value, answers that say it, answers that do not
CASES = [
    ("en", "light.desk", "state", "on", ["It is on.", "Lit.", "It is **on**."], ["It is off.", "The On Air Lamp."]),
    ("en", "light.desk", "state", "off", ["It's off.", "It is not on."], ["It is on.", "On, not off."]),
    ("de", "light.desk", "state", "on", ["Die Lampe ist an.", "Sie leuchtet."], ["Sie ist aus.", "Sie ist nicht an."]),
    ("fr", "light.desk", "state", "on", ["Elle est allumée."], ["Elle est éteinte.", "Elle n'est pas allumée."]),
    ("es", "light.desk", "state", "off", ["Está apagada."], ["Está encendida.", "No está apagada."]),
    ("pl", "light.desk", "state", "on", ["Lampa jest włączona.", "Świeci."], ["Jest wyłączona.", "Nie świeci."]),
    ("en", "lock.x", "state", "unlocked", ["It is unlocked.", "It's not locked."], ["It is locked."]),
    ("en", "cover.x", "state", "opening", ["It is opening.", "It is opening, half open."], ["It is closing."]),
    ("en", "media_player.x", "state", "idle", ["It's on, but nothing is playing."], ["It is playing."]),
    ("en", "vacuum.x", "state", "docked", ["It is docked."], ["It is on the way back to the dock."]),
    ("en", "climate.den", "state", "heat", ["It is in heating mode."], ["It is in cooling mode.", "It is off."]),
    ("de", "climate.den", "state", "off", ["Die Heizung ist aus."], ["Sie läuft im Heizbetrieb."]),
    ("en", "light.desk", "brightness", 102, ["It is at 40%.", "40 percent", "brightness 40"], ["It's at 41%.", "102"]),
    ("en", "light.desk", "brightness", 100, ["It is at 39%.", "39.2 percent"], ["It is at 40%."]),
    ("en", "light.desk", "brightness", 128, ["Desk 40 is at 50%."], ["Desk 40.", "It is at 40% or 50%."]),
    ("de", "climate.den", "current_temperature", 21.5, ["21,5 Grad", "Es sind 21.5 °C."], ["21 Grad", "21,5 %"]),
    ("en", "climate.den", "current_temperature", 21.2, ["21.2 degrees", "It is 21.2°C."], ["21 degrees", "21.4 °C"]),
    ("en", "climate.den", "temperature", 21, ["Set to 21 degrees."], ["Set to 21.2 degrees.", "Set to 20."]),
    ("en", "media_player.x", "volume_level", 0.4, ["The volume is 40%."], ["The volume is 4%."]),
    ("pl", "media_player.x", "volume_level", 0.4, ["Głośność to 40 procent."], ["Głośność to 45 procent."]),
    ("en", "timer.x", "remaining", "0:05:00", ["five minutes left", "5 minutes", "00:05:00"], ["50 minutes", "soon"]),
    ("en", "timer.x", "remaining", "1:30:00", ["1 hour and 30 minutes", "an hour and a half"], ["an hour"]),
    ("fr", "timer.x", "remaining", "0:10:00", ["Il reste 10 minutes."], ["Il reste 1 minute."]),
    ("en", "light.desk", "rgb_color", [0, 0, 128], ["It is navy blue."], ["It is blue.", "It is red."]),
    ("de", "light.desk", "rgb_color", [255, 0, 0], ["Sie leuchtet rot."], ["Sie leuchtet grün.", "nicht rot"]),
    ("en", "climate.den", "fan_mode", "low", ["The fan is set to low."], ["The fan is set to high."]),
    ("en", "media_player.x", "media_title", "Take Five", ["That's Take Five."], ["That's Blue in Green."]),
    ("en", "sensor.out", "state", "21.47", ["21.47 °C"], ["21 °C", "It is warm."]),
    ("en", "todo.x", "state", "3", ["3 things on it"], ["4 things on it"]),
    ("en", "person.x", "state", "not_home", ["She is away.", "She is not home."], ["She is at home."]),
    ("en", "lock.x", "state", "jammed", ["It is jammed."], ["It is locked."]),
]  # fmt: skip


@pytest.mark.parametrize(("language", "about", "key", "value", "right", "wrong"), CASES)
def test_an_answer_says_the_value_and_no_other(language, about, key, value, right, wrong):
    asked = Asked(about, key, value)
    said = {text: sayings_of(language).problem(text, asked, [asked], HOME) for text in (*right, *wrong)}
    assert {text for text, problem in said.items() if problem is None} == set(right), said
    assert all("\n" not in problem for problem in said.values() if problem)


def test_the_values_of_other_parts_of_a_question_may_be_said_too():
    both = [Asked("climate.den", "temperature", 21), Asked("climate.den", "current_temperature", 19.5)]
    for asked in both:
        assert sayings_of("en").problem("It is 19.5 degrees, set to 21 degrees.", asked, both, HOME) is None
    assert sayings_of("en").problem("It is 19.5 degrees, set to 21 degrees.", both[0], both[:1], HOME)


@pytest.mark.parametrize(
    ("value", "supposed", "right", "wrong"),
    [
        ("off", "off", ["Yes.", "Yes, it is closed.", "It is closed."], ["No.", "It is open.", "Sure thing."]),
        ("off", "on", ["No.", "No, closed.", "It's not open."], ["Yes.", "It is open."]),
    ],
)
def test_a_yes_or_no_counts_where_the_question_supposes_a_value(value, supposed, right, wrong):
    asked = Asked("binary_sensor.door", "state", value, supposed, DOOR)
    for text in right:
        assert sayings_of("en").problem(text, asked, [asked], HOME) is None, text
    for text in wrong:
        assert sayings_of("en").problem(text, asked, [asked], HOME), text


@pytest.mark.parametrize(
    ("response", "right", "wrong"),
    [
        ("Yes", ["Yes.", "Yes, the Front Door is locked."], ["No.", "Maybe."]),
        ("No, Back Door is not", ["No.", "The Back Door is not."], ["Yes."]),
        (
            "Front Door",
            ["The front door.", "That's the Front Door"],
            ["The Back Door", "Front Door and Back Door", "None"],
        ),
        ("Front Door and Back Door", ["Back Door, Front Door"], ["The Front Door"]),
        ("6:30 PM", ["At 18:30.", "It rings at 6:30 PM"], ["At 18:31.", "At 7:30 PM", "Soon."]),
        ("2", ["2 of them", "There are 2"], ["3", "none"]),
        ("Not any", ["None of them.", "No lock is open."], ["The Front Door", "All of them"]),
    ],
)
def test_a_question_about_several_devices_is_compared_with_the_response(response, right, wrong):
    asked = Asked("lock", "response", response)
    for text in right:
        assert sayings_of("en").problem(text, asked, [asked], HOME) is None, text
    for text in wrong:
        assert sayings_of("en").problem(text, asked, [asked], HOME), text


def test_a_state_that_contradicts_the_expected_answer_is_told():
    sayings = sayings_of("en")
    assert sayings.contradicts("It is off already.", "It is already on.", "light") == "off"
    assert sayings.contradicts("It is on.", "It is already on.", "light") is None
    assert sayings.contradicts("Nothing to do.", "It is already on.", "light") is None
    assert sayings.contradicts("It is on.", "It is off.", "climate") == "on"


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ({}, "asked: found dict; accepted: a list"),
        ([1], "entry 0: found 1; accepted: {about, key, value}"),
        ([{"about": "a.b", "key": "state"}], "entry 0: value: missing"),
        ([{"about": "a.b", "key": "", "value": 1}], "entry 0: key: found ''"),
        ([{"about": "a.b", "key": "x", "value": 1, "whom": 2}], "entry 0: whom: not a key; accepted: about, key"),
    ],
)
def test_what_is_asked_in_another_form_is_refused_in_one_line(value, problem):
    with pytest.raises(BadInput) as refused:
        read_asked(value, "rows.jsonl:3")
    (line,) = refused.value.problems
    assert line.startswith("rows.jsonl:3: ") and problem in line


def test_a_language_without_a_folder_has_no_sayings():
    assert sayings_of("klingon") is None
    assert sayings_of("german") is sayings_of("german") is not None
