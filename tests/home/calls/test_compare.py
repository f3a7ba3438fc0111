"""Two calls mean the same exactly when a home could not tell them apart."""

import colorsys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hatrain.home.calls.colors import CSS_COLORS, color_value
from hatrain.home.calls.compare import Call, duration_seconds, pair_off, same_arguments, same_call, same_value
from hatrain.home.devices.services import COLORS

SAME = [
    ("brightness_pct", 40, 40.0),
    ("brightness_pct", 40, "40"),
    ("brightness_pct", 33, 33.3),
    ("brightness", 127, 128),
    ("brightness", 127.5, 127),
    ("volume_level", 0.5, 0.50),
    ("volume_level", 0.33, 0.333),
    ("temperature", 21.5, "21.5"),
    ("temperature", 68, 68.2),
    ("color_name", "red", "Red"),
    ("color_name", "light blue", "lightblue"),
    ("rgb_color", [255, 0, 0], "#ff0000"),
    ("rgb_color", [255, 0, 0], "#F00"),
    ("rgb_color", [255, 0, 0], "(255, 0, 0)"),
    ("rgb_color", [255, 0, 0], "rgb(255, 0, 0)"),
    ("rgb_color", [254, 0, 1], "red"),
    ("item", "Oat milk", "oat  milk "),
    ("hvac_mode", "heat_cool", "HEAT_COOL"),
    ("duration", "00:05:00", "0:05:00"),
    ("duration", "00:05:00", 300),
    ("duration", "00:05:00", {"minutes": 5}),
    ("duration", "01:30", "01:30:00"),
    ("is_volume_muted", True, "true"),
    ("is_volume_muted", False, "off"),
    ("is_volume_muted", True, 1),
    ("target_device", "light.kitchen", "Light.Kitchen"),
    ("target_device", ["light.a", "light.b"], "light.b, light.a"),
    ("entity_id", ["light.a"], "light.a"),
    ("domain", ["light", "switch"], ["switch", "light"]),
    ("domain", ["light"], "light"),
    ("something", {"a": 1, "b": [1, 2]}, {"b": [2.0, 1], "a": "1"}),
    ("something", None, None),
]

OTHER = [
    ("brightness_pct", 40, 41),
    ("brightness_pct", 0, 0.4),
    ("brightness_pct", 40, "40%"),
    ("brightness", 120, 128),
    ("volume_level", 0, 0.4),
    ("volume_level", 0.6, 1),
    ("temperature", 21, 21.4),
    ("temperature", 21, 21.5),
    ("temperature", 20.5, 21),
    ("temperature", 20, "20,0"),
    ("color_name", "red", "crimson"),
    ("color_name", "green", [0, 255, 0]),
    ("item", "milk", "oat milk"),
    ("duration", "00:05:00", "00:50:00"),
    ("duration", "05:00", "00:05:00"),
    ("duration", "00:05:00", "five minutes"),
    ("duration", True, 1),
    ("is_volume_muted", True, False),
    ("is_volume_muted", True, "maybe"),
    ("target_device", "light.kitchen", "light.kitchen_2"),
    ("target_device", ["light.a", "light.b"], "light.a"),
    ("domain", ["light", "light"], ["light", "switch"]),
    ("something", {"a": 1}, {"a": 1, "b": 2}),
    ("something", None, ""),
    ("something", [1, 2], 1),
    ("something", float("nan"), 1),
]


@pytest.mark.parametrize(("key", "one", "other"), SAME)
def test_values_of_one_meaning_are_the_same_both_ways_round(key, one, other):
    assert same_arguments({key: one}, {key: other})
    assert same_arguments({key: other}, {key: one})


@pytest.mark.parametrize(("key", "one", "other"), OTHER)
def test_values_of_another_meaning_are_not(key, one, other):
    assert not same_arguments({key: one}, {key: other})
    assert not same_arguments({key: other}, {key: one})


def test_a_colour_is_the_same_whichever_argument_says_it():
    assert same_arguments({"color_name": "red"}, {"rgb_color": [255, 0, 0]})
    assert same_arguments({"hs_color": [0, 100]}, {"color": "#ff0000"})
    assert not same_arguments({"color_name": "red"}, {"hs_color": [120, 100]})


def test_a_second_colour_is_not_overlooked():
    assert not same_arguments({"color_name": "red"}, {"color_name": "red", "rgb_color": [0, 0, 255]})


def test_target_device_and_entity_id_are_one_thing_to_the_home():
    assert same_arguments({"target_device": "light.a"}, {"entity_id": ["light.a"]})


def test_a_colour_without_a_known_value_is_compared_as_a_word():
    assert same_arguments({"color_name": "Warm White"}, {"color_name": "warm white"})
    assert not same_arguments({"color_name": "warm white"}, {"color_name": "cold white"})


def test_another_service_is_another_call():
    assert same_call(Call("light.turn_on", {}), Call(" Light.Turn_On", {}))
    assert not same_call(Call("light.turn_on", {}), Call("light.turn_off", {}))


def test_a_call_for_two_lamps_is_two_calls():
    call = Call("light.turn_on", {"entity_id": ["light.a", "light.b", "light.a"], "brightness_pct": 5})
    assert call.per_target() == (
        Call("light.turn_on", {"target_device": "light.a", "brightness_pct": 5}),
        Call("light.turn_on", {"target_device": "light.b", "brightness_pct": 5}),
    )
    assert Call("homeassistant.restart", {}).per_target() == (Call("homeassistant.restart", {}),)


def test_our_colours_have_the_values_of_css():
    assert len(CSS_COLORS) == 148
    assert set(COLORS) <= set(CSS_COLORS)
    assert [CSS_COLORS[name] for name in ("red", "teal", "turquoise")] == [
        (255, 0, 0),
        (0, 128, 128),
        (64, 224, 208),
    ]


@pytest.mark.parametrize(
    "text", ["", "#12", "#gggggg", "rgb(1,2)", "300,0,0", [1, 2], [1, 2, 300], [True, 0, 0], 7, None]
)
def test_what_is_no_colour_is_not_guessed_at(text):
    assert color_value("rgb_color", text) is None


@given(st.tuples(*[st.integers(0, 255)] * 3))
def test_a_colour_survives_every_way_of_writing_it(channels):
    red, green, blue = channels
    for written in (list(channels), f"#{red:02X}{green:02x}{blue:02x}", f"({red}, {green},{blue})"):
        assert color_value("rgb_color", written) == channels


@given(st.integers(0, 360), st.integers(0, 100))
def test_hue_and_saturation_give_the_colour_of_the_lamp(hue, saturation):
    expected = tuple(round(part * 255) for part in colorsys.hsv_to_rgb(hue / 360, saturation / 100, 1))
    assert color_value("hs_color", [hue, saturation]) == expected


@given(st.integers(0, 99), st.integers(0, 59), st.integers(0, 59))
def test_a_duration_is_its_seconds_however_it_is_written(hours, minutes, seconds):
    total = hours * 3600 + minutes * 60 + seconds
    assert duration_seconds(f"{hours:02d}:{minutes:02d}:{seconds:02d}") == total
    assert duration_seconds({"hours": hours, "minutes": minutes, "seconds": seconds}) == total
    assert duration_seconds(total) == total


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(
    [
        "duration",
        "color_name",
        "rgb_color",
        "hs_color",
        "color",
        "target_device",
        "entity_id",
        "brightness",
        "x",
    ]
)
ARGUMENTS = st.dictionaries(KEYS, JSON, max_size=4)


@given(ARGUMENTS)
@example({"duration": "0\x1f"})
def test_anything_is_the_same_as_itself(arguments):
    assert same_arguments(arguments, dict(reversed(arguments.items())))


@given(KEYS, JSON, JSON)
def test_sameness_has_no_direction(key, one, other):
    assert same_value(key, one, other) == same_value(key, other, one)


@given(ARGUMENTS, ARGUMENTS)
def test_sameness_of_arguments_has_no_direction(one, other):
    assert same_arguments(one, other) == same_arguments(other, one)


@given(st.integers(-1000, 1000), st.integers(1, 3))
def test_a_number_is_the_same_after_rounding_to_the_written_decimals_at_most_a_hundredth_away(number, places):
    exact = number + 10.0**-places / 3
    rounded = round(exact, places)
    assert same_value("x", exact, rounded) == (abs(exact - rounded) <= 0.01 * max(abs(exact), abs(rounded)))


def test_items_change_partners_so_that_no_pair_is_missed():
    def near(a: float, b: float) -> bool:
        return abs(a - b) <= 1

    assert len(pair_off([1, 2], [2, 3], near)) == 2
    assert len(pair_off([2, 1], [2, 3], near)) == 2
    assert len(pair_off([1, 1], [2, 9], near)) == 1
