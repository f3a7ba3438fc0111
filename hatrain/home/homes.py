"""Draws homes: a set of devices with their states, and the system prompt that tells of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol, TypeVar

from hatrain.home.actions import State
from hatrain.home.devices import DOMAINS
from hatrain.home.grammar import Name
from hatrain.home.language import Language
from hatrain.home.states import Unit, state_pool
from hatrain.home.templates import NEUTRAL

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
_ROOMLESS = 0.18  # share of devices that stand for themselves, such as the front door
_FIRST_DAY, _DAYS = datetime(2020, 1, 1), 3650


class Device(NamedTuple):
    """A device of a home, in a state. (Homes are made of many; a named tuple is made fastest.)"""

    name: Name
    state: State


@dataclass(frozen=True, eq=False, slots=True)
class Home:
    """Devices, the unit of temperature, and the whole system prompt that goes with them."""

    devices: Sequence[Device]
    by_domain: Mapping[str, Sequence[Device]]
    unit: Unit
    persona: str
    prompt: str

    @property
    def domains(self) -> tuple[str, ...]:
        return tuple(self.by_domain)


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A name as the draw wants it: `bit` is its noun's, `clashes` the bits of the nouns it cannot share a room with.

    `rivals` are the numbers of all names that it cannot share a home with; only a name without a room has any.
    """

    name: Name
    number: int
    bit: int
    clashes: int
    rivals: frozenset[int]
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

    def __init__(self, language: Language, names: Sequence[Name], services: bool = True):
        self._units, self._names, self._alike = language.units, tuple(names), language.alike
        bits = {noun.base: 1 << index for index, noun in enumerate(language.nouns)}
        clashes = {base: sum(bits[other] for other in others) for base, others in language.alike.items()}
        rooms = [room.base for room in language.rooms]
        folded = [room.casefold() for room in rooms]
        self._neighbours = [
            [i for i, other in enumerate(folded) if one in other or other in one] for one in folded
        ]
        in_room: list[dict[str, list[_Candidate]]] = [{} for _ in rooms]
        roomless: dict[str, list[_Candidate]] = {}
        for number, name in enumerate(names):
            assert name.noun
            pools = {
                unit: state_pool(
                    name.domain,
                    unit,
                    language.values.titles,
                    positioned=name.noun.positioned,
                    cools=name.noun.cools,
                )
                for unit in language.units
            }
            rivals = (
                ()
                if name.room
                else (i for i, other in enumerate(names) if alike(name, other, language.alike))
            )
            base = name.noun.base
            candidate = _Candidate(name, number, bits[base], clashes[base], frozenset(rivals), pools)
            found = in_room[rooms.index(name.room.base)] if name.room else roomless
            found.setdefault(name.domain, []).append(candidate)
        # For each place a wheel of candidate lists, each as often as its domain is common.
        self._wheels = [_wheel(found) for found in in_room]
        self._places = [index for index, wheel in enumerate(self._wheels) if wheel]
        self._roomless = _wheel(roomless)
        self._prompts = Prompts(language, services)

    def draw(self, draw: Draw, most: int = 32) -> Home:
        """Draw a home of 2 to `most` devices, no two so alike that a person could not tell which is meant."""
        unit = pick(draw, self._units)
        wanted = 2 + int(draw() * (most - 1))
        places = [pick(draw, self._places) for _ in range(2 + int(draw() * (2 + wanted / 2)))]
        wheels, roomless, neighbours = self._wheels, self._roomless, self._neighbours
        taken = [0] * len(wheels)  # for each place the bits of the nouns in it and in rooms of a like name
        present: set[int] = set()
        ruled_out: set[int] = set()
        devices: list[Device] = []
        for _ in range(6 * wanted):
            if draw() < _ROOMLESS and roomless:
                found = roomless[int(draw() * len(roomless))]
                candidate = found[int(draw() * len(found))]
                if not candidate.rivals.isdisjoint(present):
                    continue
                ruled_out |= candidate.rivals
            else:
                place = places[int(draw() * len(places))]
                wheel = wheels[place]
                found = wheel[int(draw() * len(wheel))]
                candidate = found[int(draw() * len(found))]
                if taken[place] & candidate.clashes or candidate.number in ruled_out:
                    continue
                for neighbour in neighbours[place]:
                    taken[neighbour] |= candidate.bit
            present.add(candidate.number)
            states = candidate.states[unit]
            devices.append(Device(candidate.name, states[int(draw() * len(states))]))
            if len(devices) == wanted:
                break
        return self._prompts.home(draw, devices, unit)

    def another_name(self, draw: Draw, home: Home, domain: str) -> Name | None:
        """Draw the name of a device that the home does not have, nor one like it."""
        for _ in range(40):
            name = pick(draw, self._names)
            if name.domain == domain and not any(
                alike(name, device.name, self._alike) for device in home.devices
            ):
                return name
        return None


def _wheel(found: Mapping[str, list[_Candidate]]) -> list[list[_Candidate]]:
    """Return the lists of each domain, as often as the domain's share says."""
    return [candidates for domain, candidates in found.items() for _ in range(DOMAIN_SHARES[domain])]


def alike(one: Name, other: Name, nouns: Mapping[str, frozenset[str]]) -> bool:
    """Whether a person could mean either: one name holds the other, or things alike stand in one room.

    `nouns` are a language's `alike`. "Lampe du salon" and "Lampe salon" are one lamp in two styles.
    """
    if one.words in other.words or other.words in one.words:
        return True
    if not one.noun or not other.noun or one.room is not other.room:
        return False
    return other.noun.base in nouns[one.noun.base]


class Prompts:
    """Writes system prompts: a persona's opening, date and time, services, devices.

    Rows with tools leave the services out: their tools say it all.
    """

    def __init__(self, language: Language, services: bool):
        self._list_services = services
        self._labels, self._rules = language.labels, language.grammar.rules
        self._personas = tuple(language.prompts.items())
        self._services: dict[frozenset[str], str] = {}

    def home(self, draw: Draw, devices: Sequence[Device], unit: Unit, opening: str | None = None) -> Home:
        """Return a home with its prompt. An opening of its owner's own gets the neutral voice."""
        persona, openings = pick(draw, self._personas) if opening is None else (NEUTRAL, (opening,))
        moment = _FIRST_DAY + timedelta(days=int(draw() * _DAYS), minutes=int(draw() * 1440))
        by_domain: dict[str, list[Device]] = {}
        for device in devices:
            by_domain.setdefault(device.name.domain, []).append(device)
        lines = [device.name.line_start + device.state["text"] for device in devices]
        head = (
            f"{pick(draw, openings)}\n{self._rules.date_line(moment)}\n"
            f"{self._offered(frozenset(by_domain))}{self._labels['devices']}\n"
        )
        return Home(devices, by_domain, unit, persona, head + "\n".join(lines))

    def _offered(self, domains: frozenset[str]) -> str:
        if domains not in self._services:
            listed = [service.signature for domain in sorted(domains) for service in DOMAINS[domain].values()]
            line = f"{self._labels['services']} {', '.join(listed)}\n"
            self._services[domains] = line if self._list_services else ""
        return self._services[domains]
