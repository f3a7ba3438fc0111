"""What Home Assistant can do: domains, services, their arguments, and the intents that match them."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from hatrain.errors import nearest

Kind = Literal[
    "percent", "fraction", "color", "kelvin", "temperature", "humidity", "duration", "hvac_mode", "fan_mode", "text",
    "flag", "status",
]  # fmt: skip

HVAC_MODES = ("off", "heat", "cool", "heat_cool", "auto", "dry", "fan_only")
FAN_MODES = ("auto", "low", "medium", "high")

# CSS3 names, as accepted by `color_name` of light.turn_on.
COLORS = (
    "red", "green", "blue", "yellow", "orange", "purple", "pink", "white", "turquoise", "cyan", "magenta",
    "lime", "teal", "gold", "violet", "indigo", "lavender", "salmon", "coral", "crimson", "navy", "beige",
)  # fmt: skip


@dataclass(frozen=True)
class Argument:
    """An argument of a service. Of its kinds, percent and humidity are 0..100, fraction is 0..1, color a CSS3 name,
    kelvin a colour temperature, temperature a number of degrees in the home's unit, duration `HH:MM:SS`, status that of
    an item on a list."""

    name: str
    kind: Kind
    required: bool = True


@dataclass(frozen=True)
class Intent:
    """The tool of Home Assistant's LLM interface that does what a service does.

    `renamed` maps the service's arguments to the intent's; `fixed` are arguments that never change.
    """

    name: str
    renamed: Mapping[str, str] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Service:
    """A service, such as `light.turn_on`. Without an intent it can only be called by its name."""

    name: str
    arguments: tuple[Argument, ...] = ()
    intent: Intent | None = None

    @property
    def signature(self) -> str:
        """`light.turn_on(brightness_pct,color_name)`, as in a system prompt."""
        return f"{self.name}({','.join(argument.name for argument in self.arguments)})"


def _services(domain: str, *services: tuple[str, tuple[Argument, ...], Intent | None]) -> dict[str, Service]:
    return {
        f"{domain}.{name}": Service(f"{domain}.{name}", arguments, intent)
        for name, arguments, intent in sorted(services, key=lambda service: service[0])
    }


_ON, _OFF = Intent("HassTurnOn"), Intent("HassTurnOff")

# Sources: the "Actions" section of each integration's page in Home Assistant's documentation, and its list of
# built-in intents. Only what users request is listed.
DOMAINS: dict[str, dict[str, Service]] = {
    "light": _services(
        "light",
        (
            "turn_on",
            (
                Argument("brightness_pct", "percent", False),
                Argument("color_name", "color", False),
                Argument("color_temp_kelvin", "kelvin", False),
            ),
            Intent(
                "HassLightSet",
                {"brightness_pct": "brightness", "color_name": "color", "color_temp_kelvin": "temperature"},
            ),
        ),
        ("turn_off", (), _OFF),
        ("toggle", (), None),
    ),
    "switch": _services("switch", ("turn_on", (), _ON), ("turn_off", (), _OFF), ("toggle", (), None)),
    "fan": _services(
        "fan",
        ("turn_on", (), _ON),
        ("turn_off", (), _OFF),
        ("toggle", (), None),
        ("set_percentage", (Argument("percentage", "percent"),), Intent("HassFanSetSpeed")),
        ("increase_speed", (), None),
        ("decrease_speed", (), None),
    ),
    "cover": _services(
        "cover",
        ("open_cover", (), _ON),
        ("close_cover", (), _OFF),
        ("stop_cover", (), Intent("HassStopMoving")),
        ("toggle", (), None),
        ("set_cover_position", (Argument("position", "percent"),), Intent("HassSetPosition")),
    ),
    "lock": _services("lock", ("lock", (), _ON), ("unlock", (), _OFF)),
    "media_player": _services(
        "media_player",
        ("turn_on", (), _ON),
        ("turn_off", (), _OFF),
        ("media_play", (), Intent("HassMediaUnpause")),
        ("media_pause", (), Intent("HassMediaPause")),
        ("media_stop", (), None),
        ("media_next_track", (), Intent("HassMediaNext")),
        ("media_previous_track", (), Intent("HassMediaPrevious")),
        ("volume_up", (), Intent("HassSetVolumeRelative", {}, {"volume_step": "up"})),
        ("volume_down", (), Intent("HassSetVolumeRelative", {}, {"volume_step": "down"})),
        ("volume_set", (Argument("volume_level", "fraction"),), Intent("HassSetVolume")),
        ("volume_mute", (Argument("is_volume_muted", "flag"),), None),
        (
            "play_media",
            (Argument("media_content_id", "text"), Argument("media_content_type", "text")),
            Intent("HassMediaSearchAndPlay", {"media_content_id": "search_query"}),
        ),
    ),
    "climate": _services(
        "climate",
        ("turn_on", (), _ON),
        ("turn_off", (), _OFF),
        ("set_temperature", (Argument("temperature", "temperature"),), Intent("HassClimateSetTemperature")),
        ("set_humidity", (Argument("humidity", "humidity"),), None),
        ("set_hvac_mode", (Argument("hvac_mode", "hvac_mode"),), None),
        ("set_fan_mode", (Argument("fan_mode", "fan_mode"),), None),
    ),
    "vacuum": _services(
        "vacuum",
        ("start", (), Intent("HassVacuumStart")),
        ("pause", (), None),
        ("stop", (), None),
        ("return_to_base", (), Intent("HassVacuumReturnToBase")),
        ("locate", (), None),
    ),
    "timer": _services(
        "timer",
        ("start", (Argument("duration", "duration", False),), Intent("HassStartTimer")),
        ("pause", (), Intent("HassPauseTimer")),
        ("cancel", (), Intent("HassCancelTimer")),
    ),
    "todo": _services(
        "todo",
        ("add_item", (Argument("item", "text"),), Intent("HassListAddItem")),
        ("remove_item", (Argument("item", "text"),), None),
        (
            "update_item",
            (Argument("item", "text"), Argument("status", "status")),
            Intent("HassListCompleteItem", {"item": "item"}),
        ),
    ),
    "scene": _services("scene", ("turn_on", (), _ON)),
    "script": _services("script", ("turn_on", (), _ON)),
    "button": _services("button", ("press", (), _ON)),
    "valve": _services(
        "valve",
        ("open_valve", (), _ON),
        ("close_valve", (), _OFF),
        ("set_valve_position", (Argument("position", "percent"),), Intent("HassSetPosition")),
    ),
    "water_heater": _services(
        "water_heater",
        ("turn_on", (), _ON),
        ("turn_off", (), _OFF),
        ("set_temperature", (Argument("temperature", "temperature"),), None),
    ),
    "humidifier": _services(
        "humidifier",
        ("turn_on", (), _ON),
        ("turn_off", (), _OFF),
        ("set_humidity", (Argument("humidity", "humidity"),), Intent("HassHumidifierSetpoint")),
    ),
    "lawn_mower": _services(
        "lawn_mower",
        ("start_mowing", (), Intent("HassLawnMowerStartMowing")),
        ("pause", (), None),
        ("dock", (), Intent("HassLawnMowerDock")),
    ),
    # What only tells something.
    "binary_sensor": {},
    "sensor": {},
    "person": {},
    "weather": {},
    "calendar": {},
}

SERVICES: dict[str, Service] = {name: service for services in DOMAINS.values() for name, service in services.items()}


def domain_of(name: str) -> str:
    """Return the domain of an entity id or a service name: the part before the dot."""
    return name.partition(".")[0]


def _number(value: Any, low: float, high: float) -> bool:
    return (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and math.isfinite(value)
        and low <= value <= high
    )


def _color(value: Any) -> bool:
    return isinstance(value, str) and value.replace(" ", "").lower() in COLORS


# What each kind accepts, for error messages, and the check. Temperatures cover both units.
ACCEPTS: dict[Kind, tuple[str, Callable[[Any], bool]]] = {
    "percent": ("a number from 0 to 100", lambda value: _number(value, 0, 100)),
    "humidity": ("a number from 0 to 100", lambda value: _number(value, 0, 100)),
    "fraction": ("a number from 0 to 1", lambda value: _number(value, 0, 1)),
    "temperature": ("a number of degrees from 5 to 150", lambda value: _number(value, 5, 150)),
    "color": ("the CSS name of a colour", _color),
    "duration": (
        "HH:MM:SS",
        lambda value: isinstance(value, str) and bool(re.fullmatch(r"\d{1,2}:[0-5]\d:[0-5]\d", value)),
    ),
    "hvac_mode": (f"one of {', '.join(HVAC_MODES)}", lambda value: value in HVAC_MODES),
    "fan_mode": (f"one of {', '.join(FAN_MODES)}", lambda value: value in FAN_MODES),
    "text": ("some text", lambda value: isinstance(value, str) and bool(value.strip())),
    "kelvin": ("a number of kelvin from 1,000 to 20,000", lambda value: _number(value, 1000, 20000)),
    "status": ("needs_action or completed", lambda value: value in ("needs_action", "completed")),
    "flag": ("true or false", lambda value: isinstance(value, bool)),
}


def call_problems(call: Mapping[str, Any], entity_ids: Sequence[str]) -> list[str]:
    """Return why Home Assistant would refuse `{"service", "target_device", arguments…}` in a home of these entities."""
    name, target = call.get("service"), call.get("target_device")
    service = SERVICES.get(name) if isinstance(name, str) else None
    if service is None:
        return [f"service: found {name!r}; accepted: a service of Home Assistant{nearest(str(name), SERVICES)}"]
    problems = []
    if target not in entity_ids:
        problems.append(f"target_device: {target!r} is not in this home{nearest(str(target), entity_ids)}")
    elif domain_of(str(target)) != domain_of(service.name):
        problems.append(f"target_device: {target} is not a {domain_of(service.name)}, which {name} needs")
    known = {argument.name: argument for argument in service.arguments}
    given = {key: value for key, value in call.items() if key not in ("service", "target_device")}
    for key, value in given.items():
        if key not in known:
            problems.append(f"{key}: not an argument of {name}{nearest(key, known)}")
            continue
        accepted, accepts = ACCEPTS[known[key].kind]
        if not accepts(value):
            problems.append(f"{key}: found {value!r}; {name} accepts {accepted}")
    problems += [
        f"{key}: missing; {name} needs it" for key, argument in known.items() if argument.required and key not in given
    ]
    return problems
