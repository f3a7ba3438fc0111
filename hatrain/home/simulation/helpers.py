"""Robots, timers, lists, scenes, scripts, buttons and the input helpers."""

from collections.abc import Mapping
from typing import Any

from hatrain.home.simulation.arguments import Parse, Refused, anything, number, percent, seconds, text
from hatrain.home.simulation.effect import SWITCH, Change, Effect, becomes, check_listed, logs, steps, stores, toggles
from hatrain.home.simulation.thing import Thing

VACUUM: Mapping[str, Effect] = {
    "start": Effect(becomes("cleaning")),
    "pause": Effect(becomes("paused")),
    "stop": Effect(becomes("idle")),
    "return_to_base": Effect(becomes("returning")),
    "locate": Effect(logs("locate", ordered=False)),
    "clean_spot": Effect(logs("clean spot", ordered=False)),
    "set_fan_speed": Effect(stores("fan_speed"), {"fan_speed": text}, ("fan_speed",)),
    "send_command": Effect(logs("command"), {"command": text, "params": anything}, ("command",)),
}
LAWN_MOWER: Mapping[str, Effect] = {
    "start_mowing": Effect(becomes("mowing")),
    "pause": Effect(becomes("paused")),
    "dock": Effect(becomes("returning")),
}


def _start_timer(thing: Thing, given: Mapping[str, Any]) -> None:
    """With a duration it starts anew; without one a paused timer goes on, and any other runs its own time."""
    if "duration" in given:
        thing.values["remaining"] = given["duration"]
    elif thing.state != "paused":
        thing.values["remaining"] = thing.values.get("duration")
    thing.become("active")


def _pause_timer(thing: Thing, given: Mapping[str, Any]) -> None:
    if thing.state == "active" or thing.state is None:
        thing.become("paused")


def _end_timer(what: str = "") -> Change:
    def change(thing: Thing, given: Mapping[str, Any]) -> None:
        thing.become("idle")
        thing.forget("remaining", "remaining steps")
        if what:
            thing.log(what, ordered=False)

    return change


TIMER: Mapping[str, Effect] = {
    "start": Effect(_start_timer, {"duration": seconds}),
    "pause": Effect(_pause_timer),
    "cancel": Effect(_end_timer()),
    "finish": Effect(_end_timer("finish")),
    "change": Effect(steps("remaining", "duration", "", 1, 0, 1e9), {"duration": seconds}, ("duration",)),
}


_DUE: Mapping[str, Parse] = {"due_date": text, "due_datetime": text, "description": text}
TODO: Mapping[str, Effect] = {
    "add_item": Effect(logs("add item", ordered=False), {"item": text, **_DUE}, ("item",)),
    "remove_item": Effect(logs("remove item", ordered=False), {"item": anything}, ("item",)),
    "update_item": Effect(
        logs("update item", ordered=False), {"item": text, "rename": text, "status": text, **_DUE}, ("item",)
    ),
    "remove_completed_items": Effect(logs("remove completed items", ordered=False)),
}
SCENE: Mapping[str, Effect] = {"turn_on": Effect(lambda thing, given: thing.log("turn on"), {"transition": number(0)})}
BUTTON: Mapping[str, Effect] = {"press": Effect(logs("press"))}
_RUN = Effect(logs("run"), {"variables": anything})
SCRIPT: Mapping[str, Effect] = {
    "turn_on": _RUN,
    "turn_off": Effect(becomes("off")),
    "toggle": Effect(toggles(_RUN.change, becomes("off"))),
}
AUTOMATION: Mapping[str, Effect] = {
    **SWITCH,
    "turn_off": Effect(becomes("off"), {"stop_actions": anything}),
    "trigger": Effect(logs("trigger"), {"skip_condition": anything}),
}


def _set_number(thing: Thing, given: Mapping[str, Any]) -> None:
    value, low, high = given["value"], thing.values.get("min"), thing.values.get("max")
    if (low is not None and value < low) or (high is not None and value > high):
        raise Refused(f"{thing.entity_id}: found {value:g}; accepted: from {low} to {high}")
    thing.become(f"{value:g}")


def _step_number(direction: int) -> Change:
    def change(thing: Thing, given: Mapping[str, Any]) -> None:
        try:
            value = float(thing.state or "")
        except ValueError:
            thing.values["steps"] = thing.values.get("steps", 0) + direction
            return
        low, high = thing.values.get("min", float("-inf")), thing.values.get("max", float("inf"))
        thing.become(f"{min(high, max(low, value + direction * thing.values.get('step', 1))):g}")

    return change


NUMBER: Mapping[str, Effect] = {
    "set_value": Effect(_set_number, {"value": number()}, ("value",)),
    "increment": Effect(_step_number(1)),
    "decrement": Effect(_step_number(-1)),
}
COUNTER: Mapping[str, Effect] = {
    **NUMBER,
    "reset": Effect(lambda thing, given: thing.become(f"{thing.values.get('initial', 0):g}")),
}


def _select(thing: Thing, given: Mapping[str, Any]) -> None:
    check_listed(thing, "option", "options", given["option"])
    thing.become(given["option"])


def _select_at(move: int | None, fixed: int = 0) -> Change:
    """Select the option that is `move` places on, or the one at `fixed`."""

    def change(thing: Thing, given: Mapping[str, Any]) -> None:
        options = list(thing.values.get("options") or ())
        if not options or (move is not None and thing.state not in options):
            thing.log(f"select {move if move is not None else fixed}")
            return
        thing.become(options[fixed if move is None else (options.index(thing.state) + move) % len(options)])

    return change


_CYCLE: Mapping[str, Parse] = {"cycle": anything}
SELECT: Mapping[str, Effect] = {
    "select_option": Effect(_select, {"option": text}, ("option",)),
    "select_next": Effect(_select_at(1), _CYCLE),
    "select_previous": Effect(_select_at(-1), _CYCLE),
    "select_first": Effect(_select_at(None, 0)),
    "select_last": Effect(_select_at(None, -1)),
}
TEXT: Mapping[str, Effect] = {
    "set_value": Effect(lambda thing, given: thing.become(given["value"]), {"value": text}, ("value",))
}
DATETIME: Mapping[str, Effect] = {
    "set_datetime": Effect(
        lambda thing, given: thing.become(" ".join(map(str, given.values()))),
        {"date": text, "time": text, "datetime": text, "timestamp": anything},
    )
}
REMOTE: Mapping[str, Effect] = {
    **SWITCH,
    "turn_on": Effect(becomes("on"), {"activity": text}),
    "send_command": Effect(
        logs("command"), {"command": anything, "device": text, "num_repeats": number()}, ("command",)
    ),
}
SIREN: Mapping[str, Effect] = {
    **SWITCH,
    "turn_on": Effect(becomes("on"), {"tone": anything, "duration": seconds, "volume_level": percent}),
}
CAMERA: Mapping[str, Effect] = {"turn_on": Effect(becomes("idle")), "turn_off": Effect(becomes("off"))}
