"""Tells a user what a call would do in a home, why it cannot be done, and how the home has changed."""

from collections.abc import Sequence
from typing import Any

from hatrain.home.calls.compare import TARGET_KEYS, Call
from hatrain.home.calls.prompt import PromptContents
from hatrain.home.devices.entity import Entity
from hatrain.home.judge.effects import Understand, effects


def execution_problems(call: Call, known: PromptContents, understand: Understand) -> list[str]:
    """Return why the client cannot carry out a call in the home of a prompt, one line each."""
    return [problem for _, problem in effects([call], known.devices, understand).failed]


def in_words(call: Call, known: PromptContents) -> str:
    """Describe a call for users: `turn on Kitchen Light (light.kitchen): brightness_pct 40`."""
    action = call.service.partition(".")[2] or call.service
    friendly = known.entities
    names = [f"{friendly[entity]} ({entity})" if entity in friendly else entity for entity in call.targets()]
    settings = ", ".join(f"{key} {value}" for key, value in call.arguments.items() if key not in TARGET_KEYS)
    description = f"{action.replace('_', ' ')} {' and '.join(names)}".strip()
    return f"{description}: {settings}" if settings else description


def changes(before: Sequence[Entity], after: Sequence[Entity]) -> list[str]:
    """Return a line for each entity that is not as it was: `Lamp (light.lamp): off → on, brightness not set → 40%`."""
    lines = []
    for then, now in zip(before, after, strict=True):
        parts = [] if then.state == now.state else [f"{then.state} → {now.state}"]
        for key in dict.fromkeys([*then.attributes, *now.attributes]):
            old, new = then.attributes.get(key), now.attributes.get(key)
            if old != new:
                parts.append(f"{key.replace('_', ' ')} {_value(key, old)} → {_value(key, new)}")
        if parts:
            lines.append(f"{now.name} ({now.entity_id}): {', '.join(parts)}")
    return lines


def described(entity: Entity) -> str:
    """Return an entity's name and state, with the settings of it that change."""
    settings = [
        f"{key.replace('_', ' ')} {_value(key, entity.attributes[key])}"
        for key in _SETTINGS
        if key in entity.attributes
    ]
    return f"{entity.name} ({entity.entity_id}): {', '.join([entity.state, *settings])}"


_SETTINGS = (
    "brightness", "rgb_color", "color_temp_kelvin", "percentage", "current_position", "temperature", "humidity",
    "fan_mode", "preset_mode", "media_title", "volume_level", "remaining",
)  # fmt: skip


def _value(key: str, value: Any) -> str:
    if value is None:
        return "not set"
    if key == "brightness" and isinstance(value, int | float):
        return f"{value / 2.55:.0f}%"
    return f"{value:g}" if isinstance(value, float) else str(value)
