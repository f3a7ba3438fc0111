"""A user's home as a file describes it: a short YAML of areas and devices, or what Home Assistant stores."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict

from hatrain.contract.load import Key, read_source, read_text, validate
from hatrain.errors import BadInput, nearest
from hatrain.home.devices.abilities import ANY, Abilities
from hatrain.home.devices.services import DOMAINS, domain_of
from hatrain.home.devices.states import Unit
from hatrain.home.homes import registries
from hatrain.home.homes.known_device import KnownDevice

_SWITCHED = frozenset({"light", "switch", "fan", "media_player", "climate"})
"""Domains whose devices are all turned on and off: a name alone does not tell them apart."""


@dataclass(frozen=True)
class HomeFile:
    """The contents of a home file. `notes` say what was left out or is missing, one line each."""

    devices: tuple[KnownDevice, ...]
    prompt: str | None = None
    unit: Unit | None = None
    notes: tuple[str, ...] = ()


def read_home(path: Path) -> HomeFile:
    """Read a home file, or a folder of what Home Assistant stores. Raises BadInput with all problems in it.

    JSON is what Home Assistant exports: the list of `/api/states`, or `.storage/core.entity_registry` with the other
    registries beside it. Anything else is YAML: `areas: {Kitchen: {light.kitchen: Kitchen Light}}`, `devices: {…}` for
    those of no area, `prompt`, `temperature_unit`.
    """
    if path.is_dir():
        home = _from_registries(registries.read_folder(path))
    else:
        text = read_source(path)
        stored = registries.read_file(path, text)
        home = _from_yaml(path, text) if stored is None else _from_registries(stored)
    if not any(DOMAINS[device.domain] for device in home.devices):
        accepted = ", ".join(domain for domain, services in DOMAINS.items() if services)
        raise BadInput(f"{path}: no device that takes requests (accepted domains: {accepted})")
    if alike := [*_alike(home.devices)]:
        raise BadInput(f"{path}: {line}" for line in alike)
    return home


def _from_registries(stored: registries.Stored) -> HomeFile:
    known = [entity for entity in stored.entities if entity.domain in DOMAINS]
    # Nobody can be asked to rename the many sensors of one gadget: those that share a name are left out.
    unclear = {entity.entity_id for group in _unclear(known) for entity in group if not DOMAINS[entity.domain]}
    devices = tuple(entity for entity in known if entity.entity_id not in unclear)
    left_out = [*stored.hidden, *(entity.entity_id for entity in stored.entities if entity.domain not in DOMAINS)]
    counted = (
        ("entities that take no requests or are not exposed", left_out),
        ("sensors that share a name", unclear),
    )
    notes = (*stored.notes, *(_left_out(what, ids) for what, ids in counted if ids))
    return HomeFile(devices, None, stored.unit, notes)


def _left_out(what: str, ids: Collection[str]) -> str:
    examples = ", ".join(sorted(ids)[:5]) + (", …" if len(ids) > 5 else "")
    return f"{what} are left out: {len(ids)} ({examples})"


def told_apart_by_area(devices: Iterable[KnownDevice]) -> set[str]:
    """Return the ids of devices that share a name with another, in another area."""
    return {device.entity_id for group in _same_name(devices) for device in group}


def _alike(devices: Iterable[KnownDevice]) -> Iterator[str]:
    """Say which devices nobody can tell apart: one name and kind, and no area of its own for each."""
    for shown in _unclear(devices):
        yield (
            f"{' and '.join(device.entity_id for device in shown)}: found one name, {shown[0].name!r}, and no area "
            "that tells them apart; rename one, give it another area, or leave it out"
        )


def _unclear(devices: Iterable[KnownDevice]) -> Iterator[list[KnownDevice]]:
    """Yield the devices of one name that no area tells apart."""
    for group in _same_name(devices):
        places = Counter((device.area or "").casefold() for device in group)
        unclear = [device for device in group if not device.area or places[device.area.casefold()] > 1]
        if unclear:
            yield unclear if len(unclear) > 1 else group


def _same_name(devices: Iterable[KnownDevice]) -> list[list[KnownDevice]]:
    groups: dict[tuple[str, str], list[KnownDevice]] = defaultdict(list)
    for device in devices:
        kind = "switched" if device.domain in _SWITCHED else device.domain
        groups[" ".join(device.name.split()).casefold(), kind].append(device)
    return [group for group in groups.values() if len(group) > 1]


# --- YAML ---------------------------------------------------------------------------------------------------


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _DeviceRecord(_Record):
    name: str
    position: bool = True
    aliases: list[str] = []


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
            able = ANY if record.position else Abilities(frozenset({"position"}))
            devices[entity_id] = KnownDevice(entity_id, record.name, area, None, tuple(record.aliases), able)
    if problems:
        raise BadInput(problems)
    return HomeFile(tuple(devices.values()), file.prompt, file.temperature_unit)
