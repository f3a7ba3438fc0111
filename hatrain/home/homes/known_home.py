"""A user's real home, read from a short YAML file of areas and devices, or from what Home Assistant exports."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict

from hatrain.contract.load import Key, read_source, read_text, validate
from hatrain.errors import BadInput, nearest
from hatrain.home.clients.client import Client
from hatrain.home.devices.services import DOMAINS, domain_of
from hatrain.home.devices.states import Unit, state_pool
from hatrain.home.homes.home import Device, Draw, Home, Prompts, alike, pick
from hatrain.home.homes.scene import WritePrompt
from hatrain.home.language.grammar import Name, Noun, Room, name_known_device
from hatrain.home.language.load import Language


@dataclass(frozen=True)
class KnownDevice:
    """A device as its owner describes it. `positioned`: whether a cover can stop half way."""

    entity_id: str
    name: str
    area: str | None = None
    positioned: bool = True


@dataclass(frozen=True)
class HomeFile:
    """The contents of a home file. `left_out` are the entities of domains that take no requests."""

    devices: tuple[KnownDevice, ...]
    prompt: str | None = None
    unit: Unit | None = None
    left_out: tuple[str, ...] = ()


def read_home(path: Path) -> HomeFile:
    """Read a home file. Raises BadInput with all problems in it.

    JSON is what Home Assistant exports: the list of `/api/states`, or `.storage/core.entity_registry`. Anything
    else is YAML: `areas: {Kitchen: {light.kitchen: Kitchen Light}}`, `devices: {…}` for those of no area,
    `prompt`, `temperature_unit`.
    """
    text = read_source(path)
    exported = _as_export(path, text)
    home = _from_yaml(path, text) if exported is None else _from_export(path, exported)
    if not home.devices:
        raise BadInput(f"{path}: no device that takes requests (accepted domains: {', '.join(DOMAINS)})")
    return home


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _DeviceRecord(_Record):
    name: str
    position: bool = True


def _entity_id(text: str) -> str:
    domain = domain_of(text)
    if domain not in DOMAINS or "." not in text:
        raise ValueError(f"an entity id of {', '.join(DOMAINS)}{nearest(domain, DOMAINS)}")
    return text


def _or_empty(value: Any) -> Any:
    return {} if value is None else value


_Device = Annotated[_DeviceRecord, BeforeValidator(lambda value: {"name": value} if isinstance(value, str) else value)]
_Devices = Annotated[dict[Annotated[str, AfterValidator(_entity_id)], _Device], BeforeValidator(_or_empty)]


class _HomeYaml(_Record):
    devices: _Devices = {}
    areas: Annotated[dict[str, _Devices], BeforeValidator(_or_empty)] = {}
    prompt: str | None = None
    temperature_unit: Unit | None = None


def _from_yaml(path: Path, text: str) -> HomeFile:
    document = read_text(text, str(path))
    file = validate(_HomeYaml, document)
    groups: list[tuple[str | None, Key, _Devices]] = [(None, ("devices",), file.devices)]
    groups += [(area, ("areas", area), records) for area, records in file.areas.items()]
    devices: dict[str, KnownDevice] = {}
    problems = []
    for area, key, records in groups:
        for entity_id, record in records.items():
            if entity_id in devices:
                problems.append(f"{document.where((*key, entity_id))}: given twice; keep it in one area")
            devices[entity_id] = KnownDevice(entity_id, record.name, area, record.position)
    if problems:
        raise BadInput(problems)
    return HomeFile(tuple(devices.values()), file.prompt, file.temperature_unit)


def _as_export(path: Path, text: str) -> Any:
    """Return the JSON of a file that Home Assistant exported; None for one that a user wrote."""
    try:
        parsed = json.loads(text)
    except ValueError as error:
        if path.suffix == ".json":
            raise BadInput(f"{path}: not JSON: {error}") from None
        return None
    by_user = isinstance(parsed, dict) and not {"areas", "devices"}.isdisjoint(parsed)
    return None if by_user else parsed


def _from_export(path: Path, parsed: Any) -> HomeFile:
    data = parsed.get("data") if isinstance(parsed, dict) else None
    entities = data.get("entities") if isinstance(data, dict) else parsed
    if not isinstance(entities, list) or not all(isinstance(e, dict) and "entity_id" in e for e in entities):
        raise BadInput(
            f"{path}: found other JSON; accepted: a list of states (/api/states) or an entity registry "
            "(.storage/core.entity_registry)"
        )
    known = [entity for entity in entities if domain_of(str(entity["entity_id"])) in DOMAINS]
    kept = [entity for entity in known if not entity.get("disabled_by") and not entity.get("hidden_by")]
    left = tuple(sorted({str(e["entity_id"]) for e in entities} - {str(e["entity_id"]) for e in kept}))
    units = {str((entity.get("attributes") or {}).get("temperature_unit", "")) for entity in entities}
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
    """The home of a file, with new states in each draw. Its devices keep the file's order."""

    def __init__(self, language: Language, home: HomeFile, client: Client, write: WritePrompt | None = None):
        self._language, self._home, self._client = language, home, client
        self._prompts = Prompts(language, write or client.prompt)
        rooms: dict[str, Room] = {}
        self.names = [_name(language, device, rooms) for device in home.devices]
        self._absent: dict[str, list[Name]] = {}
        for name in language.names:
            if not any(alike(name, present, language.alike) for present in self.names):
                self._absent.setdefault(name.domain, []).append(name)

    def draw(self, draw: Draw, max_devices: int = 32) -> Home:
        """Draw the states of all devices of the home, however many they are."""
        language = self._language
        unit = self._home.unit or language.units[0]
        devices = []
        for device, name in zip(self._home.devices, self.names, strict=True):
            positioned = device.positioned and (name.noun is None or name.noun.positioned)
            cools = name.noun is None or name.noun.cools
            text, titles = self._client.device_text, language.values.titles
            pool = state_pool(name.domain, unit, titles, text, positioned=positioned, cools=cools)
            devices.append(Device(name, pick(draw, pool), device.area if self._client.areas else None))
        return self._prompts.home(draw, devices, unit, self._home.prompt)

    def absent_name(self, draw: Draw, home: Home, domain: str) -> Name | None:
        names = self._absent.get(domain, ())
        return pick(draw, names) if names else None


def _name(language: Language, device: KnownDevice, rooms: dict[str, Room]) -> Name:
    """Refer to a device as the language's own names do where one of them is the same, else by its friendly name."""
    domain = domain_of(device.entity_id)
    room = _room(language, device.area, rooms)
    for name in language.names:
        if name.domain == domain and name.friendly.casefold() == device.name.casefold():
            return Name(domain, name.noun, room or name.room, device.name, device.entity_id, name.cls, name.references)
    noun = _noun(language.nouns, domain, device.name)
    cls = noun.cls if noun else language.unknown_class
    return name_known_device(language.grammar, device.entity_id, device.name, noun, room, cls)


def _noun(nouns: Sequence[Noun], domain: str, name: str) -> Noun | None:
    """Return the longest noun of a domain that a name contains."""
    contained = [noun for noun in nouns if noun.domain == domain and noun.base.casefold() in name.casefold()]
    return max(contained, key=lambda noun: len(noun.base), default=None)


def _room(language: Language, area: str | None, rooms: dict[str, Room]) -> Room | None:
    if area is None:
        return None
    if area not in rooms:
        known = (room for room in language.rooms if room.base.casefold() == area.casefold())
        patterns = language.grammar.unknown_room.items()
        forms = {form: pattern.replace("{name}", area) for form, pattern in patterns}
        rooms[area] = next(known, Room(area, forms, (), 0))
    return rooms[area]
