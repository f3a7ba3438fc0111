"""Reads what Home Assistant stores about a home: its states, and the registries of entities, devices, areas and
floors. Only these files are opened; the other files of `.storage` hold secrets."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hatrain.contract.load import read_source
from hatrain.errors import BadInput
from hatrain.home.devices.abilities import abilities
from hatrain.home.devices.services import domain_of
from hatrain.home.devices.states import Unit
from hatrain.home.homes.known_device import KnownDevice
from hatrain.text import count

REGISTRIES = {
    "core.entity_registry": "entities",
    "core.device_registry": "devices",
    "core.area_registry": "areas",
    "core.floor_registry": "floors",
    "homeassistant.exposed_entities": "exposed_entities",
}
"""The files of `.storage` that are read, and the key of their records."""
STATES = "states.json"
"""The answer of `/api/states`, in a folder of exports."""

# What Assist exposes of a home whose owner never chose (`exposed_entities.py` of Home Assistant).
_EXPOSED_DOMAINS = (
    "climate", "cover", "fan", "humidifier", "light", "media_player", "scene", "switch", "todo", "vacuum",
    "water_heater",
)  # fmt: skip
_EXPOSED_CLASSES = {
    "binary_sensor": ("door", "garage_door", "lock", "motion", "opening", "presence", "window"),
    "sensor": (
        "aqi", "carbon_monoxide", "carbon_dioxide", "humidity", "pm10", "pm25", "temperature",
        "volatile_organic_compounds",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Stored:
    """The exposed entities of a home; `hidden` are the ids of those that no client sees."""

    entities: tuple[KnownDevice, ...]
    hidden: tuple[str, ...] = ()
    unit: Unit | None = None
    notes: tuple[str, ...] = ()


@dataclass
class _Files:
    """The records of each file that was found, by the file's key; those of a registry by id."""

    states: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    registries: dict[str, Any] = field(default_factory=dict)

    def by_id(self, key: str, id_key: str) -> dict[str, Mapping[str, Any]]:
        return {str(record[id_key]): record for record in self.registries.get(key, []) if id_key in record}


def read_folder(folder: Path) -> Stored:
    """Read a folder of exports, Home Assistant's `.storage`, or the configuration folder that holds it. Raises
    BadInput when neither states nor an entity registry are in it."""
    stored = folder / ".storage"
    files = _Files()
    for place in (folder, stored):
        for path in _paths(place):
            _add(files, path, read_source(path))
    if "core.entity_registry" not in files.registries and not files.states:
        raise BadInput(f"{folder}: no core.entity_registry and no {STATES}; accepted: a folder with one of them")
    return _joined(files)


def read_file(path: Path, text: str) -> Stored | None:
    """Read a list of states or an entity registry, and the registries beside it; None for a file that a user wrote."""
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError) as error:
        if path.suffix == ".json" or path.name in REGISTRIES:
            raise BadInput(f"{path}: not JSON: {error}") from None
        return None
    if isinstance(parsed, dict) and not {"areas", "devices"}.isdisjoint(parsed):
        return None
    files = _Files()
    _add(files, path, text)
    if "core.entity_registry" not in files.registries and not files.states:
        raise BadInput(
            f"{path}: found no entities in it; accepted: a list of states (/api/states), core.entity_registry, or the "
            "folder that holds it"
        )
    for beside in _paths(path.parent):
        key = beside.name.removesuffix(".json")
        if key in REGISTRIES and key not in files.registries:
            _add(files, beside, read_source(beside))
    return _joined(files)


def _paths(folder: Path) -> Iterator[Path]:
    for name in (STATES, *REGISTRIES):
        yield from (path for path in (folder / name, folder / f"{name}.json") if path.is_file())


def _add(files: _Files, path: Path, text: str) -> None:
    """Add the records of one file, recognised by its content."""
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path}: not JSON: {error}") from None
    if isinstance(parsed, list):
        files.states = {str(state["entity_id"]): state for state in _records(path, parsed, "entity_id")}
        return
    data = parsed.get("data") if isinstance(parsed, dict) else None
    key = parsed.get("key") if isinstance(parsed, dict) else None
    if key is None and isinstance(data, dict) and "entities" in data:
        key = "core.entity_registry"
    if key not in REGISTRIES or not isinstance(data, dict) or REGISTRIES[key] not in data:
        raise BadInput(
            f"{path}: found other JSON; accepted: a list of states (/api/states), or one of .storage: "
            f"{', '.join(REGISTRIES)}"
        )
    found = data[REGISTRIES[key]]
    if key == "homeassistant.exposed_entities":
        found = [{"entity_id": name, **value} for name, value in found.items()] if isinstance(found, dict) else found
    id_keys = {"core.entity_registry": "entity_id", "homeassistant.exposed_entities": "entity_id"}
    files.registries[key] = _records(path, found, id_keys.get(key))


def _records(path: Path, found: Any, id_key: str | None) -> Sequence[Mapping[str, Any]]:
    if not isinstance(found, list) or not all(isinstance(r, dict) and (id_key is None or id_key in r) for r in found):
        raise BadInput(f"{path}: found other JSON; accepted: a list of records{f' with {id_key}' if id_key else ''}")
    return found


# --- joining ------------------------------------------------------------------------------------------------


def _joined(files: _Files) -> Stored:
    """Join what the files say of each entity: the registry's order, then entities that only have a state."""
    registered = files.by_id("core.entity_registry", "entity_id")
    devices = files.by_id("core.device_registry", "id")
    areas = {**files.by_id("core.area_registry", "area_id"), **files.by_id("core.area_registry", "id")}
    floors = files.by_id("core.floor_registry", "floor_id")
    chosen = files.by_id("homeassistant.exposed_entities", "entity_id")
    anybody_chose = any(_choice(entry) is not None for entry in [*registered.values(), *chosen.values()])
    entities, hidden = [], []
    for entity_id in dict.fromkeys([*registered, *files.states]):
        entry, state = registered.get(entity_id, {}), files.states.get(entity_id)
        if registered and files.states and state is None:
            continue  # registered, and not loaded by any integration
        if not _is_exposed(entity_id, entry, state, chosen.get(entity_id, {}), anybody_chose):
            hidden.append(entity_id)
            continue
        device = devices.get(str(entry.get("device_id")), {})
        area_id = entry.get("area_id") or device.get("area_id")
        area = areas.get(str(area_id), {})
        floor = floors.get(str(area.get("floor_id")), {})
        attributes = (state or {}).get("attributes") or {}
        entities.append(
            KnownDevice(
                entity_id,
                str(attributes.get("friendly_name") or _name(entity_id, entry, device)),
                str(area.get("name") or str(area_id).replace("_", " ")) if area_id else None,
                str(floor["name"]) if floor.get("name") else None,
                tuple(alias for alias in entry.get("aliases") or () if isinstance(alias, str) and alias.strip()),
                abilities(domain_of(entity_id), {**_capabilities(entry), **attributes}),
                _device_class(entry, attributes),
            )
        )
    return Stored(tuple(entities), tuple(hidden), _unit(files), tuple(_notes(files, registered, devices, areas)))


def _name(entity_id: str, entry: Mapping[str, Any], device: Mapping[str, Any]) -> str:
    """Return the name that Home Assistant shows: the owner's own, else the device's with the entity's part."""
    own = entry.get("original_name")
    if entry.get("name"):
        return str(entry["name"])
    if entry.get("has_entity_name") and (whole := device.get("name_by_user") or device.get("name")):
        return f"{whole} {own}" if own else str(whole)
    return str(own or entity_id.partition(".")[2].replace("_", " ").capitalize())


def _choice(entry: Mapping[str, Any]) -> bool | None:
    """Whether the owner chose to expose an entity to conversation clients; None where they did not choose."""
    options = entry.get("options") or entry.get("assistants") or {}
    choice = (options.get("conversation") or {}).get("should_expose") if isinstance(options, dict) else None
    return choice if isinstance(choice, bool) else None


def _device_class(entry: Mapping[str, Any], attributes: Mapping[str, Any]) -> str:
    found = attributes.get("device_class") or entry.get("device_class") or entry.get("original_device_class")
    return found if isinstance(found, str) else ""


def _is_exposed(
    entity_id: str,
    entry: Mapping[str, Any],
    state: Mapping[str, Any] | None,
    chosen: Mapping[str, Any],
    anybody_chose: bool,
) -> bool:
    if entry.get("disabled_by"):
        return False
    for choice in (_choice(entry), _choice(chosen)):
        if choice is not None:
            return choice
    if entry.get("hidden_by") or entry.get("entity_category"):
        return False
    domain = domain_of(entity_id)
    attributes = (state or {}).get("attributes") or {}
    kind = _device_class(entry, attributes)
    return not anybody_chose or domain in _EXPOSED_DOMAINS or kind in _EXPOSED_CLASSES.get(domain, ())


def _capabilities(entry: Mapping[str, Any]) -> dict[str, Any]:
    known = dict(entry.get("capabilities") or {})
    # 0 is what the registry holds of an entity that has not been loaded, and of one without features.
    if entry.get("supported_features"):
        known["supported_features"] = entry["supported_features"]
    return known


def _unit(files: _Files) -> Unit | None:
    units = {str((state.get("attributes") or {}).get("temperature_unit", "")) for state in files.states.values()}
    return "F" if "°F" in units else "C" if "°C" in units else None


def _notes(
    files: _Files, registered: Mapping[str, Any], devices: Mapping[str, Any], areas: Mapping[str, Any]
) -> Iterator[str]:
    """Say which names and areas are incomplete because a registry is missing."""
    named = [
        entity_id
        for entity_id, entry in registered.items()
        if entry.get("has_entity_name") and not entry.get("name") and entity_id not in files.states
    ]
    if not devices and (named or any(entry.get("device_id") for entry in registered.values())):
        yield (
            "without core.device_registry "
            + (f"the names of {count(len(named), 'entity', 'entities')} are only a part of them, and " if named else "")
            + "areas that belong to devices are not known; put it beside core.entity_registry"
        )
    if not areas and any(record.get("area_id") for record in [*registered.values(), *devices.values()]):
        yield "without core.area_registry areas are named by their ids; put it beside core.entity_registry"
