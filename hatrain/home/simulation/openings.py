"""What opens and closes: covers, valves, locks, alarms."""

from collections.abc import Mapping
from typing import Any

from hatrain.home.simulation.arguments import anything, percent
from hatrain.home.simulation.effect import Change, Effect, becomes, logs, toggles
from hatrain.home.simulation.thing import Thing


def _moves_to(key: str, position: float) -> Change:
    def change(thing: Thing, given: Mapping[str, Any]) -> None:
        to = given.get("position", given.get("tilt_position", position))
        thing.values[key] = to
        if key == "current_position":
            thing.become("closed" if to == 0 else "open")
            thing.forget("stopped")

    return change


def _stops(thing: Thing, given: Mapping[str, Any]) -> None:
    if thing.state in ("opening", "closing"):
        thing.become("open", stopped=True)


_TOGGLE = toggles(
    _moves_to("current_position", 100), _moves_to("current_position", 0), off_states=("closed", "closing")
)


def _toggle_tilt(thing: Thing, given: Mapping[str, Any]) -> None:
    thing.values["current_tilt_position"] = 0 if thing.values.get("current_tilt_position") else 100


COVER: Mapping[str, Effect] = {
    "open_cover": Effect(_moves_to("current_position", 100)),
    "close_cover": Effect(_moves_to("current_position", 0)),
    "set_cover_position": Effect(_moves_to("current_position", 0), {"position": percent}, ("position",), feature=4),
    "stop_cover": Effect(_stops, feature=8),
    "toggle": Effect(_TOGGLE),
    "open_cover_tilt": Effect(_moves_to("current_tilt_position", 100)),
    "close_cover_tilt": Effect(_moves_to("current_tilt_position", 0)),
    "set_cover_tilt_position": Effect(
        _moves_to("current_tilt_position", 0), {"tilt_position": percent}, ("tilt_position",), feature=128
    ),
    "stop_cover_tilt": Effect(logs("stop tilt")),
    "toggle_cover_tilt": Effect(_toggle_tilt),
}
VALVE: Mapping[str, Effect] = {
    "open_valve": Effect(_moves_to("current_position", 100)),
    "close_valve": Effect(_moves_to("current_position", 0)),
    "set_valve_position": Effect(_moves_to("current_position", 0), {"position": percent}, ("position",), feature=4),
    "stop_valve": Effect(_stops, feature=8),
    "toggle": Effect(_TOGGLE),
}
_CODE = {"code": anything}
LOCK: Mapping[str, Effect] = {
    "lock": Effect(becomes("locked"), _CODE),
    "unlock": Effect(becomes("unlocked"), _CODE),
    "open": Effect(becomes("open"), _CODE),
}
ALARM: Mapping[str, Effect] = {
    "alarm_disarm": Effect(becomes("disarmed"), _CODE),
    "alarm_trigger": Effect(becomes("triggered"), _CODE),
    **{
        f"alarm_arm_{mode}": Effect(becomes(f"armed_{mode}"), _CODE)
        for mode in ("home", "away", "night", "vacation", "custom_bypass")
    },
}
