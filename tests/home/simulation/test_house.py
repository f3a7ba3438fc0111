"""A simulated home ends as a real one would after the same service calls."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatrain.home.calls.compare import Call
from hatrain.home.devices.entity import Entity
from hatrain.home.devices.services import DOMAINS
from hatrain.home.simulation.house import House, differences, end_after, same_setting
from hatrain.home.simulation.services import EFFECTS

HOME = (
    Entity("light.desk", "Desk", "off"),
    Entity("light.shelf", "Shelf", "on", {"brightness": 51, "rgb_color": [255, 0, 0]}),
    Entity("switch.pump", "Pump", "on"),
    Entity("fan.roof", "Roof Fan", "on", {"percentage": 50, "percentage_step": 25.0}),
    Entity("cover.blind", "Blind", "opening", {"current_position": 30}),
    Entity("cover.gate", "Gate", "closed", {"supported_features": 3}),
    Entity("valve.water", "Water", "open"),
    Entity("lock.door", "Door", "locked"),
    Entity("climate.hall", "Hall", "off", {"hvac_modes": ["off", "heat", "cool"], "min_temp": 7, "max_temp": 30}),
    Entity("climate.attic", "Attic", "heat", {"temperature": 21.2, "fan_modes": ["low", "high"]}),
    Entity("humidifier.den", "Humidifier", "off", {"humidity": 40}),
    Entity("water_heater.tank", "Tank", "eco", {"operation_list": ["off", "eco", "performance"]}),
    Entity("media_player.tv", "TV", "playing", {"volume_level": 0.95, "source_list": ["HDMI 1", "Radio"]}),
    Entity("vacuum.rob", "Rob", "returning"),
    Entity("lawn_mower.mo", "Mo", "docked"),
    Entity("timer.eggs", "Eggs", "paused", {"remaining": "0:02:00", "duration": "0:05:00"}),
    Entity("todo.shop", "Shopping", "2"),
    Entity("scene.movie", "Movie", "unknown"),
    Entity("script.night", "Night", "off"),
    Entity("button.bell", "Bell", "unknown"),
    Entity("input_number.level", "Level", "5", {"min": 0, "max": 10, "step": 2}),
    Entity("input_select.mode", "Mode", "Home", {"options": ["Home", "Away"]}),
    Entity("counter.cups", "Cups", "3"),
    Entity("alarm_control_panel.home", "Alarm", "disarmed"),
)


def call(service: str, target: object = None, **arguments: object) -> Call:
    return Call(service, {**({"entity_id": target} if target else {}), **arguments})


def state_after(target: str, *calls: Call) -> dict:
    house = House(HOME)
    assert house.apply_all(calls) == []
    return dict(house.end().states[target])


AFTER = [
    # service, target, arguments, what the entity's values are then
    ("light.turn_on", "light.desk", {"brightness_pct": 40}, {"state": "on", "brightness": 102}),
    ("light.turn_on", "light.desk", {"brightness": "102"}, {"brightness": 102}),
    ("light.turn_on", "light.shelf", {"brightness_step_pct": 20}, {"brightness": 102}),
    ("light.turn_on", "light.shelf", {"brightness": 0}, {"state": "off", "brightness": None}),
    ("light.turn_on", "light.shelf", {"color_temp_kelvin": 2700}, {"color_temp_kelvin": 2700, "rgb_color": None}),
    ("light.toggle", "light.shelf", {}, {"state": "off", "rgb_color": None}),
    ("light.toggle", "light.desk", {"color_name": "blue"}, {"state": "on", "rgb_color": (0, 0, 255)}),
    ("switch.toggle", "switch.pump", {}, {"state": "off"}),
    ("homeassistant.turn_off", "switch.pump", {}, {"state": "off"}),
    ("fan.increase_speed", "fan.roof", {}, {"percentage": 75}),
    ("fan.set_percentage", "fan.roof", {"percentage": 0}, {"state": "off"}),
    ("fan.oscillate", "fan.roof", {"oscillating": "true"}, {"oscillating": True}),
    ("cover.open_cover", "cover.gate", {}, {"state": "open", "current_position": 100}),
    ("cover.set_cover_position", "cover.blind", {"position": 0}, {"state": "closed", "current_position": 0}),
    ("cover.stop_cover", "cover.blind", {}, {"state": "open", "current_position": 30, "stopped": True}),
    ("valve.toggle", "valve.water", {}, {"state": "closed"}),
    ("lock.unlock", "lock.door", {"code": "1234"}, {"state": "unlocked"}),
    ("climate.turn_on", "climate.hall", {}, {"state": "heat"}),
    ("climate.set_temperature", "climate.hall", {"temperature": 20, "hvac_mode": "cool"}, {"state": "cool"}),
    ("climate.set_fan_mode", "climate.attic", {"fan_mode": "High"}, {"fan_mode": "High"}),
    ("humidifier.set_humidity", "humidifier.den", {"humidity": 55}, {"humidity": 55}),
    ("water_heater.set_operation_mode", "water_heater.tank", {"operation_mode": "eco"}, {"state": "eco"}),
    ("media_player.volume_up", "media_player.tv", {}, {"volume_level": 1}),
    ("media_player.media_pause", "media_player.tv", {}, {"state": "paused"}),
    ("media_player.select_source", "media_player.tv", {"source": "radio"}, {"source": "radio"}),
    ("vacuum.return_to_base", "vacuum.rob", {}, {"state": "docked"}),
    ("lawn_mower.start_mowing", "lawn_mower.mo", {}, {"state": "mowing"}),
    ("timer.start", "timer.eggs", {}, {"state": "active", "remaining": "0:02:00"}),
    ("timer.start", "timer.eggs", {"duration": "00:03:00"}, {"remaining": 180}),
    ("timer.cancel", "timer.eggs", {}, {"state": "idle", "remaining": None}),
    ("input_number.increment", "input_number.level", {}, {"state": "7"}),
    ("input_select.select_next", "input_select.mode", {}, {"state": "Away"}),
    ("counter.decrement", "counter.cups", {}, {"state": "2"}),
    ("alarm_control_panel.alarm_arm_away", "alarm_control_panel.home", {}, {"state": "armed_away"}),
]


@pytest.mark.parametrize(("service", "target", "arguments", "values"), AFTER)
def test_a_service_leaves_its_entity_as_home_assistant_would(service, target, arguments, values):
    found = state_after(target, call(service, target, **arguments))
    assert all(same_setting(key, found.get(key), value) for key, value in values.items()), found


REFUSED = [
    (call("light.turn_on", "light.cellar"), "light.cellar: not in this home"),
    (call("light.turn_on"), "light.turn_on: names no entity"),
    (call("light.turn_on", "switch.pump"), "switch.pump: not a light, which light.turn_on needs"),
    (call("light.turnon", "light.desk"), "did you mean light.turn_on?"),
    (call("light.turn_on", "light.desk", brightnes=4), "brightnes is not one of its arguments; accepted: brightness"),
    (call("light.turn_on", "light.desk", brightness_pct=140), "brightness_pct: found 140; accepted: a number from 0"),
    (call("light.turn_on", "light.desk", color_name="mud"), 'color_name: found "mud"; accepted: a colour'),
    (call("light.turn_on", "light.desk", brightness=4, brightness_pct=3), "accepted: one of them"),
    (call("cover.set_cover_position", "cover.gate", position=4), "cover.gate: cannot do cover.set_cover_position"),
    (call("cover.set_cover_position", "cover.blind"), "position is missing"),
    (call("climate.set_hvac_mode", "climate.hall", hvac_mode="dry"), "hvac_mode dry is not one of off, heat, cool"),
    (call("climate.set_temperature", "climate.hall", temperature=40), "accepted: from 7 to 30"),
    (call("climate.set_fan_mode", "climate.attic", fan_mode="auto"), "fan_mode auto is not one of low, high"),
    (call("media_player.volume_set", "media_player.tv", volume_level=40), "accepted: a number from 0 to 1"),
    (call("input_select.select_option", "input_select.mode", option="Sleep"), "option Sleep is not one of"),
    (call("timer.start", "timer.eggs", duration="soon"), "accepted: a duration, such as 00:05:00"),
]


@pytest.mark.parametrize(("refused", "why"), REFUSED)
def test_what_home_assistant_refuses_changes_nothing_and_says_why_in_one_line(refused, why):
    house = House(HOME)
    (problem,) = house.apply(refused)
    assert why in problem and "\n" not in problem
    assert differences(House(HOME).end(), house.end()) == []


def test_a_call_for_several_entities_is_refused_whole_if_one_is_not_there():
    house = House(HOME)
    assert house.apply(call("light.turn_on", ["light.desk", "light.cellar"]))
    assert house.end().states["light.desk"]["state"] == "off"


def test_states_that_pass_end_by_themselves():
    ends = House(HOME).end().states
    assert (ends["cover.blind"]["state"], ends["vacuum.rob"]["state"]) == ("open", "docked")
    assert differences(House(HOME).end(), end_after(HOME, [call("vacuum.return_to_base", "vacuum.rob")])) == []
    assert differences(House(HOME).end(), end_after(HOME, [call("cover.stop_cover", "cover.blind")]))


def ends_alike(one: list[Call], other: list[Call]) -> bool:
    return not differences(end_after(HOME, one), end_after(HOME, other))


BELL, MOVIE = call("button.press", "button.bell"), call("scene.turn_on", "scene.movie")
MILK, EGGS = (call("todo.add_item", "todo.shop", item=item) for item in ("milk", "eggs"))


def test_events_are_compared_where_no_state_shows_what_happened():
    assert not ends_alike([BELL], [])
    assert not ends_alike([BELL], [BELL, BELL])
    assert not ends_alike([BELL, MOVIE], [MOVIE, BELL])
    assert ends_alike([MILK, EGGS], [EGGS, MILK])
    assert not ends_alike([MILK], [MILK, MILK])
    assert not ends_alike([MILK], [EGGS])
    assert not ends_alike([call("script.turn_on", "script.night")], [])
    assert not ends_alike([call("vacuum.locate", "vacuum.rob")], [])
    assert not ends_alike([call("media_player.media_next_track", "media_player.tv")], [])


def test_a_step_whose_size_is_not_known_is_counted():
    home = (Entity("fan.a", "A", "on"), Entity("media_player.b", "B", "playing"))
    up, down = call("fan.increase_speed", "fan.a"), call("fan.decrease_speed", "fan.a")
    assert differences(end_after(home, [up]), end_after(home, [up, up]))
    assert differences(end_after(home, [up]), end_after(home, [down]))
    louder = call("media_player.volume_up", "media_player.b")
    assert differences(end_after(home, [louder]), end_after(home, []))


def test_a_home_that_is_not_listed_opens_for_the_entities_that_calls_name():
    house = House(())
    assert house.apply(call("light.turn_on", "light.anywhere")) == []
    assert house.end().states == {"light.anywhere": {"state": "on"}}
    toggled = House(())
    toggled.apply(call("light.toggle", "light.anywhere"))
    assert differences(house.end(), toggled.end())


def test_the_entities_after_calls_are_those_before_in_other_states():
    house = House(HOME)
    house.apply(call("light.turn_on", "light.desk", brightness_pct=100))
    after = {entity.entity_id: entity for entity in house.entities()}
    assert (after["light.desk"].state, after["light.desk"].name) == ("on", "Desk")
    assert after["light.desk"].attributes["brightness"] == pytest.approx(255)
    assert [entity.entity_id for entity in house.entities()] == [entity.entity_id for entity in HOME]
    assert HOME[0].state == "off"


def test_every_service_that_is_generated_is_simulated_with_all_its_arguments():
    for services in DOMAINS.values():
        for name, service in services.items():
            assert {argument.name for argument in service.arguments} <= EFFECTS[name].accepted.keys(), name


@pytest.mark.parametrize(
    ("key", "one", "other", "same"),
    [
        ("temperature", 21, 21.2, False),
        ("temperature", 21, 21.0, True),
        ("brightness", 102, 101.9, True),
        ("brightness", 102, 104.6, False),
        ("volume_level", 0.4, 0.404, True),
        ("volume_level", 0.4, 0.41, False),
        ("rgb_color", (255, 0, 0), [254, 1, 0], True),
        ("rgb_color", (255, 0, 0), (220, 20, 60), False),
        ("fan_mode", "Low", "low", True),
        ("remaining", "0:05:00", 300, True),
        ("brightness", None, 102, False),
    ],
)
def test_a_setting_is_the_same_within_what_a_device_can_tell_apart(key, one, other, same):
    assert same_setting(key, one, other) is same_setting(key, other, one) is same


NAMES = st.sampled_from(sorted(EFFECTS)) | st.text(max_size=8)
VALUES = st.none() | st.booleans() | st.integers(-5, 300) | st.text(max_size=5) | st.lists(st.integers(), max_size=3)
KEYS = st.sampled_from(["brightness", "rgb_color", "position", "temperature", "item", "duration", "option", "x"])
TARGETS = st.sampled_from([entity.entity_id for entity in HOME])


@given(st.lists(st.builds(call, NAMES, TARGETS), max_size=3), st.dictionaries(KEYS, VALUES, max_size=2), NAMES, TARGETS)
def test_any_call_is_carried_out_or_refused(calls, arguments, service, target):
    house = House(HOME)
    house.apply_all([*calls, Call(service, {"entity_id": target, **arguments})])
    assert house.end().states.keys() == {entity.entity_id for entity in HOME}
    assert differences(house.end(), house.end()) == []
