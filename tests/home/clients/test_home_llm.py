"""The clients of acon96/home-llm: what they show of a device, and what they do with a call."""

import itertools
import json
from typing import Any

import pytest

from hatrain.home.calls.compare import Call
from hatrain.home.clients import CLIENTS
from hatrain.home.clients.home_llm_prompt import closest_name, shown_attributes
from hatrain.home.devices.entity import Entity
from hatrain.home.generate.dataset import Recipe, rows_of
from tests.home.clients.homes import HOME

LEGACY, TOOLS = CLIENTS["home-llm-legacy"], CLIENTS["home-llm"]


@pytest.mark.parametrize(
    ("attributes", "shown"),
    [
        ({"brightness": 77, "rgb_color": (220, 20, 60)}, ["crimson (220, 20, 60)", "30%"]),
        ({"fan_mode": "auto", "humidity": 45, "temperature": 21.5}, ["21 C", "45%", "auto"]),
        ({"temperature": 68}, ["68 F"]),
        ({"temperature": 21, "temperature_unit": "°C"}, ["21 °C"]),
        ({"media_title": "Blue", "volume_level": 0.4}, ["Blue", "vol=40"]),
        ({"brightness": None, "current_temperature": 20, "current_position": 30, "percentage": 40}, []),
    ],
)
def test_attributes_have_the_integrations_order_and_units(attributes: dict[str, Any], shown: list[str]) -> None:
    assert shown_attributes(attributes) == shown


def test_a_colour_without_a_name_is_called_by_the_nearest_and_the_last_of_equals() -> None:
    assert closest_name((219, 22, 58)) == "crimson"
    assert closest_name((0, 255, 255)) == "cyan"
    assert closest_name((102, 51, 153)) != "rebeccapurple"


def legacy(service: str, **arguments: Any) -> Any:
    return LEGACY.understand(Call(service, arguments), HOME)


@pytest.mark.parametrize(("given", "meant"), [(102, 102), (0.4, 102), (1, 255), (1.0, 255), (300, 255)])
def test_brightness_is_of_255_steps_or_up_to_1_a_fraction(given: float, meant: int) -> None:
    (call,) = legacy("light.turn_on", target_device="light.kitchen", brightness=given).calls
    assert call == Call("light.turn_on", {"entity_id": "light.kitchen", "brightness": meant})


def test_a_colour_is_text_of_three_channels() -> None:
    (call,) = legacy("light.turn_on", target_device="light.kitchen", rgb_color="(255, 165, 0)").calls
    assert call.arguments["rgb_color"] == (255, 165, 0)


@pytest.mark.parametrize(
    ("service", "arguments", "expected"),
    [
        ("light.turn_on", {"brightness_pct": 40}, "brightness_pct: not a key of this client"),
        ("light.turn_on", {"color_name": "red"}, "color_name: not a key of this client"),
        ("light.turn_on", {"rgb_color": [255, 0, 0]}, "rgb_color: found [255, 0, 0]; accepted: text"),
        ("light.turn_on", {"rgb_color": "red"}, "rgb_color: found 'red'"),
        ("light.turn_on", {"brightness": "40"}, "brightness: found '40'; accepted: a number"),
        ("light.turn_off", {"brightness": 40}, "brightness: Home Assistant refuses it for light.turn_off"),
        ("light.turn_on", {"target_device": "light.attic"}, "light.attic: not in this home"),
        ("light.turn_on", {"target_device": "switch.coffee"}, "switch.coffee: not a light"),
        ("light.turn_on", {"target_device": ["light.kitchen"]}, "target_device: found ['light.kitchen']"),
        ("light.set_brightness", {}, "light.set_brightness: not a service of this client"),
        ("media_player.volume_set", {}, "media_player.volume_set: not a service of this client"),
        ("HassTurnOn", {}, "HassTurnOn: not a service of this client"),
        ("climate.set_temperature", {"target_device": "climate.hall"}, "temperature: missing"),
    ],
)
def test_what_the_integration_or_home_assistant_refuses_is_refused_in_one_line(
    service: str, arguments: dict[str, Any], expected: str
) -> None:
    understood = legacy(service, **{"target_device": "light.kitchen", **arguments})
    assert understood.calls == ()
    assert expected in understood.problem and "\n" not in understood.problem


def test_the_tool_form_understands_tools_and_no_services() -> None:
    assert TOOLS.understand(Call("HassTurnOff", {"name": "Kitchen Light"}), HOME).calls
    assert TOOLS.understand(Call("light.turn_off", {"target_device": "light.kitchen"}), HOME).problem


def test_a_brightness_of_1_percent_is_multiplied_by_the_integration_and_then_refused() -> None:
    assert TOOLS.understand(Call("HassLightSet", {"name": "Kitchen Light", "brightness": 1}), HOME).problem


def test_each_client_names_the_forms_that_it_carries_out() -> None:
    assert {name: sorted(client.forms) for name, client in CLIENTS.items()} == {
        "assist": ["template"],
        "home-llm": ["template", "tool_call", "unclosed"],
        "home-llm-legacy": ["single-fence", "unclosed"],
        "guide": ["fence", "template", "tool_call"],
    }


def test_no_request_is_for_a_brightness_that_home_llm_takes_for_a_fraction() -> None:
    understood = TOOLS.understand
    call = Call("HassLightSet", {"name": "Kitchen", "brightness": 1})
    assert "found 255" in str(understood(call, [Entity("light.kitchen", "Kitchen", "on")]).problem)
    arguments = (
        json.loads(call["function"]["arguments"])
        for row in itertools.islice(rows_of(Recipe(client="home-llm"), "train"), 1500)
        for message in row["messages"]
        for call in message.get("tool_calls") or ()
    )
    asked = {given["brightness"] for given in arguments if "brightness" in given}
    assert len(asked) > 5 and min(asked) >= 2
