"""What Home Assistant's Assist API does with a call."""

from typing import Any

import pytest

from hatrain.home.calls.compare import Call
from hatrain.home.clients import CLIENTS
from hatrain.home.clients.assist_tools import READERS, TOOLS, schemas
from hatrain.home.devices.entity import Entity
from hatrain.home.simulation.house import House
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
        ("HassTurnOn", {"name": "Egg Timer"}, "this timer cannot be turned on or off"),
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
    every = frozenset({domain for tool in TOOLS.values() for domain in tool.offered_for})
    assert [tool["function"]["name"] for tool in schemas(every)] == [*TOOLS, *reversed(READERS)]
    for domain, offered in {
        "valve": {"HassSetPosition", "HassStopMoving"},
        "humidifier": {"HassHumidifierSetpoint", "HassHumidifierMode"},
        "lawn_mower": {"HassLawnMowerStartMowing", "HassLawnMowerDock"},
        "todo": {"HassListAddItem", "HassListCompleteItem"},
        "water_heater": set(),
    }.items():
        own = {tool["function"]["name"] for tool in schemas(frozenset({domain}))}
        assert own - {"HassTurnOn", "HassTurnOff", *READERS} == offered


def test_tools_that_act_on_areas_say_so_in_their_schema() -> None:
    (turn_on, *_) = schemas(frozenset({"light"}))
    properties = turn_on["function"]["parameters"]["properties"]
    assert list(properties) == ["name", "area", "floor", "domain", "device_class"]
    assert "blind" in properties["device_class"]["items"]["enum"]
    assert turn_on["function"]["parameters"]["required"] == []


MORE = (
    Entity("valve.tap", "Garden Tap", "open", {"current_position": 100, "device_class": "water"}, (), "Garden"),
    Entity("humidifier.den", "Den Humidifier", "off", {"available_modes": ["eco", "boost"]}, (), "Den"),
    Entity("humidifier.hall", "Hall Humidifier", "on", {"humidity": 40}, (), "Hall"),
    Entity("lawn_mower.front", "Mower", "docked", {}, (), "Garden"),
    Entity("water_heater.boiler", "Boiler", "eco"),
    Entity("todo.chores", "Chores", "2"),
    Entity("input_button.bell", "Bell", "unknown"),
    Entity("scene.movie", "Movie", "unknown"),
    *(Entity(f"{domain}.one", f"The {domain}", "off") for domain in ("siren", "remote", "automation", "camera")),
)


def carried_out(tool: str, **arguments: Any) -> list[Call]:
    """Return the services of a call, which the simulated home has to know as well."""
    understood = ASSIST.understand(Call(tool, arguments), MORE)
    assert understood.problem is None, understood.problem
    assert House(MORE).apply_all(understood.calls) == []
    return list(understood.calls)


@pytest.mark.parametrize(
    ("tool", "name", "service"),
    [
        ("HassTurnOn", "Garden Tap", "valve.open_valve"),
        ("HassTurnOff", "Garden Tap", "valve.close_valve"),
        ("HassStopMoving", "Garden Tap", "valve.stop_valve"),
        ("HassLawnMowerStartMowing", "Mower", "lawn_mower.start_mowing"),
        ("HassLawnMowerDock", "Mower", "lawn_mower.dock"),
        ("HassTurnOn", "Boiler", "water_heater.turn_on"),
        ("HassTurnOff", "Boiler", "water_heater.turn_off"),
        ("HassTurnOn", "Bell", "input_button.press"),
        ("HassTurnOn", "Movie", "scene.turn_on"),
        *(
            ("HassTurnOn", f"The {domain}", f"{domain}.turn_on")
            for domain in ("siren", "remote", "automation", "camera")
        ),
        *(("HassTurnOff", f"The {domain}", f"{domain}.turn_off") for domain in ("siren", "automation", "camera")),
    ],
)
def test_every_device_is_called_by_a_service_of_its_own_domain(tool: str, name: str, service: str) -> None:
    (call,) = carried_out(tool, name=name)
    (entity,) = [entity for entity in MORE if entity.name == name]
    assert call == Call(service, {"entity_id": entity.entity_id})


def test_a_valve_is_opened_to_a_position() -> None:
    expected = Call("valve.set_valve_position", {"entity_id": "valve.tap", "position": 30})
    assert carried_out("HassSetPosition", area="Garden", device_class=["water"], position=30) == [expected]


def test_a_humidifier_that_is_off_is_turned_on_before_it_is_set() -> None:
    den, hall = {"entity_id": "humidifier.den"}, {"entity_id": "humidifier.hall"}
    assert carried_out("HassHumidifierSetpoint", name="Den Humidifier", humidity=45) == [
        Call("humidifier.turn_on", den),
        Call("humidifier.set_humidity", {**den, "humidity": 45}),
    ]
    assert carried_out("HassHumidifierSetpoint", name="Hall Humidifier", humidity="45") == [
        Call("humidifier.set_humidity", {**hall, "humidity": 45})
    ]
    assert carried_out("HassHumidifierMode", name="Den Humidifier", mode="eco")[-1] == Call(
        "humidifier.set_mode", {**den, "mode": "eco"}
    )


@pytest.mark.parametrize(
    ("tool", "arguments", "sentence"),
    [
        (
            "HassHumidifierSetpoint",
            {"name": "Den Humidifier", "humidity": 45},
            "Turned Den Humidifier on and set humidity to 45%",
        ),
        ("HassHumidifierSetpoint", {"name": "Hall Humidifier", "humidity": "45"}, "The Hall Humidifier is set to 45%"),
        ("HassHumidifierMode", {"name": "Den Humidifier", "mode": "eco"}, "Turned Den Humidifier on and set eco mode"),
    ],
)
def test_home_assistant_answers_a_sentence_for_a_humidifier_and_names_no_target(
    tool: str, arguments: dict[str, Any], sentence: str
) -> None:
    assert ASSIST.result(Call(tool, arguments), MORE, "") == {
        "speech": {"plain": {"speech": sentence, "extra_data": None}},
        "response_type": "action_done",
        "data": {"targets": [], "success": [], "failed": []},
    }


def test_an_item_of_a_list_is_marked_as_done() -> None:
    expected = {"entity_id": "todo.chores", "item": "Mow", "status": "completed"}
    assert carried_out("HassListCompleteItem", name="chores", item=" Mow ") == [Call("todo.update_item", expected)]


@pytest.mark.parametrize(
    ("tool", "arguments", "expected"),
    [
        ("HassTurnOff", {"name": "Movie"}, "this scene cannot be turned on or off"),
        ("HassTurnOff", {"name": "Bell"}, "this input_button cannot be turned on or off"),
        ("HassSetPosition", {"name": "Boiler", "position": 4}, "this water_heater cannot be moved"),
        ("HassHumidifierMode", {"name": "Den Humidifier", "mode": "turbo"}, "found 'turbo'; accepted: eco, boost"),
        ("HassHumidifierMode", {"name": "Hall Humidifier", "mode": "eco"}, "accepted: none"),
        ("HassHumidifierSetpoint", {"area": "Den", "humidity": 4}, "area: not an argument of HassHumidifierSetpoint"),
        ("HassHumidifierSetpoint", {"name": "Den Humidifier", "humidity": 101}, "humidity: found 101"),
        ("HassListCompleteItem", {"name": "Chores"}, "item: missing"),
        ("HassLawnMowerDock", {"name": "Garden Tap"}, "not in a state or of a kind that fits"),
    ],
)
def test_what_the_newer_tools_refuse_is_refused_in_one_line(tool: str, arguments: Any, expected: str) -> None:
    understood = ASSIST.understand(Call(tool, arguments), MORE)
    assert understood.calls == ()
    assert expected in str(understood.problem) and "\n" not in str(understood.problem)


TARGETS = (
    Entity("light.a", "A", "on", {}, (), "Kitchen", "Ground"),
    Entity("light.b", "B", "on", {}, (), "Kitchen", "Ground"),
    Entity("light.c", "C", "on", {}, (), "Hall", "Ground"),
    Entity("light.d", "D", "on", {}, (), "Bath", "Upper"),
    Entity("cover.a", "Blind A", "open", {"device_class": "blind"}, (), "Kitchen", "Ground"),
    Entity("cover.b", "Blind B", "open", {"device_class": "blind"}, (), "Kitchen", "Ground"),
    Entity("cover.c", "Blind C", "open", {"device_class": "blind"}, (), "Bath", "Upper"),
    Entity("cover.d", "Garage", "open", {"device_class": "garage"}, (), "Kitchen", "Ground"),
    Entity("cover.e", "Blind E", "open", {"device_class": "blind"}, (), "Hall", "Ground"),
    Entity("switch.bath", "Heater", "on", {}, (), "Bath", "Upper"),
    Entity("switch.other", "Pump", "on"),
    Entity("climate.a", "Heat A", "heat", {}, (), "Bath", "Upper"),
    Entity("climate.b", "Heat B", "heat", {}, (), "Hall", "Ground"),
)


def together(service: str, *names: str, **arguments: Any) -> list[Call]:
    drawn = [{"service": service, "target_device": name, **arguments} for name in names]
    return ASSIST.tool_calls(drawn, TARGETS, True)


@pytest.mark.parametrize(
    ("service", "names", "target"),
    [
        ("light.turn_off", "ab", {"area": "Kitchen", "domain": ["light"]}),
        ("light.turn_off", "abcd", {"domain": ["light"]}),
        ("light.turn_off", "abc", {"floor": "Ground", "domain": ["light"]}),
        ("cover.close_cover", "ab", {"area": "Kitchen", "domain": ["cover"], "device_class": ["blind"]}),
        ("cover.close_cover", "abe", {"floor": "Ground", "domain": ["cover"], "device_class": ["blind"]}),
        ("cover.close_cover", "abce", {"domain": ["cover"], "device_class": ["blind"]}),
        ("cover.close_cover", "abcde", {"domain": ["cover"]}),
    ],
)
def test_one_call_names_what_the_devices_have_in_common(service: str, names: str, target: Any) -> None:
    domain = service.partition(".")[0]
    assert together(service, *(f"{domain}.{name}" for name in names)) == [Call("HassTurnOff", target)]


def test_devices_with_nothing_of_their_own_in_common_are_named_each() -> None:
    assert [call.arguments["name"] for call in together("light.turn_off", "light.a", "light.c")] == ["A", "C"]
    assert len(together("light.turn_on", "light.a", "light.d", brightness_pct=40)) == 2


def test_a_class_is_named_only_where_the_tool_has_classes() -> None:
    (call,) = together("light.turn_on", "light.a", "light.b", brightness_pct=40)
    assert call == Call("HassLightSet", {"area": "Kitchen", "domain": ["light"], "brightness": 40})
    assert len(together("climate.set_temperature", "climate.a", "climate.b", temperature=21)) == 2


def test_everything_of_an_area_may_be_of_several_domains() -> None:
    drawn = [
        {"service": f"{name.partition('.')[0]}.turn_off", "target_device": name} for name in ("light.d", "switch.bath")
    ]
    assert ASSIST.tool_calls(drawn, TARGETS, True) == [
        Call("HassTurnOff", {"area": "Bath", "domain": ["light", "switch"]})
    ]
    without_covers = [entity for entity in TARGETS if entity.domain in ("light", "switch")]
    assert ASSIST.tool_calls(drawn, without_covers, True) == [Call("HassTurnOff", {"area": "Bath"})]


def test_the_result_of_a_call_for_a_floor_names_the_floor() -> None:
    result = ASSIST.result(Call("HassTurnOff", {"floor": "upper", "domain": ["light"]}), TARGETS, "")
    assert result["data"]["success"] == [
        {"name": "Upper", "type": "floor", "id": "upper"},
        {"name": "D", "type": "entity", "id": "light.d"},
    ]


def test_a_tool_of_one_domain_that_is_told_no_target_takes_all_that_fits() -> None:
    assert calls("HassMediaPause") == {("media_player.media_pause", "media_player.tv")}
    assert calls("HassSetVolumeRelative", volume_step="up") == {("media_player.volume_up", "media_player.tv")}
    assert "it takes one" in problem("HassClimateSetTemperature", temperature=20)
    assert "found no name, area, floor or domain" in problem("HassListAddItem", item="milk")
    assert "found no name, area, floor or domain" in problem("HassLightSet", brightness=20)


@pytest.mark.parametrize(("tool", "is_muted"), [("HassMediaPlayerMute", True), ("HassMediaPlayerUnmute", False)])
def test_a_player_is_muted_by_the_name_of_the_tool(tool: str, is_muted: bool) -> None:
    expected = Call("media_player.volume_mute", {"entity_id": "media_player.tv", "is_volume_muted": is_muted})
    for arguments in ({"name": "TV"}, {"name": "TV", "is_volume_muted": not is_muted}):
        assert ASSIST.understand(Call(tool, arguments), HOME).calls == (expected,)


def test_searching_media_takes_a_class_of_media_and_one_player() -> None:
    found = calls("HassMediaSearchAndPlay", name="TV", search_query="Blue", media_class="album")
    assert found == {("media_player.play_media", "media_player.tv")}
    assert "media_class: found 'vinyl'" in problem("HassMediaSearchAndPlay", search_query="Blue", media_class="vinyl")
    assert "it takes one" in problem("HassMediaSearchAndPlay", search_query="Blue")
    assert "domain: not an argument" in problem(
        "HassMediaSearchAndPlay", name="TV", domain=["media_player"], search_query="Blue"
    )


def test_players_are_turned_up_together_without_a_domain_which_the_tool_does_not_take() -> None:
    players = [Entity(f"media_player.{name}", name, "playing", {}, (), "Den") for name in "ab"]
    drawn = [{"service": "media_player.volume_up", "target_device": f"media_player.{name}"} for name in "ab"]
    (call,) = ASSIST.tool_calls(drawn, players, True)
    assert call == Call("HassSetVolumeRelative", {"area": "Den", "volume_step": "up"})


def test_the_error_of_a_name_that_is_not_there_has_the_domain_of_the_tool() -> None:
    failed = ASSIST.result(Call("HassMediaSearchAndPlay", {"name": "Sofa", "search_query": "Blue"}), HOME, "")
    assert failed["error"] == "MatchFailedError"
    assert "domains={'media_player'}" in failed["error_text"] and "single_target=True" in failed["error_text"]
    failed = ASSIST.result(Call("HassTurnOn", {"name": "Sofa"}), HOME, "")
    assert "domains=None" in failed["error_text"] and "single_target=False" in failed["error_text"]
    failed = ASSIST.result(Call("HassTurnOn", {"name": "Sofa", "domain": ["switch", "light"]}), HOME, "")
    assert "domains={'light', 'switch'}" in failed["error_text"]
