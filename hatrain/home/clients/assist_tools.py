"""The tools of Home Assistant's Assist API that act on devices or read them, and the service that each one calls.

Source: `helpers/llm.py` and each integration's `intent.py` in home-assistant/core. The descriptions are our own.
"""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from hatrain.home.calls.colors import CSS_COLORS
from hatrain.home.calls.compare import Call
from hatrain.home.clients.player_tools import PLAYER_CLASSES, PLAYER_TOOLS
from hatrain.home.clients.satellite_tools import SATELLITE_TOOLS
from hatrain.home.clients.tool import (
    Act,
    Arguments,
    Json,
    Slot,
    Tool,
    function,
    number,
    percent,
    service_call,
    some_text,
    within,
)
from hatrain.home.devices.entity import Entity

COVER_CLASSES = (
    "awning", "blind", "curtain", "damper", "door", "garage", "gate", "shade", "shutter", "window"
)  # fmt: skip
ON_OFF_CLASSES = (
    "identify", "restart", "update", *COVER_CLASSES, "water", "gas", "outlet", "switch", *PLAYER_CLASSES
)  # fmt: skip

LIVE_CONTEXT, DATE_TIME = "GetLiveContext", "GetDateTime"
"""Tools that read. Home Assistant offers them beside its intents."""


def css_name(value: Any) -> str:
    """Fold a colour's name as Home Assistant does."""
    return value.replace(" ", "").lower() if isinstance(value, str) else ""


def _by_domain(
    services: Mapping[str, str], what: str, arguments: Callable[[Arguments], Json] = lambda given: {}
) -> Act:
    def act(entity: Entity, given: Arguments) -> tuple[Call, ...] | str:
        service = services.get(entity.domain)
        if service is None:
            return f"{entity.entity_id}: this {entity.domain} cannot be {what}"
        return (Call(f"{entity.domain}.{service}", {"entity_id": entity.entity_id, **arguments(given)}),)

    return act


_SWITCHED = (
    "light", "switch", "fan", "media_player", "climate", "humidifier", "water_heater", "input_boolean", "script",
    "automation", "siren", "remote", "camera",
)  # fmt: skip
_ON = {
    **dict.fromkeys((*_SWITCHED, "scene"), "turn_on"),
    "cover": "open_cover",
    "valve": "open_valve",
    "lock": "lock",
    "button": "press",
    "input_button": "press",
}
_OFF = {**dict.fromkeys(_SWITCHED, "turn_off"), "cover": "close_cover", "valve": "close_valve", "lock": "unlock"}
_POSITION = {"cover": "set_cover_position", "valve": "set_valve_position"}
_STOP = {"cover": "stop_cover", "valve": "stop_valve"}


def _light(given: Arguments) -> Json:
    arguments: Json = {}
    if "color" in given:
        arguments["rgb_color"] = CSS_COLORS[css_name(given["color"])]
    if "temperature" in given:
        arguments["color_temp_kelvin"] = int(float(given["temperature"]))
    if "brightness" in given:
        arguments["brightness_pct"] = int(float(given["brightness"]))
    return arguments


def _humidity(entity: Entity, given: Arguments) -> tuple[Call, ...] | str:
    return _started(entity, "humidifier.set_humidity", {"humidity": int(float(given["humidity"]))})


def _mode(entity: Entity, given: Arguments) -> tuple[Call, ...] | str:
    modes = list(entity.attributes.get("available_modes") or ())
    if given["mode"] not in modes:
        return f"mode: found {given['mode']!r}; accepted: {', '.join(map(str, modes)) or 'none'}"
    return _started(entity, "humidifier.set_mode", {"mode": given["mode"]})


def _says_humidity(entity: Entity, given: Arguments) -> str:
    humidity = int(float(given["humidity"]))
    if entity.state == "off":
        return f"Turned {entity.name} on and set humidity to {humidity}%"
    return f"The {entity.name} is set to {humidity}%"


def _says_mode(entity: Entity, given: Arguments) -> str:
    if entity.state == "off":
        return f"Turned {entity.name} on and set {given['mode']} mode"
    return f"The mode for {entity.name} is set to {given['mode']}"


def _started(entity: Entity, service: str, arguments: Json) -> tuple[Call, ...]:
    """Return a service's call, after one that turns the device on if it is off."""
    target = {"entity_id": entity.entity_id}
    start = (Call(f"{entity.domain}.turn_on", target),) if entity.state == "off" else ()
    return (*start, Call(service, {**target, **arguments}))


def _only(domain: str) -> tuple[frozenset[str], frozenset[str]]:
    return frozenset({domain}), frozenset({domain})


def _tools() -> dict[str, Tool]:
    covers = frozenset({"cover", "valve"})
    text = Slot({"type": "string"}, some_text)
    on, off = _by_domain(_ON, "turned on or off"), _by_domain(_OFF, "turned on or off")
    tools = [
        Tool("HassTurnOn", "Turns on, opens, locks or presses.", on, device_classes=ON_OFF_CLASSES),
        Tool("HassTurnOff", "Turns off, closes or unlocks.", off, device_classes=ON_OFF_CLASSES),
        Tool(
            "HassLightSet",
            "Sets the brightness or the color of a light.",
            service_call("light.turn_on", _light),
            frozenset({"light"}),
            slots={
                "color": Slot({"type": "string"}, lambda value: css_name(value) in CSS_COLORS, False),
                "temperature": Slot({"type": "integer", "minimum": 0}, within(1, 20000), False),
                "brightness": percent(required=False),
            },
        ),
        Tool(
            "HassFanSetSpeed",
            "Sets the speed of a fan in percent.",
            service_call("fan.set_percentage", lambda given: {"percentage": int(float(given["percentage"]))}),
            *_only("fan"),
            slots={"percentage": percent()},
        ),
        Tool(
            "HassSetPosition",
            "Sets how far a cover or valve is open, in percent.",
            _by_domain(_POSITION, "moved", lambda given: {"position": int(float(given["position"]))}),
            covers,
            device_classes=(*COVER_CLASSES, "water", "gas"),
            slots={"position": percent()},
        ),
        Tool(
            "HassStopMoving",
            "Stops a cover or valve that moves.",
            _by_domain(_STOP, "stopped"),
            covers,
            device_classes=(*COVER_CLASSES, "water", "gas"),
        ),
        Tool(
            "HassClimateSetTemperature",
            "Sets the target temperature of a thermostat.",
            service_call("climate.set_temperature", lambda given: {"temperature": float(given["temperature"])}),
            *_only("climate"),
            slots={"temperature": Slot({"type": "number"}, lambda value: number(value) is not None)},
            targets=("name", "area", "floor"),
            single=True,
        ),
        *PLAYER_TOOLS,
        Tool("HassVacuumStart", "Starts a vacuum.", service_call("vacuum.start"), *_only("vacuum")),
        Tool(
            "HassVacuumReturnToBase",
            "Sends a vacuum back to its base.",
            service_call("vacuum.return_to_base"),
            *_only("vacuum"),
        ),
        Tool(
            "HassLawnMowerStartMowing",
            "Sends a lawn mower out to mow.",
            service_call("lawn_mower.start_mowing"),
            *_only("lawn_mower"),
        ),
        Tool(
            "HassLawnMowerDock",
            "Sends a lawn mower back to its dock.",
            service_call("lawn_mower.dock"),
            *_only("lawn_mower"),
        ),
        Tool(
            "HassHumidifierSetpoint",
            "Sets the target humidity of a humidifier in percent.",
            _humidity,
            *_only("humidifier"),
            slots={"humidity": percent()},
            targets=("name",),
            says=_says_humidity,
        ),
        Tool(
            "HassHumidifierMode",
            "Sets the mode of a humidifier.",
            _mode,
            *_only("humidifier"),
            slots={"mode": text},
            targets=("name",),
            says=_says_mode,
        ),
        Tool(
            "HassListAddItem",
            "Adds an item to a to-do list.",
            service_call("todo.add_item", lambda given: {"item": given["item"].strip()}),
            *_only("todo"),
            slots={"item": text},
            targets=("name",),
        ),
        Tool(
            "HassListCompleteItem",
            "Marks an item of a to-do list as done.",
            service_call("todo.update_item", lambda given: {"item": given["item"].strip(), "status": "completed"}),
            *_only("todo"),
            slots={"item": text},
            targets=("name",),
        ),
    ]
    return {tool.name: tool for tool in tools}


TOOLS: dict[str, Tool] = _tools()


def _filter(description: str) -> Json:
    return {"type": "string", "description": description}


READERS: dict[str, Json] = {
    LIVE_CONTEXT: function(
        LIVE_CONTEXT,
        "Reads the current state of devices. Call it for every question about a state, value or mode.",
        {
            "name": _filter("name or alias of one device"),
            "domain": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]},
            "area": _filter("name of an area"),
        },
        [],
    ),
    DATE_TIME: function(DATE_TIME, "Reads the current date and time.", {}, []),
}


@cache
def schemas(domains: frozenset[str], satellite: bool = False) -> tuple[Json, ...]:
    """Return the tools that are offered in a home with entities of these domains.

    `satellite`: the conversation comes through a voice satellite, which has timers and can reach other satellites.
    """
    offered = [tool.schema() for tool in TOOLS.values() if not tool.offered_for or tool.offered_for & domains]
    timers = [tool.schema() for tool in SATELLITE_TOOLS.values()] if satellite else []
    return (*offered, *timers, READERS[DATE_TIME], READERS[LIVE_CONTEXT])
