"""Parses prompts: the devices with their states, and the services, that a prompt lists.

It relies on the format alone, since labels are in the user's language. A row that carries its devices needs none of it.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hatrain.home.calls.colors import color_value
from hatrain.home.devices.entity import Entity

_DEVICE = re.compile(r"^\s*([a-z_]+\.[a-z0-9_]+)\s+'(.*?)'\s*=[ \t]*(.*)$", re.MULTILINE)
_AREA = re.compile(r"^##[ \t]*[^:\n]+:[ \t]*(.+?)[ \t]*$")
_SERVICE = r"[a-z_]+\.[a-z_0-9]+(?:\([^()\n]*\))?"
_SERVICES = re.compile(rf"^[^:：\n]*[:：]\s*({_SERVICE}(?:,\s*{_SERVICE})*)\s*$", re.MULTILINE)
_SIGNATURE = re.compile(r"\b([a-z_]+\.[a-z_0-9]+)\([^()\n]*\)")
_PERCENT = re.compile(r"(?:(vol|battery)=)?(\d+(?:\.\d+)?)\s*%")
_DEGREES = re.compile(r"(target=)?(-?\d+(?:\.\d+)?)\s*°?[CF]")
_NAMED = re.compile(r"(fan|remaining)=(.+)")
_CHANNELS = re.compile(r"(?:[\w ]+ )?(\(\d+, ?\d+, ?\d+\))")
_PERCENT_KEYS = {
    "light": "brightness",
    "fan": "percentage",
    "cover": "current_position",
    "valve": "current_position",
    "climate": "current_humidity",
    "humidifier": "humidity",
}


@dataclass(frozen=True)
class PromptContents:
    """What a prompt lists: devices in their states, and services or tools.

    If the prompt lists none of a kind, an answer is not judged by that kind.
    """

    devices: tuple[Entity, ...] = ()
    services: frozenset[str] = frozenset()

    @property
    def entities(self) -> dict[str, str]:
        """Friendly names by entity id."""
        return {entity.entity_id: entity.name for entity in self.devices}

    def entity(self, name: Any) -> str | None:
        """Find an entity's id by its id, friendly name or alias, ignoring case and spacing."""
        wanted = _normalized(name)
        for entity in self.devices:
            if wanted in map(_normalized, (entity.entity_id, entity.name, *entity.aliases)):
                return entity.entity_id
        return None


def read_prompt(
    texts: Iterable[str], tools: Iterable[Mapping[str, Any]] = (), devices: Sequence[Entity] | None = None
) -> PromptContents:
    """Parse a prompt. `devices` are those that the row carries; without them they are read from the texts.

    A device is a line `entity_id 'Friendly name' = state;attributes`, its area the last `## Area: NAME` before it. A
    service is `domain.service(arguments)` anywhere, or without parentheses in a list after a label and a colon. Tools
    are JSON schema functions.
    """
    listed: dict[str, Entity] = {}
    services: set[str] = set()
    for text in texts:
        listed |= {entity.entity_id: entity for entity in _devices(text)}
        for line in _SERVICES.findall(text):
            services.update(name.partition("(")[0] for name in re.findall(_SERVICE, line))
        services.update(_SIGNATURE.findall(text))
    services.update(name for name in map(_tool_name, tools) if name)
    return PromptContents(tuple(listed.values()) if devices is None else tuple(devices), frozenset(services))


def _devices(text: str) -> Iterable[Entity]:
    area = None
    for line in text.splitlines():
        if heading := _AREA.match(line):
            area = heading[1]
        elif device := _DEVICE.match(line):
            entity_id, name, written = device.groups()
            state, *attributes = written.split(";")
            yield Entity(entity_id, name, state.strip(), _attributes(entity_id, attributes), area=area)


def _attributes(entity_id: str, written: Sequence[str]) -> dict[str, Any]:
    """Return the attributes of a device's line as far as they are understood."""
    domain = entity_id.partition(".")[0]
    found: dict[str, Any] = {}
    for part in map(str.strip, written):
        color = _CHANNELS.fullmatch(part)
        if percent := _PERCENT.fullmatch(part):
            found |= _percentage(domain, percent[1], float(percent[2]))
        elif degrees := _DEGREES.fullmatch(part):
            found["temperature" if degrees[1] else "current_temperature"] = float(degrees[2])
        elif named := _NAMED.fullmatch(part):
            found["fan_mode" if named[1] == "fan" else "remaining"] = named[2]
        elif domain == "light" and (rgb := color_value("rgb_color", color[1] if color else part)):
            found["rgb_color"] = rgb
        elif domain == "media_player" and part:
            found["media_title"] = part
    return found


def _percentage(domain: str, label: str | None, percent: float) -> dict[str, Any]:
    if label == "vol":
        return {"volume_level": percent / 100}
    if label == "battery":
        return {"battery_level": percent}
    key = _PERCENT_KEYS.get(domain)
    return {} if key is None else {key: percent * 2.55 if key == "brightness" else percent}


def _tool_name(tool: Mapping[str, Any]) -> str | None:
    function = tool.get("function", tool)
    name = function.get("name") if isinstance(function, Mapping) else None
    return name if isinstance(name, str) else None


def _normalized(name: Any) -> str:
    return " ".join(name.split()).casefold() if isinstance(name, str) else ""
