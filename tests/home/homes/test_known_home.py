"""A user's real home: read from YAML or an export, with its devices referred to by their own names."""

import json
from pathlib import Path

import pytest

from hatrain.errors import BadInput
from hatrain.home.clients import CLIENTS
from hatrain.home.clients.guide import Guide
from hatrain.home.generate.dataset import Chunks, Recipe
from hatrain.home.homes.home_file import read_home
from hatrain.home.homes.known_home import KnownHome
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


def test_every_row_lists_all_devices_in_the_files_order_below_its_own_prompt(tmp_path: Path) -> None:
    chunks = Chunks(Recipe(home=home_file(tmp_path, HOME)), "train")
    for line in chunks.chunk(0)[0].splitlines():
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


def test_a_device_is_referred_to_in_the_languages_words_where_it_knows_the_name(tmp_path: Path) -> None:
    language = load_language(find_language("english"))
    home = KnownHome(language, read_home(home_file(tmp_path, HOME)), Guide())
    references = {name.entity_id: name.references for name in home.names}
    assert references["light.k1"][0]["the"] == "the kitchen light"
    assert references["light.k1"][1]["the"] == "the light in the kitchen"
    assert references["cover.k"][0]["the"] == "the Serving Hatch"
    rooms = {name.entity_id: name.room.forms["in"] if name.room else None for name in home.names}
    assert rooms == {
        "lock.front": None,
        "light.k1": "in the kitchen",
        "cover.k": "in the kitchen",
        "light.den": "in the Robbie's Den",
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("device: {light.a: A}", "home.yaml:1: device: unknown key; accepted: .*did you mean devices"),
        ("devices: {lihgt.a: A}", "home.yaml:1: .*'lihgt.a'; accepted: an entity id of .*did you mean light"),
        ("devices: {light.a: A, light.a: B}", "home.yaml:1: devices.light.a: given twice"),
        (
            "devices: {light.a: {nme: A}}",
            "light.a.nme: unknown key; accepted: name, position, aliases; did you mean name",
        ),
        (
            "areas: {Hall: {light.a: A}}\ndevices:\n  light.a: B",
            "home.yaml:1: areas.Hall.light.a: given twice",
        ),
        (
            "temperature_unit: K\ndevices: {light.a: A}",
            "home.yaml:1: temperature_unit: found 'K'; accepted: C | F",
        ),
        ("devices: {cover.a: {name: A, position: so}}", "position: found 'so'; accepted: true or false"),
        ("devices: {light.a: }", "home.yaml:1: devices.light.a: found nothing"),
        ("devices: {}", "no device that takes requests"),
        ("devices: {sensor.a: A}", "no device that takes requests .accepted domains: [^)]*light"),
        ("", "home.yaml: empty"),
        ("- light.a", "home.yaml: found a list; accepted: a mapping"),
        ("areas: [Hall]", "home.yaml:1: areas: found a list; accepted: a mapping"),
        ("devices: {light.a: [", "home.yaml:2: not YAML"),
    ],
)
def test_a_mistake_in_a_home_file_is_named(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(BadInput, match=expected):
        read_home(home_file(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [("[", "not JSON"), ('{"a": 1}', "accepted: a list of states"), ("[]", "found no entities in it")],
)
def test_json_that_home_assistant_does_not_export_is_refused(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(BadInput, match=expected):
        read_home(home_file(tmp_path, text, "states.json"))


def test_a_home_of_which_a_client_lists_nothing_is_refused(tmp_path: Path) -> None:
    home = read_home(home_file(tmp_path, "devices: {script.a: A}"))
    with pytest.raises(BadInput, match="--home: no device that a model is shown with --client assist"):
        KnownHome(load_language(find_language("english")), home, CLIENTS["assist"])


def test_pairs_for_a_home_of_which_a_client_lists_only_sensors_are_refused(tmp_path: Path) -> None:
    home = home_file(tmp_path, "devices: {script.a: A, sensor.b: B}")
    chunks = Chunks(Recipe(client="assist", home=home), "dpo")
    with pytest.raises(BadInput, match=r"^--dpo: no request to this home .* its devices: sensor\.b$"):
        chunks.chunk(0)


def test_a_missing_home_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"home\.yaml: no such file"):
        read_home(tmp_path / "home.yaml")
