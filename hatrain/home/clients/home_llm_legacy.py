"""The integration "Local LLM" of acon96/home-llm with its older interface: services in fences, one call a fence."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hatrain.errors import nearest
from hatrain.home.calls.answer import SINGLE_FENCE, UNCLOSED
from hatrain.home.calls.colors import CSS_COLORS
from hatrain.home.calls.compare import Call
from hatrain.home.clients.client import Drawn, History, Json, RowFormat, Understood
from hatrain.home.clients.home_llm_prompt import flat_prompt, shown_attributes, shows
from hatrain.home.clients.targets import service_target
from hatrain.home.devices.actions import State
from hatrain.home.devices.entity import Entity
from hatrain.home.devices.states import Unit
from hatrain.home.homes.scene import Scene

_LIGHT = ("rgb_color", "brightness")
SERVICES: dict[str, tuple[str, ...]] = {
    "light.turn_on": _LIGHT,
    "light.turn_off": (),
    "light.toggle": _LIGHT,
    "switch.turn_on": (),
    "switch.turn_off": (),
    "switch.toggle": (),
    "button.press": (),
    "fan.turn_on": ("preset_mode",),
    "fan.turn_off": (),
    "fan.toggle": (),
    "fan.increase_speed": (),
    "fan.decrease_speed": (),
    "fan.set_preset_mode": ("preset_mode",),
    "cover.open_cover": (),
    "cover.close_cover": (),
    "cover.stop_cover": (),
    "cover.toggle": (),
    "lock.lock": (),
    "lock.unlock": (),
    "media_player.turn_on": (),
    "media_player.turn_off": (),
    "media_player.toggle": (),
    "climate.turn_on": (),
    "climate.turn_off": (),
    "climate.toggle": (),
    "climate.set_temperature": ("temperature", "hvac_mode"),
    "climate.set_humidity": ("humidity",),
    "climate.set_fan_mode": ("fan_mode",),
    "climate.set_hvac_mode": ("hvac_mode",),
    "climate.set_preset_mode": ("preset_mode",),
    "vacuum.start": (),
    "vacuum.pause": (),
    "vacuum.stop": (),
    "vacuum.return_to_base": (),
    "todo.add_item": ("item",),
    "timer.start": ("duration",),
    "timer.pause": (),
    "timer.cancel": (),
    "script.turn_on": (),
    "script.turn_off": (),
    "script.toggle": (),
}
"""The services that the integration lets through and Home Assistant has, with the keys that both accept."""

_NEEDED = {
    "climate.set_temperature": "temperature",
    "climate.set_humidity": "humidity",
    "climate.set_fan_mode": "fan_mode",
    "climate.set_hvac_mode": "hvac_mode",
    "climate.set_preset_mode": "preset_mode",
    "fan.set_preset_mode": "preset_mode",
    "todo.add_item": "item",
}
_NUMBERS = ("brightness", "temperature", "humidity")
_TEXTS = ("rgb_color", "fan_mode", "hvac_mode", "preset_mode", "duration", "item")
KEYS = (*_TEXTS, *_NUMBERS)
"""Every key of a call beside `service` and `target_device`. A call with another one is dropped as malformed."""


@dataclass(frozen=True)
class HomeLlmLegacy:
    """The prompt lists devices with their states; calls are `{"service", "target_device", …}`."""

    name: str = "home-llm-legacy"
    forms: frozenset[str] = frozenset({SINGLE_FENCE, UNCLOSED})
    row_format: RowFormat = "sharegpt"
    areas: bool = True
    states_in_prompt: bool = True
    says_where: bool = False
    history: History = "words"
    least_brightness: int = 1

    def understand(self, call: Call, entities: Sequence[Entity]) -> Understood:
        arguments = {key: value for key, value in call.arguments.items() if key != "target_device"}
        if problem := _malformed(call, arguments):
            return Understood(problem=problem)
        if call.service not in SERVICES:
            return Understood(problem=f"{call.service}: not a service of this client{nearest(call.service, SERVICES)}")
        targets = service_target(call, entities, ("target_device",))
        if isinstance(targets, str):
            return Understood(problem=targets)
        values = _values(arguments)
        if isinstance(values, str):
            return Understood(problem=values)
        accepted = SERVICES[call.service]
        refused = next((key for key in values if key not in accepted), None)
        if refused:
            return Understood(problem=f"{refused}: Home Assistant refuses it for {call.service}")
        needed = _NEEDED.get(call.service)
        if needed and needed not in values:
            return Understood(problem=f"{needed}: missing; {call.service} needs it")
        return Understood(tuple(Call(call.service, {"entity_id": target, **values}) for target in targets))

    def offers(self, service: str, arguments: Iterable[str]) -> bool:
        return service in SERVICES and "color_temp_kelvin" not in arguments

    def states_for(self, service: str, arguments: Iterable[str]) -> frozenset[str]:
        return frozenset()

    def lists(self, domain: str) -> bool:
        return True

    def shows(self, key: str, state: State) -> bool:
        return shows(key, state)

    def device_text(self, domain: str, state: State, unit: Unit) -> str:
        return ";".join([state["state"], *shown_attributes(state["attributes"])])

    def prompt(self, scene: Scene) -> str:
        return flat_prompt(scene)

    def answer(self, text: str, calls: Sequence[Drawn]) -> str:
        return "\n".join([text, *(f"```homeassistant\n{_encode(_written(call))}\n```" for call in calls)])

    def tools(self, domains: frozenset[str], satellite: bool = False) -> Sequence[Json]:
        return ()


_encode = json.JSONEncoder(ensure_ascii=False).encode


def _written(call: Drawn) -> Json:
    """Return a call with this client's keys: a brightness of 0 to 255, a colour as text."""
    written: Json = {}
    for key, value in call.items():
        if key == "brightness_pct":
            written["brightness"] = -(-value * 255 // 100)
        elif key == "color_name":
            written["rgb_color"] = str(CSS_COLORS[value])
        else:
            written[key] = value
    return written


def _malformed(call: Call, arguments: Mapping[str, Any]) -> str | None:
    """Return in one line what the integration's schema of a call refuses, if anything."""
    if not isinstance(call.arguments.get("target_device"), str):
        return f"target_device: found {call.arguments.get('target_device')!r}; accepted: one entity id"
    for key, value in arguments.items():
        if key not in KEYS:
            return f"{key}: not a key of this client; accepted: {', '.join(KEYS)}"
        if key in _TEXTS and not isinstance(value, str):
            return f"{key}: found {value!r}; accepted: text"
        if key in _NUMBERS and (isinstance(value, bool) or not isinstance(value, int | float)):
            return f"{key}: found {value!r}; accepted: a number"
    return None


def _values(arguments: Mapping[str, Any]) -> dict[str, Any] | str:
    """Return the arguments as the integration passes them on, or in one line what it cannot read."""
    values = dict(arguments)
    if "brightness" in values:
        level = values["brightness"]
        values["brightness"] = min(255, max(0, int(level * 255) if 0 < level <= 1 else int(level)))
    if "rgb_color" in values:
        try:
            channels = tuple(int(part) for part in values["rgb_color"][1:-1].split(","))
        except ValueError:
            channels = ()
        if len(channels) != 3 or not all(0 <= channel <= 255 for channel in channels):
            return f"rgb_color: found {values['rgb_color']!r}; accepted: text such as '(255, 0, 0)'"
        values["rgb_color"] = channels
    return values
