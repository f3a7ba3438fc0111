"""What makes a room comfortable: climate devices, fans, humidifiers, water heaters."""

from collections.abc import Mapping
from typing import Any

from hatrain.home.simulation.arguments import Parse, Refused, flag, number, percent, text
from hatrain.home.simulation.effect import (
    SWITCH,
    Effect,
    becomes,
    check_listed,
    steps,
    stores,
    stores_one_of,
    toggles,
)
from hatrain.home.simulation.thing import Thing

_TARGETS: Mapping[str, Parse] = {
    "temperature": number(-100, 250),
    "target_temp_high": number(-100, 250),
    "target_temp_low": number(-100, 250),
}


def _start(thing: Thing, given: Mapping[str, Any]) -> None:
    """Home Assistant takes the first of these modes that the device has."""
    if thing.state in (None, "off"):
        modes = thing.values.get("hvac_modes") or ()
        thing.become(next((mode for mode in ("heat_cool", "heat", "cool") if mode in modes), "on"))


def _set_mode(thing: Thing, given: Mapping[str, Any]) -> None:
    mode = given["hvac_mode"].strip().casefold()
    check_listed(thing, "hvac_mode", "hvac_modes", mode)
    thing.become(mode)


def _set_temperature(thing: Thing, given: Mapping[str, Any]) -> None:
    low, high = thing.values.get("min_temp"), thing.values.get("max_temp")
    targets = {key: value for key, value in given.items() if key in _TARGETS}
    if not targets:
        raise Refused("set_temperature: temperature is missing")
    for value in targets.values():
        if (low is not None and value < low) or (high is not None and value > high):
            raise Refused(f"{thing.entity_id}: found temperature {value:g}; accepted: from {low} to {high}")
    if "hvac_mode" in given:
        _set_mode(thing, given)
    thing.values |= targets


CLIMATE: Mapping[str, Effect] = {
    "turn_on": Effect(_start),
    "turn_off": Effect(becomes("off")),
    "toggle": Effect(toggles(_start, becomes("off"))),
    "set_temperature": Effect(_set_temperature, {**_TARGETS, "hvac_mode": text}),
    "set_humidity": Effect(stores("humidity"), {"humidity": percent}, ("humidity",)),
    "set_hvac_mode": Effect(_set_mode, {"hvac_mode": text}, ("hvac_mode",)),
    "set_fan_mode": Effect(stores_one_of("fan_mode", "fan_modes"), {"fan_mode": text}, ("fan_mode",)),
    "set_preset_mode": Effect(stores_one_of("preset_mode", "preset_modes"), {"preset_mode": text}, ("preset_mode",)),
    "set_swing_mode": Effect(stores_one_of("swing_mode", "swing_modes"), {"swing_mode": text}, ("swing_mode",)),
    "set_swing_horizontal_mode": Effect(
        stores("swing_horizontal_mode"), {"swing_horizontal_mode": text}, ("swing_horizontal_mode",)
    ),
}


def _fan_on(thing: Thing, given: Mapping[str, Any]) -> None:
    if given.get("percentage") == 0:
        thing.become("off", percentage=0)
        return
    thing.become("on")
    if "percentage" in given:
        thing.forget("percentage steps")
    thing.values |= given


def _fan_off(thing: Thing, given: Mapping[str, Any]) -> None:
    thing.become("off")
    thing.forget("percentage", "percentage steps", "preset_mode")


FAN: Mapping[str, Effect] = {
    "turn_on": Effect(_fan_on, {"percentage": percent, "preset_mode": text}),
    "turn_off": Effect(_fan_off),
    "toggle": Effect(toggles(_fan_on, _fan_off)),
    "set_percentage": Effect(_fan_on, {"percentage": percent}, ("percentage",), feature=1),
    "increase_speed": Effect(
        steps("percentage", "percentage_step", "percentage_step", 1, 0, 100), {"percentage_step": percent}, feature=1
    ),
    "decrease_speed": Effect(
        steps("percentage", "percentage_step", "percentage_step", -1, 0, 100), {"percentage_step": percent}, feature=1
    ),
    "set_preset_mode": Effect(stores_one_of("preset_mode", "preset_modes"), {"preset_mode": text}, ("preset_mode",)),
    "oscillate": Effect(stores("oscillating"), {"oscillating": flag}, ("oscillating",), feature=2),
    "set_direction": Effect(stores("direction"), {"direction": text}, ("direction",), feature=4),
}
HUMIDIFIER: Mapping[str, Effect] = {
    **SWITCH,
    "set_humidity": Effect(stores("humidity"), {"humidity": percent}, ("humidity",)),
    "set_mode": Effect(stores_one_of("mode", "available_modes"), {"mode": text}, ("mode",)),
}


def _set_operation(thing: Thing, given: Mapping[str, Any]) -> None:
    check_listed(thing, "operation_mode", "operation_list", given["operation_mode"])
    thing.become(given["operation_mode"])


WATER_HEATER: Mapping[str, Effect] = {
    "turn_on": Effect(_start),
    "turn_off": Effect(becomes("off")),
    "set_temperature": Effect(_set_temperature, _TARGETS),
    "set_operation_mode": Effect(_set_operation, {"operation_mode": text}, ("operation_mode",)),
    "set_away_mode": Effect(stores("away_mode"), {"away_mode": flag}, ("away_mode",)),
}
