"""A home that somebody has: read from YAML or an export, spoken of by its own names."""

import json
from pathlib import Path

import pytest

from hatrain.errors import BadInput
from hatrain.home.generate.dataset import Recipe, Writer
from hatrain.home.homes.known_home import KnownHome, read_home
from hatrain.home.language.load import find_language, load_language

HOME = """
areas:
  Kitchen: {light.k1: Kitchen Light, cover.k: {name: Serving Hatch, position: no}}
  Robbie's Den: {light.den: Den Lamp}
devices: {lock.front: Front Door}
prompt: You run our house.
temperature_unit: F
"""


def home_file(tmp_path: Path, text: str, name: str = "home.yaml") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def test_every_row_lists_the_whole_home_in_its_order_under_its_own_prompt(tmp_path: Path) -> None:
    writer = Writer(Recipe(home=home_file(tmp_path, HOME)), "train")
    for line in writer.stretch(0)[0].splitlines():
        prompt = json.loads(line)["conversations"][0]["value"]
        assert prompt.startswith("You run our house.\nThe current time")
        listed = prompt.partition("Devices:\n")[2].splitlines()
        assert [line.partition(" = ")[0] for line in listed] == [
            "lock.front 'Front Door'",
            "light.k1 'Kitchen Light'",
            "cover.k 'Serving Hatch'",
            "light.den 'Den Lamp'",
        ]
        assert "%" not in listed[2]


def test_a_name_that_the_language_knows_is_spoken_of_as_usual_and_others_by_name(tmp_path: Path) -> None:
    language = load_language(find_language("english"))
    home = KnownHome(language, read_home(home_file(tmp_path, HOME)))
    said = {name.entity_id: name.said for name in home.names}
    assert said["light.k1"][0]["the"] == "the kitchen light"
    assert said["light.k1"][1]["the"] == "the light in the kitchen"
    assert said["cover.k"][0]["the"] == "the Serving Hatch"
    rooms = {name.entity_id: name.room.forms["in"] if name.room else None for name in home.names}
    assert rooms == {
        "lock.front": None,
        "light.k1": "in the kitchen",
        "cover.k": "in the kitchen",
        "light.den": "in the Robbie's Den",
    }


def test_the_states_that_home_assistant_lists_are_a_home(tmp_path: Path) -> None:
    states = [
        {"entity_id": "light.sofa", "state": "on", "attributes": {"friendly_name": "Sofa Light"}},
        {"entity_id": "cover.gate", "state": "open", "attributes": {"friendly_name": "Gate"}},
        {
            "entity_id": "cover.blind",
            "state": "open",
            "attributes": {"friendly_name": "Blind", "current_position": 3},
        },
        {"entity_id": "sensor.rain", "state": "0", "attributes": {"friendly_name": "Rain"}},
    ]
    home = read_home(home_file(tmp_path, json.dumps(states), "states.json"))
    assert [(device.entity_id, device.name, device.positioned) for device in home.devices] == [
        ("light.sofa", "Sofa Light", True),
        ("cover.gate", "Gate", False),
        ("cover.blind", "Blind", True),
    ]
    assert home.left_out == ("sensor.rain",)


def test_an_entity_registry_is_a_home_without_what_is_disabled(tmp_path: Path) -> None:
    entities = [
        {
            "entity_id": "light.a",
            "name": None,
            "original_name": "Ceiling",
            "area_id": "living_room",
            "disabled_by": None,
        },
        {"entity_id": "switch.b_plug", "name": None, "original_name": None, "area_id": None},
        {"entity_id": "fan.c", "name": "Fan", "area_id": None, "disabled_by": "user"},
    ]
    home = read_home(
        home_file(tmp_path, json.dumps({"data": {"entities": entities}}), "core.entity_registry")
    )
    assert [(device.entity_id, device.name, device.area) for device in home.devices] == [
        ("light.a", "Ceiling", "living room"),
        ("switch.b_plug", "B plug", None),
    ]
    assert home.left_out == ("fan.c",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("device: {light.a: A}", "home.yaml:1: device: not a key of a home .*did you mean devices"),
        ("devices: {lihgt.a: A}", "home.yaml:1: lihgt.a: not an entity id of .*did you mean light"),
        ("devices: {light.a: A, light.a: B}", "home.yaml:1: light.a: given twice"),
        ("devices: {light.a: {nme: A}}", "home.yaml:1: light.a: accepted: a name, or {name, position}"),
        ("areas: {Hall: {light.a: A}}\ndevices:\n  light.a: B", "home.yaml:3: light.a: given twice|light.a"),
        ("temperature_unit: K\ndevices: {light.a: A}", "temperature_unit: found K, accepted: C, F"),
        ("devices: {}", "no devices that can be asked for anything"),
        ("- light.a", "not a home"),
        ("areas: [Hall]", "areas: not a mapping"),
        ("devices: {light.a: [", "not YAML"),
    ],
)
def test_a_mistake_in_a_home_is_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        read_home(home_file(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "said"), [("[", "not JSON"), ('{"a": 1}', "neither a list of states"), ("[]", "no devices")]
)
def test_an_export_that_is_none_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        read_home(home_file(tmp_path, text, "states.json"))


def test_a_home_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"home\.yaml: cannot be read"):
        read_home(tmp_path / "home.yaml")
