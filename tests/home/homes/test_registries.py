"""What Home Assistant stores, read as a home: names, areas, aliases, what is exposed, and what devices can do."""

import json
from pathlib import Path
from typing import Any

import pytest

from hatrain.cli import main
from hatrain.errors import BadInput
from hatrain.home.clients.guide import Guide
from hatrain.home.devices.abilities import ANY, abilities
from hatrain.home.generate.dataset import Chunks, Recipe
from hatrain.home.homes.home_file import HomeFile, read_home
from hatrain.home.homes.known_home import KnownHome
from hatrain.home.language.load import find_language, load_language

CASES = Path(__file__).parents[4] / "shared" / "cases"


def entity(entity_id: str, **parts: Any) -> dict[str, Any]:
    return {"entity_id": entity_id, "name": None, "original_name": None, "area_id": None, "device_id": None, **parts}


def store(folder: Path, key: str, records: str, found: Any, suffix: str = "") -> Path:
    path = folder / f"{key}{suffix}"
    path.write_text(json.dumps({"version": 1, "key": key, "data": {records: found}}))
    return path


@pytest.fixture
def registries(tmp_path):
    """Writes registries into a folder: entities, and devices, areas and floors where they are given."""

    def write(entities, devices=None, areas=None, floors=None, suffix="") -> Path:
        path = store(tmp_path, "core.entity_registry", "entities", entities, suffix)
        for key, found in (("device", devices), ("area", areas), ("floor", floors)):
            if found is not None:
                store(tmp_path, f"core.{key}_registry", f"{key}s", found, suffix)
        return path

    return write


def names(home: HomeFile) -> dict[str, tuple[str, str | None, str | None]]:
    return {device.entity_id: (device.name, device.area, device.floor) for device in home.devices}


DEVICES = [
    {"id": "d1", "name": "Shelly 1", "name_by_user": "Kitchen Ceiling", "area_id": "kitchen"},
    {"id": "d2", "name": "Desk Lamp", "name_by_user": None, "area_id": "office"},
]
AREAS = [
    {"id": "kitchen", "name": "The Kitchen", "floor_id": "ground"},
    {"id": "office", "name": "Office", "floor_id": None},
]
FLOORS = [{"floor_id": "ground", "name": "Ground Floor"}]


def test_names_and_areas_come_from_the_device_where_the_entity_has_none(registries):
    path = registries(
        [
            entity("light.a", original_name="Light", device_id="d1", has_entity_name=True),
            entity("light.b", device_id="d2", has_entity_name=True),
            entity("switch.c", original_name="Old Plug", device_id="d2", has_entity_name=False, area_id="kitchen"),
            entity("switch.d", name="My Plug", original_name="Plug", device_id="d1", has_entity_name=True),
            entity("fan.attic_fan"),
        ],
        DEVICES,
        AREAS,
        FLOORS,
    )
    home = read_home(path)
    assert names(home) == {
        "light.a": ("Kitchen Ceiling Light", "The Kitchen", "Ground Floor"),
        "light.b": ("Desk Lamp", "Office", None),
        "switch.c": ("Old Plug", "The Kitchen", "Ground Floor"),
        "switch.d": ("My Plug", "The Kitchen", "Ground Floor"),
        "fan.attic_fan": ("Attic fan", None, None),
    }
    assert home.notes == ()


@pytest.mark.parametrize("place", [".", ".storage"])
def test_a_folder_with_the_registries_and_the_states_is_read(tmp_path, registries, place):
    registries([entity("light.a", original_name="Light", device_id="d1", has_entity_name=True)], DEVICES, AREAS, FLOORS)
    if place == ".storage":
        (tmp_path / "config" / place).mkdir(parents=True)
        for path in tmp_path.glob("core.*"):
            path.rename(tmp_path / "config" / place / path.name)
    states = [{"entity_id": "light.a", "state": "on", "attributes": {"friendly_name": "Ceiling"}}]
    folder = tmp_path / "config" if place == ".storage" else tmp_path
    (folder / "states.json").write_text(json.dumps(states))
    assert names(read_home(folder)) == {"light.a": ("Ceiling", "The Kitchen", "Ground Floor")}


def test_other_files_of_the_store_are_not_opened(tmp_path, registries):
    registries([entity("light.a", name="A")], DEVICES, AREAS)
    (tmp_path / "auth").mkdir()  # a folder cannot be read as a file
    (tmp_path / "core.config_entries").write_text("{not JSON")
    assert names(read_home(tmp_path)) == {"light.a": ("A", None, None)}


def test_exports_named_json_are_found_beside_each_other(registries):
    path = registries([entity("light.a", device_id="d2", has_entity_name=True)], DEVICES, AREAS, suffix=".json")
    assert names(read_home(path)) == {"light.a": ("Desk Lamp", "Office", None)}


def exposed(choice: bool | None) -> dict[str, Any]:
    return {"options": {} if choice is None else {"conversation": {"should_expose": choice}}}


def test_only_exposed_entities_are_in_the_home(registries):
    home = read_home(
        registries(
            [
                entity("light.chosen", **exposed(True)),
                entity("light.refused", **exposed(False)),
                entity("light.by_default", **exposed(None)),
                entity("lock.not_by_default", **exposed(None)),
                entity("lock.chosen", **exposed(True), hidden_by="user"),
                entity("light.hidden", hidden_by="user"),
                entity("switch.setting", entity_category="config"),
                entity("light.disabled", disabled_by="user", **exposed(True)),
            ]
        )
    )
    assert [device.entity_id for device in home.devices] == ["light.chosen", "light.by_default", "lock.chosen"]
    (note,) = home.notes
    assert note.startswith("entities that take no requests or are not exposed are left out: 5 (light.disabled, ")


def test_sensors_that_share_a_name_are_left_out_and_said(registries):
    twins = [entity(f"sensor.{each}", original_name="Temperature", **exposed(True)) for each in "ab"]
    home = read_home(registries([entity("light.a", original_name="Lamp"), *twins]))
    assert [device.entity_id for device in home.devices] == ["light.a"]
    assert "sensors that share a name are left out: 2 (sensor.a, sensor.b)" in home.notes


def test_choices_for_entities_that_are_in_no_registry_are_read(tmp_path):
    chosen = {"light.a": {"assistants": {"conversation": {"should_expose": False}}}}
    store(tmp_path, "homeassistant.exposed_entities", "exposed_entities", chosen)
    states = [{"entity_id": f"light.{name}", "state": "on", "attributes": {}} for name in "ab"]
    (tmp_path / "states.json").write_text(json.dumps(states))
    assert [device.entity_id for device in read_home(tmp_path).devices] == ["light.b"]


def test_aliases_are_used_in_requests(registries):
    path = registries([entity("light.a", name="Spotlight", aliases=["Beam", None, " "])])
    home = read_home(path)
    assert home.devices[0].aliases == ("Beam",)
    (name,) = KnownHome(load_language(find_language("english")), home, Guide()).names
    assert {reference["the"] for reference in name.references} == {"the Spotlight", "the Beam"}


def test_missing_registries_are_said(registries):
    path = registries([entity("light.a", original_name="Light", device_id="d1", has_entity_name=True, area_id="den")])
    notes = read_home(path).notes
    assert notes == (
        "without core.device_registry the names of 1 entity are only a part of them, and areas that belong to devices "
        "are not known; put it beside core.entity_registry",
        "without core.area_registry areas are named by their ids; put it beside core.entity_registry",
    )


def test_the_registry_that_users_reported():
    if not CASES.is_dir():
        pytest.skip("no ../shared/cases")
    with pytest.raises(BadInput) as caught:
        read_home(CASES / "entity-registry/registry.json")
    assert "light.shelly_kitchen_ceiling and light.shelly_bedroom_ceiling: found one name, 'Light'" in str(caught.value)


# --- what devices can do -------------------------------------------------------------------------------------


def test_a_list_of_states_says_names_and_what_devices_can_do(tmp_path):
    def state(entity_id: str, name: str, **attributes: Any) -> dict[str, Any]:
        return {"entity_id": entity_id, "state": "on", "attributes": {"friendly_name": name, **attributes}}

    path = tmp_path / "states.json"
    path.write_text(
        json.dumps(
            [
                state("light.sofa", "Sofa Light", supported_color_modes=["brightness"]),
                state("light.plug", "Plug Light", supported_color_modes=["onoff"]),
                state("light.strip", "Strip", supported_color_modes=["color_temp", "hs"]),
                state("cover.gate", "Gate", supported_features=3),
                state("cover.blind", "Blind", supported_features=15),
                state("climate.x", "Heater", hvac_modes=["off", "heat"], min_temp=7, max_temp=25, supported_features=1),
                state("update.core", "Core"),
            ]
        )
    )
    home = read_home(path)
    able = {device.entity_id: device.abilities for device in home.devices}
    assert {name: found.lacks for name, found in able.items() if name != "climate.x"} == {
        "light.sofa": {"color"},
        "light.plug": {"brightness", "color"},
        "light.strip": set(),
        "cover.gate": {"position", "cover.stop_cover"},
        "cover.blind": set(),
    }
    assert able["climate.x"].takes("hvac_mode", "heat") and not able["climate.x"].takes("hvac_mode", "cool")
    assert able["climate.x"].takes("temperature", 25) and not able["climate.x"].takes("temperature", 25.5)
    assert able["climate.x"].lacks == {"humidity", "fan_mode", "climate.turn_on", "climate.turn_off"}
    assert home.notes == ("entities that take no requests or are not exposed are left out: 1 (update.core)",)


def test_attributes_say_what_the_device_states_and_nothing_that_it_lacks():
    usual = {"fan_modes": ["auto"], "hvac_modes": ["off", "heat", "cool"], "min_temp": 7, "max_temp": 35}
    stated = {"supported_features": 1, "hvac_modes": ["heat", "off"], "min_temp": 0}
    assert abilities("climate", stated).attributes("climate", usual) == {
        "hvac_modes": ("heat", "off"),
        "min_temp": 0,
        "max_temp": 35,
    }
    assert ANY.attributes("climate", usual) == usual
    dimmer = abilities("light", {"supported_color_modes": ["brightness"]})
    assert dimmer.attributes("light", {"supported_color_modes": ["rgb"]}) == {"supported_color_modes": ["brightness"]}


def test_capabilities_of_the_registry_count_where_there_is_no_state(registries):
    path = registries(
        [
            entity("light.a", capabilities={"supported_color_modes": ["onoff"]}, supported_features=0),
            entity("media_player.b", supported_features=16384 | 4),
        ]
    )
    light, player = (device.abilities.lacks for device in read_home(path).devices)
    assert light == {"brightness", "color"}
    assert "media_player.media_next_track" in player
    assert "media_player.volume_up" not in player  # done by setting the volume


def test_requests_and_states_stay_within_what_devices_can_do(tmp_path):
    def state(entity_id: str, name: str, **attributes: Any) -> dict[str, Any]:
        return {"entity_id": entity_id, "state": "off", "attributes": {"friendly_name": name, **attributes}}

    (tmp_path / "states.json").write_text(
        json.dumps(
            [
                state("light.dim", "Sofa Light", supported_color_modes=["brightness"]),
                state("light.plug", "Plug Light", supported_color_modes=["onoff"]),
                state("cover.gate", "Gate", supported_features=3),
                state(
                    "climate.x", "Heater", hvac_modes=["off", "heat"], min_temp=18, max_temp=20, supported_features=385
                ),
                state("media_player.tv", "Television", supported_features=16384 | 1 | 128 | 256),
            ]
        )
    )
    chunks = Chunks(Recipe(home=tmp_path, client="guide"), "train")
    rows = [json.loads(line)["conversations"] for number in range(8) for line in chunks.chunk(number)[0].splitlines()]
    prompts = {line for row in rows for line in row[0]["value"].splitlines()}
    states: dict[str, set[str]] = {}
    for line in prompts:
        if " = " in line and line.split(" ")[0] in ("light.dim", "light.plug", "cover.gate", "climate.x"):
            states.setdefault(line.split(" ")[0], set()).add(line.partition(" = ")[2])
    assert states["light.plug"] == {"on", "off"}
    assert all(text == "off" or text.endswith("%") for text in states["light.dim"])
    assert states["cover.gate"] == {"open", "closed", "opening", "closing"}
    assert {text.partition(";")[0] for text in states["climate.x"]} == {"off", "heat"}
    assert not any("fan=" in text for text in states["climate.x"])

    calls = [
        json.loads(line)
        for row in rows
        for turn in row
        if turn["from"] == "gpt"
        for line in turn["value"].splitlines()
        if line.startswith("{")
    ]
    made = {(call["target_device"], call["service"]) for call in calls}
    arguments = {(call["target_device"], key) for call in calls for key in call}
    assert ("light.dim", "brightness_pct") in arguments and ("light.dim", "color_name") not in arguments
    assert ("light.plug", "brightness_pct") not in arguments
    assert not made & {("cover.gate", "cover.set_cover_position"), ("cover.gate", "cover.stop_cover")}
    assert {service for name, service in made if name == "media_player.tv"} <= {
        f"media_player.{verb}" for verb in ("turn_on", "turn_off", "media_play", "media_pause")
    }
    targets = {call["temperature"] for call in calls if "temperature" in call}
    assert targets and all(18 <= target <= 20 for target in targets)
    assert {call["hvac_mode"] for call in calls if "hvac_mode" in call} <= {"off", "heat"}


# --- devices that nobody can tell apart ---------------------------------------------------------------------


def home_file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "home.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("areas: {Hall: {light.a: Lamp, light.b: lamp}}", "light.a and light.b"),
        ("areas: {Hall: {light.a: Lamp, switch.b: Lamp}}", "light.a and switch.b"),
        ("areas: {Hall: {light.a: Lamp}}\ndevices: {light.b: Lamp}", "light.b and light.a"),
    ],
    ids=["one room", "both switched", "one without a room"],
)
def test_devices_that_nobody_can_tell_apart_are_named_and_refused(tmp_path, text, named):
    with pytest.raises(BadInput) as caught:
        read_home(home_file(tmp_path, text))
    (line,) = caught.value.problems
    assert f": {named}: found one name, '" in line
    assert line.endswith("rename one, give it another area, or leave it out")


@pytest.mark.parametrize("language", ["english", "german", "french", "spanish", "polish"])
def test_devices_of_one_name_are_told_apart_by_their_area(tmp_path, language):
    path = home_file(tmp_path, "areas: {Kitchen: {light.k: Zorp}, Bedroom: {light.b: Zorp}, Den: {fan.z: Zorp Fan}}")
    loaded = load_language(find_language(language))
    names = KnownHome(loaded, read_home(path), Guide()).names
    where = next(form for form in loaded.grammar.unknown_room if form != "base")
    said = {name.entity_id: {reference["base"] for reference in name.references} for name in names}
    assert all(name.room and name.room.forms[where] in text for name in names[:2] for text in said[name.entity_id])
    assert said["light.k"].isdisjoint(said["light.b"])
    assert all(names[2].room.forms[where] not in text for text in said["fan.z"])


def test_the_home_that_users_reported(tmp_path, capsys):
    if not CASES.is_dir():
        pytest.skip("no ../shared/cases")
    assert (
        main(["data", "--sample", "--sharegpt", "--home", str(CASES / "same-names/home.yaml"), "--out", str(tmp_path)])
        == 0
    )
    rows = (tmp_path / "sample.jsonl").read_text().splitlines()
    assert len(rows) == 100
    asked = [
        turn["value"]
        for row in rows
        for turn in json.loads(row)["conversations"]
        if turn["from"] == "human" and "lamp" in turn["value"].casefold()
    ]
    assert asked and all("kitchen" in text.casefold() or "bedroom" in text.casefold() for text in asked)
