"""What a prompt says of an entity's state, written from its attributes: a simulated home has nothing else."""

import math
from collections.abc import Mapping
from typing import Any

from hatrain.home.calls.compare import duration_seconds, to_number
from hatrain.home.clients.client import Client
from hatrain.home.clients.home_llm_prompt import closest_name
from hatrain.home.devices.actions import State
from hatrain.home.devices.entity import Entity
from hatrain.home.devices.states import Unit

_SAME_VALUES: Mapping[str, Mapping[str, str]] = {
    "fan": {"percentage": "percentage"},
    "cover": {"current_position": "position"},
    "valve": {"current_position": "position"},
    "media_player": {"media_title": "title"},
    "climate": {
        "current_temperature": "temperature",
        "current_humidity": "humidity",
        "temperature": "target",
        "humidity": "target_humidity",
        "fan_mode": "fan_mode",
    },
    "vacuum": {"battery_level": "battery"},
}
"""Domain → attribute → the key under which a state is drawn. Only those that a prompt shows are needed."""
_WHILE_OFF: Mapping[str, frozenset[str]] = {
    "fan": frozenset(),
    "light": frozenset(),
    "climate": frozenset({"temperature", "humidity"}),
    "media_player": frozenset(),
    "timer": frozenset(),
}
"""What is still said of a device that is off, or of a timer that is idle; of other domains everything."""


def state_text(client: Client, entity: Entity, unit: Unit) -> str:
    """Return the part of a device's line after the `=`, as `client` writes it in a prompt."""
    return client.device_text(entity.domain, drawn_state(entity), unit)


def drawn_state(entity: Entity) -> State:
    """Return an entity's state with the keys under which states are drawn: percent, names of colours, clock times."""
    attributes = entity.attributes
    found: dict[str, Any] = {
        key: _whole(attributes[name])
        for name, key in _SAME_VALUES.get(entity.domain, {}).items()
        if attributes.get(name) is not None
    }
    if entity.domain == "light":
        if (brightness := to_number(attributes.get("brightness"))) is not None:
            found["brightness"] = math.floor(brightness / 2.55 + 1e-6)
        if rgb := attributes.get("rgb_color"):
            found["color"] = closest_name(tuple(rgb))
    elif entity.domain == "media_player" and (volume := to_number(attributes.get("volume_level"))) is not None:
        found["volume"] = round(volume * 100)
    elif entity.domain == "timer" and (left := duration_seconds(attributes.get("remaining"))) is not None:
        found["remaining"] = f"{int(left) // 3600:02}:{int(left) // 60 % 60:02}:{int(left) % 60:02}"
    if entity.state in ("off", "idle") and entity.domain in _WHILE_OFF and not _idles(entity):
        found = {key: value for key, value in found.items() if key in _WHILE_OFF[entity.domain]}
    return {**found, "state": entity.state, "attributes": attributes}


def _idles(entity: Entity) -> bool:
    """Whether it is a player that is on and plays nothing."""
    return entity.domain == "media_player" and entity.state == "idle"


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value
