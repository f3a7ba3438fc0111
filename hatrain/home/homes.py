"""Draws homes: a set of devices with their states, and the system prompt that tells of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Protocol, TypeVar

from hatrain.home.actions import State
from hatrain.home.devices import DOMAINS
from hatrain.home.grammar import Name
from hatrain.home.language import NEUTRAL, Language
from hatrain.home.states import Unit, state_pool

Draw = Callable[[], float]  # a number in [0, 1)
T = TypeVar("T")

# How common each domain is in a home, in parts of a hundred.
DOMAIN_SHARES = {
    "light": 29,
    "switch": 17,
    "cover": 12,
    "media_player": 10,
    "fan": 9,
    "lock": 7,
    "climate": 7,
    "vacuum": 3,
    "timer": 3,
    "todo": 3,
}
_WHEEL = tuple(domain for domain, share in DOMAIN_SHARES.items() for _ in range(share))
_FIRST_DAY, _DAYS = datetime(2020, 1, 1), 3650


@dataclass(frozen=True, slots=True)
class Device:
    """A device of a home, in a state."""

    name: Name
    state: State


@dataclass(frozen=True, eq=False)
class Home:
    """Devices, the unit of temperature, and the whole system prompt that goes with them."""

    devices: tuple[Device, ...]
    unit: Unit
    persona: str
    prompt: str

    @cached_property
    def by_domain(self) -> Mapping[str, tuple[Device, ...]]:
        found: dict[str, list[Device]] = {}
        for device in self.devices:
            found.setdefault(device.name.domain, []).append(device)
        return {domain: tuple(devices) for domain, devices in found.items()}

    @cached_property
    def domains(self) -> tuple[str, ...]:
        return tuple(self.by_domain)


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A name as the draw wants it: `bit` is its noun's, `clashes` the bits of the nouns it cannot stand beside."""

    name: Name
    bit: int
    clashes: int
    place: int
    states: Mapping[Unit, Sequence[State]]


def pick(draw: Draw, items: Sequence[T]) -> T:
    """Draw one of a sequence, all equally likely."""
    return items[int(draw() * len(items))]


class Homes(Protocol):
    """Where homes come from: drawn from a language's names, or the one that somebody has."""

    def draw(self, draw: Draw, most: int = 32) -> Home:
        """Draw a home of at most `most` devices."""

    def another_name(self, draw: Draw, home: Home, domain: str) -> Name | None:
        """Draw the name of a device that the home does not have."""


class RandomHomes:
    """Homes of devices that nobody owns, drawn from one side's names."""

    def __init__(self, language: Language, names: Sequence[Name]):
        self.language = language
        bases = {noun.base: 1 << index for index, noun in enumerate(language.nouns)}
        clashes = {base: sum(bases[other] for other in others) for base, others in language.alike.items()}
        place = {room.base: index for index, room in enumerate(language.rooms)}
        rooms = [room.base.casefold() for room in language.rooms]
        self._neighbours = [
            [i for i, other in enumerate(rooms) if one in other or other in one] for one in rooms
        ]
        self._in_room: list[dict[str, list[_Candidate]]] = [{} for _ in rooms]
        self._roomless: dict[str, list[_Candidate]] = {}
        for name in names:
            assert name.noun
            pools = {
                unit: state_pool(name.domain, name.noun.positioned, unit, language.values.titles)
                for unit in language.units
            }
            where = place[name.room.base] if name.room else -1
            candidate = _Candidate(name, bases[name.noun.base], clashes[name.noun.base], where, pools)
            found = self._in_room[where] if name.room else self._roomless
            found.setdefault(name.domain, []).append(candidate)
        self._places = [index for index, found in enumerate(self._in_room) if found]
        self._prompts = Prompts(language)

    def draw(self, draw: Draw, most: int = 32) -> Home:
        """Draw a home of 2 to `most` devices, no two so alike that a person could not tell which is meant."""
        language = self.language
        unit = pick(draw, language.units)
        wanted = 2 + int(draw() * (most - 1))
        places = [pick(draw, self._places) for _ in range(2 + int(draw() * (2 + wanted / 2)))]
        taken: dict[int, int] = {}
        everywhere = 0
        devices: list[Device] = []
        alone: list[_Candidate] = []
        for _ in range(6 * wanted):
            domain = _WHEEL[int(draw() * len(_WHEEL))]
            roomless = self._roomless.get(domain)
            if roomless and draw() < len(roomless) / (len(roomless) + 12):
                candidate = roomless[int(draw() * len(roomless))]
                if everywhere & candidate.clashes and any(
                    alike(candidate.name, other.name) for other in devices
                ):
                    continue
                alone.append(candidate)
            else:
                place = places[int(draw() * len(places))]
                found = self._in_room[place].get(domain)
                if not found:
                    continue
                candidate = found[int(draw() * len(found))]
                if taken.get(place, 0) & candidate.clashes:
                    continue
                if alone and any(alike(other.name, candidate.name) for other in alone):
                    continue
                for neighbour in self._neighbours[place]:
                    taken[neighbour] = taken.get(neighbour, 0) | candidate.bit
            everywhere |= candidate.bit
            states = candidate.states[unit]
            devices.append(Device(candidate.name, states[int(draw() * len(states))]))
            if len(devices) == wanted:
                break
        return self._prompts.home(draw, tuple(devices), unit)

    def another_name(self, draw: Draw, home: Home, domain: str) -> Name | None:
        """Draw the name of a device that the home does not have, nor one like it."""
        for _ in range(8):
            found = self._in_room[pick(draw, self._places)].get(domain)
            name = pick(draw, found).name if found else None
            if name and not any(alike(name, device.name) for device in home.devices):
                return name
        return None


def alike(one: Name, other: Name) -> bool:
    """Whether one device's name holds the other's, so that a person could mean either."""
    mine, theirs = one.friendly.casefold(), other.friendly.casefold()
    return mine in theirs or theirs in mine


class Prompts:
    """Writes system prompts: a persona's opening, date and time, services, devices."""

    def __init__(self, language: Language):
        self._labels, self._rules = language.labels, language.grammar.rules
        self._personas = tuple(language.prompts.items())
        self._services: dict[frozenset[str], str] = {}

    def home(self, draw: Draw, devices: tuple[Device, ...], unit: Unit, opening: str | None = None) -> Home:
        """Return a home with its prompt. An opening of its owner's own gets the neutral voice."""
        persona, openings = pick(draw, self._personas) if opening is None else (NEUTRAL, (opening,))
        moment = _FIRST_DAY + timedelta(days=int(draw() * _DAYS), minutes=int(draw() * 1440))
        lines = [
            pick(draw, openings),
            self._rules.date_line(moment),
            f"{self._labels['services']} {self._offered(devices)}",
            self._labels["devices"],
            *(device.name.line_start + device.state["text"] for device in devices),
        ]
        return Home(devices, unit, persona, "\n".join(lines))

    def _offered(self, devices: Sequence[Device]) -> str:
        domains = frozenset(device.name.domain for device in devices)
        if domains not in self._services:
            self._services[domains] = ", ".join(
                service.signature for domain in sorted(domains) for service in DOMAINS[domain].values()
            )
        return self._services[domains]
