"""What Home Assistant's Assist API does with a call."""

from typing import Any

import pytest

from hatrain.home.calls.compare import Call
from hatrain.home.clients import CLIENTS
from hatrain.home.clients.assist_tools import READERS, TOOLS, schemas
from tests.home.clients.homes import HOME

ASSIST = CLIENTS["assist"]


def calls(tool: str, **arguments: Any) -> set[tuple[str, str]]:
    understood = ASSIST.understand(Call(tool, arguments), HOME)
    assert understood.problem is None, understood.problem
    return {(call.service, call.arguments["entity_id"]) for call in understood.calls}


def problem(tool: str, **arguments: Any) -> str:
    understood = ASSIST.understand(Call(tool, arguments), HOME)
    assert understood.calls == ()
    assert understood.problem and "\n" not in understood.problem
    return understood.problem


@pytest.mark.parametrize("name", ["Kitchen Light", "kitchen light ", "light.kitchen"])
def test_a_device_is_found_by_its_name_in_any_case_and_by_its_id(name: str) -> None:
    assert calls("HassTurnOff", name=name) == {("light.turn_off", "light.kitchen")}


def test_a_device_is_found_by_an_alias() -> None:
    assert calls("HassTurnOn", name="Worktop Lamp") == {("light.turn_on", "light.counter")}


def test_an_area_and_a_domain_mean_all_of_the_domain_in_the_area() -> None:
    both = {("light.turn_on", "light.kitchen"), ("light.turn_on", "light.counter")}
    assert calls("HassTurnOn", area="Kitchen", domain=["light"]) == both
    assert calls("HassTurnOn", area="kitchen", domain="light") == both


def test_an_area_alone_means_everything_in_it_that_can_be_switched() -> None:
    assert calls("HassTurnOff", area="Kitchen") == {
        ("light.turn_off", "light.kitchen"),
        ("light.turn_off", "light.counter"),
        ("switch.turn_off", "switch.coffee"),
        ("media_player.turn_off", "media_player.radio"),
    }


def test_a_domain_alone_means_the_whole_home_and_a_floor_all_of_its_areas() -> None:
    assert len(calls("HassTurnOff", domain=["light"])) == 3
    assert calls("HassTurnOff", floor="upstairs", domain=["light"]) == {("light.turn_off", "light.bedroom")}


def test_the_id_of_an_area_is_a_name_of_it() -> None:
    assert calls("HassMediaPause", area="living_room") == {("media_player.media_pause", "media_player.tv")}


def test_turning_on_opens_covers_and_locks_locks() -> None:
    assert calls("HassTurnOn", name="Bedroom Blinds") == {("cover.open_cover", "cover.bedroom")}
    assert calls("HassTurnOn", name="Front Door") == {("lock.lock", "lock.front")}
    assert calls("HassTurnOff", name="Front Door") == {("lock.unlock", "lock.front")}
    assert calls("HassTurnOff", area="Bedroom", device_class=["blind"]) == {("cover.close_cover", "cover.bedroom")}


def test_a_light_takes_brightness_in_percent_and_a_colour_by_name() -> None:
    understood = ASSIST.understand(
        Call("HassLightSet", {"name": "Kitchen Light", "brightness": 40, "color": "Red"}), HOME
    )
    expected = {"entity_id": "light.kitchen", "rgb_color": (255, 0, 0), "brightness_pct": 40}
    assert understood.calls == (Call("light.turn_on", expected),)


def test_a_number_in_quotes_is_read_with_its_decimals() -> None:
    arguments = {"name": "Kitchen Light", "brightness": "40.5", "temperature": "2700.5"}
    (call,) = ASSIST.understand(Call("HassLightSet", arguments), HOME).calls
    assert (call.arguments["brightness_pct"], call.arguments["color_temp_kelvin"]) == (40, 2700)


def test_volume_is_percent_and_becomes_a_fraction() -> None:
    understood = ASSIST.understand(Call("HassSetVolume", {"name": "TV", "volume_level": 30}), HOME)
    assert understood.calls == (Call("media_player.volume_set", {"entity_id": "media_player.tv", "volume_level": 0.3}),)


def test_players_that_do_not_play_are_not_found_by_what_needs_a_player_that_plays() -> None:
    assert "media_player.radio (off)" in problem("HassMediaPause", name="Radio")
    assert "media_player.tv (playing)" in problem("HassMediaUnpause", name="TV")


def test_two_devices_of_one_name_need_the_area() -> None:
    assert "the name of 2 entities; add the area" in problem("HassTurnOn", name="Fan")
    assert calls("HassTurnOn", name="Fan", area="Office") == {("fan.turn_on", "fan.desk")}


@pytest.mark.parametrize(
    ("tool", "arguments", "expected"),
    [
        ("HassTurnOn", {"name": "Kitchen Lihgt"}, "name: no 'Kitchen Lihgt' in this home; did you mean Kitchen Light?"),
        ("HassTurnOn", {}, "found no name, area, floor or domain"),
        ("HassTurnOn", {"area": "Attic"}, "area: no 'Attic' in this home"),
        ("HassTurnOn", {"name": "Kitchen Light", "brightness": 40}, "brightness: not an argument of HassTurnOn"),
        ("HassTurnOn", {"name": ["Kitchen Light"]}, "accepted: some text"),
        ("HassTurnOn", {"name": "Egg Timer"}, "a timer cannot be turned on or off"),
        ("HassToggle", {"name": "Kitchen Light"}, "HassToggle: no tool of Home Assistant"),
        ("light.turn_on", {"entity_id": "light.kitchen"}, "light.turn_on: no tool of Home Assistant"),
        ("HassLightSet", {"name": "Kitchen Light", "color": "blurple"}, "color: found 'blurple'"),
        ("HassLightSet", {"name": "Kitchen Light", "brightness": 140}, "brightness: found 140"),
        ("HassSetVolume", {"name": "TV"}, "volume_level: missing"),
        (
            "HassClimateSetTemperature",
            {"temperature": 20, "area": "Kitchen"},
            "not in a state or of a kind that fits",
        ),
        ("HassSetPosition", {"name": "Bedroom Blinds", "position": True}, "position: found True"),
        ("HassFanSetSpeed", {"domain": ["light"], "percentage": 3}, "domain: found 'light'; accepted: fan"),
    ],
)
def test_what_home_assistant_refuses_is_refused_in_one_line(tool: str, arguments: Any, expected: str) -> None:
    assert expected in problem(tool, **arguments)


def test_one_temperature_is_not_set_on_several_thermostats_at_once() -> None:
    kitchen = [entity for entity in HOME if entity.domain == "climate"]
    understood = ASSIST.understand(Call("HassClimateSetTemperature", {"temperature": 20, "name": "all"}), kitchen)
    assert understood.problem


def test_reading_live_states_changes_nothing_and_says_what_is_read() -> None:
    understood = ASSIST.understand(Call("GetLiveContext", {"name": "TV"}), HOME)
    assert (understood.calls, understood.read, understood.problem) == ((), ("media_player.tv",), None)
    assert len(ASSIST.understand(Call("GetLiveContext", {}), HOME).read) == len(HOME)
    assert "no 'Sofa'" in str(ASSIST.understand(Call("GetLiveContext", {"name": "Sofa"}), HOME).problem)


def test_a_home_is_offered_the_tools_of_its_domains() -> None:
    names = [tool["function"]["name"] for tool in schemas(frozenset({"light"}))]
    assert names == ["HassTurnOn", "HassTurnOff", "HassLightSet", "GetDateTime", "GetLiveContext"]
    every = schemas(frozenset({"light", "fan", "cover", "climate", "media_player", "vacuum", "todo"}))
    assert [tool["function"]["name"] for tool in every] == [*TOOLS, *reversed(READERS)]


def test_tools_that_act_on_areas_say_so_in_their_schema() -> None:
    (turn_on, *_) = schemas(frozenset({"light"}))
    properties = turn_on["function"]["parameters"]["properties"]
    assert list(properties) == ["name", "area", "floor", "domain", "device_class"]
    assert "blind" in properties["device_class"]["items"]["enum"]
    assert turn_on["function"]["parameters"]["required"] == []
