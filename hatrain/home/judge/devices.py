"""Reads the devices that a row carries for the judge."""

from collections.abc import Mapping
from typing import Any

from hatrain.errors import BadInput, nearest
from hatrain.home.devices.entity import Entity

_KEYS = ("entity_id", "name", "state", "attributes", "aliases", "area", "floor")


def read_devices(value: Any, where: str) -> tuple[Entity, ...] | None:
    """Return the entities of a row's `devices`; None for a row without them. Raises BadInput, a line for each fault."""
    if value is None:
        return None
    if not isinstance(value, list):
        raise BadInput(f"{where}: devices: found {type(value).__name__}; accepted: a list of entities")
    problems = [
        f"{where}: devices: entry {number}: {fault}" for number, each in enumerate(value) if (fault := _fault(each))
    ]
    if problems:
        raise BadInput(problems)
    return tuple(
        Entity(
            each["entity_id"],
            each["name"],
            each["state"],
            # A dataset library adds keys without a value to rows that lack them.
            {key: item for key, item in (each.get("attributes") or {}).items() if item is not None},
            tuple(each.get("aliases") or ()),
            each.get("area"),
            each.get("floor"),
        )
        for each in value
    )


def _fault(entry: Any) -> str | None:
    if not isinstance(entry, Mapping):
        return f"found {entry!r}; accepted: an entity with entity_id, name and state"
    if unknown := next((key for key in entry if key not in _KEYS), None):
        return f"{unknown}: not a key; accepted: {', '.join(_KEYS)}{nearest(unknown, _KEYS)}"
    for key in ("entity_id", "name", "state"):
        if not isinstance(entry.get(key), str):
            return f"{key}: found {entry.get(key)!r}; accepted: some text"
    if not isinstance(entry.get("attributes") or {}, Mapping):
        return f"attributes: found {entry['attributes']!r}; accepted: an object"
    return None
