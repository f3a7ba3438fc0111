"""Draws random homes: devices that no user could confuse with each other, each in some state."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hatrain.home.clients.client import Client
from hatrain.home.devices.actions import State
from hatrain.home.devices.services import DOMAINS
from hatrain.home.devices.states import Unit, state_pool
from hatrain.home.homes.home import Device, Draw, Home, Prompts, alike, pick
from hatrain.home.homes.satellites import draw_satellite
from hatrain.home.homes.scene import WritePrompt
from hatrain.home.language.grammar import Name
from hatrain.home.language.load import Language

# How common each domain is in a home, in percent.
DOMAIN_SHARES = {
    "light": 24,
    "switch": 12,
    "cover": 12,
    "media_player": 8,
    "fan": 8,
    "lock": 6,
    "climate": 6,
    "vacuum": 2,
    "timer": 2,
    "todo": 3,
    "scene": 2,
    "script": 2,
    "button": 1,
    "valve": 3,
    "water_heater": 1,
    "humidifier": 2,
    "lawn_mower": 3,
    "binary_sensor": 4,
    "sensor": 4,
    "person": 2,
    "weather": 1,
    "calendar": 1,
}
_ROOMLESS = 0.18  # share of devices whose name has no room, such as "front door"
_WITHOUT_AREAS = 0.1  # share of homes whose owner has put no device into an area
_WITH_FLOORS = 0.7  # share of homes with areas whose owner has put these on floors
_LEVELS = ("0", "1")  # of rooms that could be anywhere


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A name, with what decides whether it fits into a home.

    `noun_bit` has one bit set, its noun's; `conflicting_nouns` has those of the nouns it cannot share a room with.
    `rivals` are the numbers of all names it cannot share a home with; only a name without a room has any.
    """

    name: Name
    number: int
    noun_bit: int
    conflicting_nouns: int
    rivals: frozenset[int]
    states: Mapping[Unit, Sequence[State]]
    area: str | None


class RandomHomes:
    """Homes made of the given names."""

    def __init__(self, language: Language, names: Sequence[Name], client: Client, write: WritePrompt | None = None):
        self._units, self._names, self._alike = language.units, tuple(names), language.alike
        bits = {noun.base: 1 << index for index, noun in enumerate(language.nouns)}
        conflicts = {base: sum(bits[other] for other in others) for base, others in language.alike.items()}
        rooms = [room.base for room in language.rooms]
        folded = [room.casefold() for room in rooms]
        # Rooms whose names contain each other, such as "bedroom" and "guest bedroom", count as one.
        self._similar_rooms = [
            [i for i, other in enumerate(folded) if room in other or other in room] for room in folded
        ]
        in_room: list[dict[str, list[_Candidate]]] = [{} for _ in rooms]
        roomless: dict[str, list[_Candidate]] = {}
        for number, name in enumerate(names):
            if not client.lists(name.domain):
                continue
            noun = name.noun
            assert noun
            titles = language.values.titles_of(name.domain)
            pools = {
                unit: state_pool(
                    name.domain,
                    unit,
                    titles,
                    client.device_text,
                    positioned=noun.positioned,
                    cools=noun.cools,
                    device_class=noun.device_class,
                )
                for unit in language.units
            }
            others = [] if name.room else enumerate(names)
            rivals = frozenset(i for i, other in others if alike(name, other, language.alike))
            area = language.grammar.rules.friendly(name.room.base) if name.room and client.areas else None
            candidate = _Candidate(name, number, bits[noun.base], conflicts[noun.base], rivals, pools, area)
            by_domain = in_room[rooms.index(name.room.base)] if name.room else roomless
            by_domain.setdefault(name.domain, []).append(candidate)
        self._weighted = [_weighted(by_domain) for by_domain in in_room]  # by room
        self._rooms = [index for index, candidates in enumerate(self._weighted) if candidates]
        self._roomless = _weighted(roomless)
        self._says_where = client.says_where and write is None  # a user's own template may not say it
        self._areas, self._places, self._labels = client.areas, language.places, language.values.labels
        self._room_names = [room.base for room in language.rooms]
        self._friendly = language.grammar.rules.friendly
        self._prompts = Prompts(language, write or client.prompt)

    def draw(self, draw: Draw, max_devices: int = 32) -> Home:
        """Draw a home of 2 to `max_devices` devices, no two of them alike, and at least one that takes requests."""
        home = self._draw(draw, max_devices)
        while not any(DOMAINS[device.name.domain] for device in home.devices):
            home = self._draw(draw, max_devices)
        return home

    def _draw(self, draw: Draw, max_devices: int) -> Home:
        unit = pick(draw, self._units)
        areas = self._areas and draw() >= _WITHOUT_AREAS
        floors = self._draw_floors(draw) if areas and draw() < _WITH_FLOORS else {}
        wanted = 2 + int(draw() * (max_devices - 1))
        every_room, number_of_rooms = self._rooms, len(self._rooms)
        rooms = [every_room[int(draw() * number_of_rooms)] for _ in range(2 + int(draw() * (2 + wanted / 2)))]
        weighted, roomless, similar_rooms = self._weighted, self._roomless, self._similar_rooms
        taken = [0] * len(weighted)  # for each room, the bits of the nouns in it and in similar rooms
        present: set[int] = set()
        excluded: set[int] = set()
        devices: list[Device] = []
        floor_of: dict[int, str | None] = {}
        new = tuple.__new__
        for _ in range(6 * wanted):
            if draw() < _ROOMLESS and roomless:
                candidates = roomless[int(draw() * len(roomless))]
                candidate = candidates[int(draw() * len(candidates))]
                if not candidate.rivals.isdisjoint(present):
                    continue
                excluded |= candidate.rivals
                floor = None
            else:
                room = rooms[int(draw() * len(rooms))]
                domains = weighted[room]
                candidates = domains[int(draw() * len(domains))]
                candidate = candidates[int(draw() * len(candidates))]
                if taken[room] & candidate.conflicting_nouns or candidate.number in excluded:
                    continue
                for similar in similar_rooms[room]:
                    taken[similar] |= candidate.noun_bit
                if floors and room not in floor_of:
                    floor_of[room] = self._floor(draw, room, floors)
                floor = floor_of.get(room)
            present.add(candidate.number)
            states = candidate.states[unit]
            area = candidate.area if areas else None
            # What Device() does, in a third of the time: it is most of what a home costs.
            devices.append(new(Device, (candidate.name, states[int(draw() * len(states))], area, floor, ())))
            if len(devices) == wanted:
                break
        satellite = draw_satellite(draw, devices, self._labels) if areas and self._says_where else None
        return self._prompts.home(draw, devices, unit, satellite=satellite)

    def _draw_floors(self, draw: Draw) -> dict[str, str]:
        """Return the name of the floor on each level; every home has level 0."""
        by_level = self._places.floors.items()
        return {
            level: self._friendly(pick(draw, floors).base) for level, floors in by_level if level == "0" or draw() < 0.7
        }

    def _floor(self, draw: Draw, room: int, floors: Mapping[str, str]) -> str | None:
        level = self._places.levels.get(self._room_names[room]) or pick(draw, _LEVELS)
        return floors.get(level)

    def absent_name(self, draw: Draw, home: Home, domain: str) -> Name | None:
        for _ in range(40):
            name = pick(draw, self._names)
            if name.domain == domain and not any(alike(name, device.name, self._alike) for device in home.devices):
                return name
        return None


def _weighted(by_domain: Mapping[str, list[_Candidate]]) -> list[list[_Candidate]]:
    """Repeat the candidates of each domain by its share, so that an even draw picks domains by their shares."""
    return [candidates for domain, candidates in by_domain.items() for _ in range(DOMAIN_SHARES[domain])]
