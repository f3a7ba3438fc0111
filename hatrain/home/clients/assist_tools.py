"""The tools of Home Assistant's Assist API: their schemas, and the service that each one calls.

Source: `helpers/llm.py` and each integration's `intent.py` in home-assistant/core. The descriptions are our own.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from hatrain.home.calls.colors import CSS_COLORS
from hatrain.home.calls.compare import Call
from hatrain.home.devices.entity import Entity

Json = dict[str, Any]
Arguments = Mapping[str, Any]
Act = Callable[[Entity, Arguments], Call | str]
"""Return the service's call for one matched entity, or why there is none. Arguments have passed the schema."""

COVER_CLASSES = (
    "awning", "blind", "curtain", "damper", "door", "garage", "gate", "shade", "shutter", "window"
)  # fmt: skip
PLAYER_CLASSES = ("tv", "speaker", "receiver")
ON_OFF_CLASSES = (
    "identify", "restart", "update", *COVER_CLASSES, "water", "gas", "outlet", "switch", *PLAYER_CLASSES
)  # fmt: skip

LIVE_CONTEXT, DATE_TIME = "GetLiveContext", "GetDateTime"
"""Tools that read. Home Assistant offers them beside its intents."""


@dataclass(frozen=True)
class Slot:
    """An argument beside those that choose the entities, and what it accepts."""

    schema: Json
    accepts: Callable[[Any], bool]
    required: bool = True


@dataclass(frozen=True)
class Tool:
    """One intent.

    It is offered where an entity of `offered_for` is exposed (empty: always), and acts on those of `domains` alone
    (empty: any). `states`: entities in other states are passed over. `single`: several entities are refused.
    """

    name: str
    description: str
    act: Act
    offered_for: frozenset[str] = frozenset()
    domains: frozenset[str] = frozenset()
    states: frozenset[str] = frozenset()
    device_classes: tuple[str, ...] = ()
    slots: Mapping[str, Slot] = field(default_factory=dict)
    targets: tuple[str, ...] = ("name", "area", "floor", "domain")
    single: bool = False

    def schema(self) -> Json:
        """Return the tool as an OpenAI-style function."""
        text: Json = {"type": "string"}
        properties: Json = {key: text for key in self.targets if key != "domain"}
        if "domain" in self.targets:
            items = {"type": "string", "enum": sorted(self.domains)} if self.domains else text
            properties["domain"] = {"type": "array", "items": items}
        if self.device_classes:
            items = {"type": "string", "enum": list(self.device_classes)}
            properties["device_class"] = {"type": "array", "items": items}
        properties |= {key: slot.schema for key, slot in self.slots.items()}
        required = [key for key, slot in self.slots.items() if slot.required]
        if self.targets == ("name",):
            required.append("name")
        return function(self.name, self.description, properties, required)

    def problem(self, arguments: Arguments) -> str | None:
        """Return in one line what the schema refuses, if anything."""
        accepted = (*self.targets, *(["device_class"] if self.device_classes else []), *self.slots)
        for key, value in arguments.items():
            if key not in accepted:
                return f"{key}: not an argument of {self.name}; accepted: {', '.join(accepted)}"
            if key in self.slots and not self.slots[key].accepts(value):
                return f"{key}: found {value!r}, which {self.name} refuses"
            enum = {"domain": sorted(self.domains), "device_class": self.device_classes}.get(key)
            unknown = [item for item in _listed(value) if enum and item not in enum]
            if unknown:
                return f"{key}: found {unknown[0]!r}; accepted: {', '.join(enum or ())}"
        missing = next((key for key, slot in self.slots.items() if slot.required and key not in arguments), None)
        return f"{missing}: missing; {self.name} needs it" if missing else None


def function(name: str, description: str, properties: Json, required: Sequence[str]) -> Json:
    parameters = {"type": "object", "properties": properties, "required": list(required)}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


def _listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else (value,)


def number(value: Any) -> float | None:
    """Return a number, also one in quotes, which Home Assistant coerces; None for anything else."""
    try:
        parsed = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        return None
    return parsed if math.isfinite(parsed) else None


def _within(low: float, high: float) -> Callable[[Any], bool]:
    def accepts(value: Any) -> bool:
        parsed = number(value)
        return parsed is not None and low <= int(parsed) <= high

    return accepts


def _text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def css_name(value: Any) -> str:
    """Fold a colour's name as Home Assistant does."""
    return value.replace(" ", "").lower() if isinstance(value, str) else ""


def _percent(low: int = 0, high: int = 100, required: bool = True) -> Slot:
    return Slot({"type": "integer", "minimum": low, "maximum": high}, _within(low, high), required)


def _service(name: str, arguments: Callable[[Arguments], Json] = lambda given: {}) -> Act:
    domain = name.partition(".")[0]

    def act(entity: Entity, given: Arguments) -> Call | str:
        if entity.domain != domain:
            return f"{entity.entity_id}: not a {domain}, which {name} needs"
        return Call(name, {"entity_id": entity.entity_id, **arguments(given)})

    return act


_SWITCHED = ("light", "switch", "fan", "media_player", "climate", "humidifier", "input_boolean", "script", "scene")
_ON = {**dict.fromkeys(_SWITCHED, "turn_on"), "cover": "open_cover", "lock": "lock", "button": "press"}
_OFF = {**dict.fromkeys(_SWITCHED, "turn_off"), "cover": "close_cover", "lock": "unlock"}


def _by_domain(services: Mapping[str, str]) -> Act:
    def act(entity: Entity, given: Arguments) -> Call | str:
        service = services.get(entity.domain)
        if service is None:
            return f"{entity.entity_id}: a {entity.domain} cannot be turned on or off"
        return Call(f"{entity.domain}.{service}", {"entity_id": entity.entity_id})

    return act


def _light(given: Arguments) -> Json:
    arguments: Json = {}
    if "color" in given:
        arguments["rgb_color"] = CSS_COLORS[css_name(given["color"])]
    if "temperature" in given:
        arguments["color_temp_kelvin"] = int(float(given["temperature"]))
    if "brightness" in given:
        arguments["brightness_pct"] = int(float(given["brightness"]))
    return arguments


def _relative_volume(entity: Entity, given: Arguments) -> Call | str:
    if entity.domain != "media_player":
        return f"{entity.entity_id}: not a media_player"
    step = given["volume_step"]
    percent = number(step)
    if percent is None:
        return Call(f"media_player.volume_{step}", {"entity_id": entity.entity_id})
    level = min(1.0, max(0.0, float(entity.attributes.get("volume_level", 0)) + percent / 100))
    return Call("media_player.volume_set", {"entity_id": entity.entity_id, "volume_level": round(level, 4)})


def _player(name: str, description: str, act: Act, states: Sequence[str] = (), **slots: Slot) -> Tool:
    players = frozenset({"media_player"})
    return Tool(name, description, act, players, players, frozenset(states), PLAYER_CLASSES, slots)


def _only(domain: str) -> tuple[frozenset[str], frozenset[str]]:
    return frozenset({domain}), frozenset({domain})


def _tools() -> dict[str, Tool]:
    covers = frozenset({"cover", "valve"})
    text = Slot({"type": "string"}, _text)
    tools = [
        Tool("HassTurnOn", "Turns on, opens, locks or presses.", _by_domain(_ON), device_classes=ON_OFF_CLASSES),
        Tool("HassTurnOff", "Turns off, closes or unlocks.", _by_domain(_OFF), device_classes=ON_OFF_CLASSES),
        Tool(
            "HassLightSet",
            "Sets the brightness or the color of a light.",
            _service("light.turn_on", _light),
            frozenset({"light"}),
            slots={
                "color": Slot({"type": "string"}, lambda value: css_name(value) in CSS_COLORS, False),
                "temperature": Slot({"type": "integer", "minimum": 0}, _within(1, 20000), False),
                "brightness": _percent(required=False),
            },
        ),
        Tool(
            "HassFanSetSpeed",
            "Sets the speed of a fan in percent.",
            _service("fan.set_percentage", lambda given: {"percentage": int(float(given["percentage"]))}),
            *_only("fan"),
            slots={"percentage": _percent()},
        ),
        Tool(
            "HassSetPosition",
            "Sets how far a cover or valve is open, in percent.",
            _service("cover.set_cover_position", lambda given: {"position": int(float(given["position"]))}),
            covers,
            device_classes=(*COVER_CLASSES, "water", "gas"),
            slots={"position": _percent()},
        ),
        Tool(
            "HassStopMoving",
            "Stops a cover or valve that moves.",
            _service("cover.stop_cover"),
            covers,
            device_classes=(*COVER_CLASSES, "water", "gas"),
        ),
        Tool(
            "HassClimateSetTemperature",
            "Sets the target temperature of a thermostat.",
            _service("climate.set_temperature", lambda given: {"temperature": float(given["temperature"])}),
            *_only("climate"),
            slots={"temperature": Slot({"type": "number"}, lambda value: number(value) is not None)},
            targets=("name", "area", "floor"),
            single=True,
        ),
        _player("HassMediaPause", "Pauses a media player.", _service("media_player.media_pause"), ["playing"]),
        _player("HassMediaUnpause", "Resumes a media player.", _service("media_player.media_play"), ["paused"]),
        _player("HassMediaNext", "Skips to the next item.", _service("media_player.media_next_track"), ["playing"]),
        _player(
            "HassMediaPrevious",
            "Goes back to the previous item.",
            _service("media_player.media_previous_track"),
            ["playing"],
        ),
        _player(
            "HassSetVolume",
            "Sets the volume of a media player in percent.",
            _service(
                "media_player.volume_set", lambda given: {"volume_level": int(float(given["volume_level"])) / 100}
            ),
            ["playing"],
            volume_level=_percent(),
        ),
        _player(
            "HassSetVolumeRelative",
            "Raises or lowers the volume of a media player.",
            _relative_volume,
            ["playing"],
            volume_step=Slot(
                {"anyOf": [{"type": "string", "enum": ["up", "down"]}, {"type": "integer"}]},
                lambda value: value in ("up", "down") or _within(-100, 100)(value),
            ),
        ),
        _player(
            "HassMediaSearchAndPlay",
            "Searches for media and plays the first result.",
            _service(
                "media_player.play_media",
                lambda given: {"media_content_id": given["search_query"], "media_content_type": "music"},
            ),
            search_query=text,
        ),
        Tool("HassVacuumStart", "Starts a vacuum.", _service("vacuum.start"), *_only("vacuum")),
        Tool(
            "HassVacuumReturnToBase",
            "Sends a vacuum back to its base.",
            _service("vacuum.return_to_base"),
            *_only("vacuum"),
        ),
        Tool(
            "HassListAddItem",
            "Adds an item to a to-do list.",
            _service("todo.add_item", lambda given: {"item": given["item"].strip()}),
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
def schemas(domains: frozenset[str]) -> tuple[Json, ...]:
    """Return the tools that are offered in a home with entities of these domains, in Home Assistant's order."""
    offered = [tool.schema() for tool in TOOLS.values() if not tool.offered_for or tool.offered_for & domains]
    return (*offered, READERS[DATE_TIME], READERS[LIVE_CONTEXT])
