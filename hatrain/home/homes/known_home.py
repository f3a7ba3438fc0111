"""A home that somebody has: read from a short YAML of areas and devices, or from what Home Assistant exports."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hatrain.errors import BadInput, nearest
from hatrain.home.devices.services import DOMAINS, domain_of
from hatrain.home.devices.states import Unit, state_pool
from hatrain.home.homes.home import Device, Draw, Home, Prompts, alike, pick
from hatrain.home.language.grammar import Name, Noun, Room, name_known_device
from hatrain.home.language.load import Language
from hatrain.home.language.piles import Text, read_records

_KEYS = ("areas", "devices", "prompt", "temperature_unit")


@dataclass(frozen=True)
class KnownDevice:
    """A device as its owner describes it. `positioned`: whether a cover can stop half way."""

    entity_id: str
    name: str
    area: str | None = None
    positioned: bool = True


@dataclass(frozen=True)
class HomeFile:
    """One home as its file tells it. `left_out` are the entities of domains that are not for requests."""

    devices: tuple[KnownDevice, ...]
    prompt: str | None = None
    unit: Unit | None = None
    left_out: tuple[str, ...] = field(default=())


def read_home(path: Path) -> HomeFile:
    """Read a home file. Raises BadInput with everything wrong in it.

    JSON is what Home Assistant exports: the list of `/api/states`, or `.storage/core.entity_registry`. Anything
    else is our YAML: `areas: {Kitchen: {light.kitchen: Kitchen Light}}`, `devices: {…}` for those of no area,
    `prompt`, `temperature_unit`.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: cannot be read: {error}") from None
    exported = _as_export(path, text)
    home = _written(path) if exported is None else _exported(path, exported)
    if not home.devices:
        raise BadInput(f"{path}: no devices that can be asked for anything (domains: {', '.join(DOMAINS)})")
    return home


def _written(path: Path) -> HomeFile:
    records = read_records(path, file=str(path))
    if not isinstance(records, Mapping):
        raise BadInput(f"{path}: not a home: accepted keys are {', '.join(_KEYS)}")
    problems = [
        f"{path}:{key.line}: {key}: not a key of a home (accepted: {', '.join(_KEYS)}){nearest(key, _KEYS)}"
        for key in records
        if key not in _KEYS
    ]
    unit = records.get("temperature_unit")
    if unit not in (None, "C", "F"):
        problems.append(f"{path}:{unit.line}: temperature_unit: found {unit}, accepted: C, F")
    areas = records.get("areas") or {}
    if not isinstance(areas, Mapping):
        raise BadInput([*problems, f"{path}: areas: not a mapping of area to devices"])
    groups = [
        (None, records.get("devices") or {}),
        *((str(area), found or {}) for area, found in areas.items()),
    ]
    devices: dict[str, KnownDevice] = {}
    for area, found in groups:
        if not isinstance(found, Mapping):
            problems.append(f"{path}: {area or 'devices'}: not a mapping of entity id to name")
            continue
        for entity_id, said in found.items():
            problems += _entity_problems(f"{path}:{entity_id.line}", entity_id, devices)
            devices[str(entity_id)] = _device(path, entity_id, said, area, problems)
    if problems:
        raise BadInput(problems)
    prompt = records.get("prompt")
    return HomeFile(
        tuple(devices.values()), str(prompt) if prompt else None, unit and ("F" if unit == "F" else "C")
    )


def _entity_problems(where: str, entity_id: Text, taken: Mapping[str, Any]) -> list[str]:
    domain = domain_of(entity_id)
    if entity_id in taken:
        return [f"{where}: {entity_id}: given twice"]
    if domain not in DOMAINS or "." not in entity_id:
        return [f"{where}: {entity_id}: not an entity id of {', '.join(DOMAINS)}{nearest(domain, DOMAINS)}"]
    return []


def _device(path: Path, entity_id: Text, said: Any, area: str | None, problems: list[str]) -> KnownDevice:
    if isinstance(said, Text) and said:
        return KnownDevice(str(entity_id), str(said), area)
    record = said if isinstance(said, Mapping) else {}
    if "name" not in record or not set(record) <= {"name", "position"}:
        problems.append(f"{path}:{entity_id.line}: {entity_id}: accepted: a name, or {{name, position}}")
    return KnownDevice(
        str(entity_id), str(record.get("name", "")), area, record.get("position", "yes") == "yes"
    )


def _as_export(path: Path, text: str) -> Any:
    """Return the JSON of a file that Home Assistant exported; None for a home that somebody wrote."""
    try:
        parsed = json.loads(text)
    except ValueError as error:
        if path.suffix == ".json":
            raise BadInput(f"{path}: not JSON: {error}") from None
        return None
    ours = isinstance(parsed, dict) and not {"areas", "devices"}.isdisjoint(parsed)
    return None if ours else parsed


def _exported(path: Path, parsed: Any) -> HomeFile:
    data = parsed.get("data") if isinstance(parsed, dict) else None
    entities = data.get("entities") if isinstance(data, dict) else parsed
    if not isinstance(entities, list) or not all(isinstance(e, dict) and "entity_id" in e for e in entities):
        raise BadInput(f"{path}: neither a list of states (/api/states) nor an entity registry")
    known = [entity for entity in entities if domain_of(str(entity["entity_id"])) in DOMAINS]
    kept = [entity for entity in known if not entity.get("disabled_by") and not entity.get("hidden_by")]
    left = tuple(sorted({str(e["entity_id"]) for e in entities} - {str(e["entity_id"]) for e in kept}))
    units = {str(entity.get("attributes", {}).get("temperature_unit", "")) for entity in entities}
    unit: Unit | None = "F" if "°F" in units else None
    return HomeFile(tuple(map(_exported_device, kept)), None, unit, left)


def _exported_device(entity: Mapping[str, Any]) -> KnownDevice:
    entity_id = str(entity["entity_id"])
    attributes = entity.get("attributes") or {}
    by_id = entity_id.partition(".")[2].replace("_", " ").capitalize()
    name = attributes.get("friendly_name") or entity.get("name") or entity.get("original_name") or by_id
    area = entity.get("area_id")
    # Only the states of a cover tell whether it can stop half way.
    positioned = not attributes or domain_of(entity_id) != "cover" or "current_position" in attributes
    return KnownDevice(entity_id, str(name), str(area).replace("_", " ") if area else None, positioned)


class KnownHome:
    """The one home of a file, drawn in ever new states. Its devices stand in the file's order."""

    def __init__(self, language: Language, home: HomeFile, list_services: bool = True):
        self._language, self._home = language, home
        self._prompts = Prompts(language, list_services)
        rooms: dict[str, Room] = {}
        self.names = [_name(language, device, rooms) for device in home.devices]
        self._others: dict[str, list[Name]] = {}
        for name in language.names:
            if not any(alike(name, known, language.alike) for known in self.names):
                self._others.setdefault(name.domain, []).append(name)

    def draw(self, draw: Draw, max_devices: int = 32) -> Home:
        """Return the home with its devices in drawn states; all of them, however many `most` may be."""
        language = self._language
        unit = self._home.unit or language.units[0]
        devices = []
        for known, name in zip(self._home.devices, self.names, strict=True):
            positioned = known.positioned and (name.noun is None or name.noun.positioned)
            cools = name.noun is None or name.noun.cools
            pool = state_pool(name.domain, unit, language.values.titles, positioned=positioned, cools=cools)
            devices.append(Device(name, pick(draw, pool)))
        return self._prompts.home(draw, devices, unit, self._home.prompt)

    def absent_name(self, draw: Draw, home: Home, domain: str) -> Name | None:
        """Draw the name of a device that this home does not have, nor one like it."""
        found = self._others.get(domain, ())
        return pick(draw, found) if found else None


def _name(language: Language, device: KnownDevice, rooms: dict[str, Room]) -> Name:
    """Return a device's name, spoken of as the language's own piles would where they know its words."""
    domain = domain_of(device.entity_id)
    room = _room(language, device.area, rooms)
    for name in language.names:
        if name.domain == domain and name.friendly.casefold() == device.name.casefold():
            return Name(
                domain, name.noun, room or name.room, device.name, device.entity_id, name.cls, name.said
            )
    noun = _noun(language.nouns, domain, device.name)
    cls = noun.cls if noun else language.unknown_class
    return name_known_device(language.grammar, device.entity_id, device.name, noun, room, cls)


def _noun(nouns: Sequence[Noun], domain: str, name: str) -> Noun | None:
    """Return the longest noun of a domain that stands in a name."""
    found = [noun for noun in nouns if noun.domain == domain and noun.base.casefold() in name.casefold()]
    return max(found, key=lambda noun: len(noun.base), default=None)


def _room(language: Language, area: str | None, rooms: dict[str, Room]) -> Room | None:
    if area is None:
        return None
    if area not in rooms:
        known = (room for room in language.rooms if room.base.casefold() == area.casefold())
        forms = {
            form: pattern.replace("{name}", area) for form, pattern in language.grammar.unknown_room.items()
        }
        rooms[area] = next(known, Room(area, forms, (), 0))
    return rooms[area]
