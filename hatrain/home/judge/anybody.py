"""What a call means in a dataset that names no client: every way of writing it that Home Assistant's users know."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from hatrain.errors import nearest
from hatrain.home.calls.compare import CLOCK_KEYS, TARGET_KEYS, Call, duration_seconds
from hatrain.home.clients import CLIENTS, Understood
from hatrain.home.clients.satellite_tools import SATELLITE_TOOLS
from hatrain.home.clients.targets import is_named, same_place
from hatrain.home.devices.entity import Entity
from hatrain.home.simulation.services import is_known

_PLACES = {"area_id": "area", "area": "area", "floor_id": "floor", "floor": "floor"}
_TARGETING = (*TARGET_KEYS, *_PLACES, "device_id", "domain")
_NESTED = ("target", "data", "service_data")
_PERCENT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*%\s*")


def understand(call: Call, entities: Sequence[Entity]) -> Understood:
    """Return what a written call does: a service with any form of target, or one of Home Assistant's intents."""
    if "." not in call.service:
        client = CLIENTS["assist" if call.service.startswith("Get") else "guide"]
        understood = client.understand(call, entities)
        # A timer is an entity of the home, or one of a voice satellite.
        is_other = understood.problem and call.service in SATELLITE_TOOLS
        return CLIENTS["assist"].understand(call, entities) if is_other else understood
    service = call.service.strip().casefold()
    if not is_known(service):
        return Understood(problem=f"{call.service}: not a service that is known here")
    arguments = dict(call.arguments)
    for key in _NESTED:
        if isinstance(arguments.get(key), Mapping):
            arguments |= arguments.pop(key)
    targets, problem = _targets(Call(service, arguments), entities)
    if problem:
        return Understood(problem=problem)
    values = _values({key: value for key, value in arguments.items() if key not in _TARGETING})
    return Understood(tuple(Call(service, {"entity_id": target, **values}) for target in targets))


def _targets(call: Call, entities: Sequence[Entity]) -> tuple[list[str], str | None]:
    """Return the ids of the entities that a call names, or why there are none."""
    domain = call.service.partition(".")[0]
    domains = _listed(call.arguments.get("domain")) or ([] if domain == "homeassistant" else [domain])
    eligible = [entity for entity in entities if not domains or entity.domain in domains]
    found: list[str] = []
    for name in call.targets():
        if name == "all":
            found += [entity.entity_id for entity in eligible]
        elif entities and name not in (known := [entity.entity_id for entity in entities]):
            named = [entity.entity_id for entity in eligible if is_named(entity, name)]
            if not named:
                return [], f"{name}: not in this home{nearest(name, known)}"
            found += named
        else:
            found.append(name)
    for key, kind in _PLACES.items():
        for place in _listed(call.arguments.get(key)):
            there = [entity.entity_id for entity in eligible if same_place(place, getattr(entity, kind) or "")]
            if not there:
                return [], f"{place}: nothing there that fits {call.service}"
            found += there
    return list(dict.fromkeys(found)), None if found else f"{call.service}: names no entity of this home"


def _values(given: Mapping[str, Any]) -> dict[str, Any]:
    """Write arguments as Home Assistant's own: a brightness from 0 to 1 or in percent, a colour, a time in parts."""
    values = dict(given)
    brightness = values.get("brightness")
    if isinstance(brightness, float) and 0 < brightness <= 1:
        values["brightness_pct"] = values.pop("brightness") * 100
    for key in ("brightness", "brightness_pct"):
        if isinstance(values.get(key), str) and (percent := _PERCENT.fullmatch(values[key])):
            del values[key]
            values["brightness_pct"] = float(percent[1])
    if "color" in values:
        color = values.pop("color")
        values["color_name" if isinstance(color, str) else "rgb_color"] = color
    clock = {key: values.pop(key) for key in CLOCK_KEYS if key in values}
    if clock and "duration" not in values and duration_seconds(clock) is not None:
        values["duration"] = duration_seconds(clock)
    return values


def _listed(value: Any) -> list[str]:
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return [text for item in value for text in _listed(item)] if isinstance(value, list | tuple) else []
