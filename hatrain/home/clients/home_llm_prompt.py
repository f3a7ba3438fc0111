"""The layout of the system prompts of acon96/home-llm: device lines, areas, order.

Source: `const.py` (DEFAULT_PROMPT_BASE, DEFAULT_PROMPT_BASE_LEGACY) and `entity.py` of its custom component. Line
breaks are those of its templates, which Home Assistant renders without trimming blocks.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from hatrain.home.calls.colors import CSS_COLORS, RGB
from hatrain.home.devices.actions import State
from hatrain.home.homes.scene import Device, Scene

SHOWN = ("rgb_color", "brightness", "temperature", "humidity", "fan_mode", "media_title", "volume_level")
"""The attributes that it sends, in this order."""

AREA = {"en": "Area", "de": "Bereich", "fr": "Zone", "es": "Área", "pl": "Obszar"}
"""The label of an area, by language."""


def shown_attributes(attributes: Mapping[str, Any]) -> list[str]:
    """Return an entity's attributes as they are sent: `crimson (220, 20, 60)`, `30%`, `21 C`, `vol=40`."""
    shown = []
    for key in SHOWN:
        value = attributes.get(key)
        if value is None:
            continue
        unit = attributes.get(f"{key}_unit")
        if unit:
            text = f"{value} {unit}"
        elif key == "temperature":
            text = f"{int(value)} {'F' if value > 50 else 'C'}"
        elif key == "rgb_color":
            text = f"{closest_name(tuple(value))} {tuple(value)}"
        elif key == "volume_level":
            text = f"vol={int(value * 100)}"
        elif key == "brightness":
            text = f"{int(value / 255 * 100)}%"
        elif key == "humidity":
            text = f"{value}%"
        else:
            text = str(value)
        shown.append(text)
    return shown


_NAMES = {name: rgb for name, rgb in sorted(CSS_COLORS.items()) if name != "rebeccapurple"}  # CSS 3 has not


@lru_cache(maxsize=4096)
def closest_name(color: RGB) -> str:
    """Return the CSS 3 colour that is nearest in RGB; of several the last by name."""
    nearest = {sum((a - b) ** 2 for a, b in zip(rgb, color, strict=True)): name for name, rgb in _NAMES.items()}
    return nearest[min(nearest)]


def device_lines(device: Device, text: str) -> list[str]:
    """Return a device's line, and one for each alias."""
    lines = [device.name.line_start + text]
    return lines + [f"{device.name.entity_id} '{alias}' = {text}" for alias in device.aliases]


def flat_prompt(scene: Scene) -> str:
    """Return the persona, the devices in their order, and the date after an empty line."""
    lines = [line for device in scene.devices for line in device_lines(device, device.state["text"])]
    body = "\n".join(lines)
    return f"{scene.opening}\n{scene.labels['devices']}\n{body}\n\n{scene.date_line(scene.moment)}"


def grouped_prompt(scene: Scene) -> str:
    """Return the persona, the devices of no area, those of each area by its name, and the date."""
    parts = [f"{scene.opening}\n{scene.labels['devices']}\n"]
    by_area: dict[str, list[Device]] = {}
    for device in scene.devices:
        if device.area is None:
            parts += [f"\n{line}\n" for line in device_lines(device, device.state["text"])]
        else:
            by_area.setdefault(device.area, []).append(device)
    parts.append("\n")
    label = AREA.get(scene.language, AREA["en"])
    for area, devices in sorted(by_area.items(), key=lambda group: group[0].lower()):
        parts.append(f"\n## {label}: {area}\n")
        parts += [f"\n{line}\n" for device in devices for line in _area_lines(device)]
        parts.append("\n")
    return f"{''.join(parts)}\n{scene.date_line(scene.moment)}"


def _area_lines(device: Device) -> Sequence[str]:
    # In an area the template joins state and attributes with a semicolon even where there are none.
    text = device.state["text"]
    return device_lines(device, text if ";" in text else f"{text};")


def shows(key: str, state: State) -> bool:
    """Whether a device's line says a value. It cuts a temperature's decimals off, so 21.5 is not said."""
    if key == "temperature":
        return float(state["attributes"].get(key, 0)).is_integer()
    return key == "state" or key in SHOWN
