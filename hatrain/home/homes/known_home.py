"""A user's real home: the devices of a home file, with new states in each draw."""

from collections.abc import Sequence
from dataclasses import replace

from hatrain.errors import BadInput
from hatrain.home.clients.client import Client
from hatrain.home.devices.states import state_pool
from hatrain.home.homes.home import Device, Draw, Home, Prompts, alike, pick
from hatrain.home.homes.home_file import HomeFile, told_apart_by_area
from hatrain.home.homes.known_device import KnownDevice
from hatrain.home.homes.satellites import draw_satellite
from hatrain.home.homes.scene import WritePrompt
from hatrain.home.language.grammar import Name, Noun, Room, in_room, name_known_device, unknown_place
from hatrain.home.language.load import Language


class KnownHome:
    """The home of a file, with new states in each draw. Its devices keep the file's order."""

    def __init__(self, language: Language, home: HomeFile, client: Client, write: WritePrompt | None = None):
        listed = tuple(device for device in home.devices if client.lists(device.domain))
        if not listed:
            raise BadInput(f"--home: no device that a model is shown with --client {client.name}")
        home = replace(home, devices=listed)
        self._language, self._home, self._client = language, home, client
        self._says_where = client.says_where and write is None  # a user's own template may not say it
        self._prompts = Prompts(language, write or client.prompt)
        rooms: dict[str, Room] = {}
        by_area = told_apart_by_area(home.devices)
        self.names = [_name(language, device, rooms, device.entity_id in by_area) for device in home.devices]
        self._absent: dict[str, list[Name]] = {}
        for name in language.names:
            if not any(alike(name, present, language.alike) for present in self.names) and not any(
                name.friendly.casefold() == alias.casefold() for device in home.devices for alias in device.aliases
            ):
                self._absent.setdefault(name.domain, []).append(name)

    def draw(self, draw: Draw, max_devices: int = 32) -> Home:
        """Draw the states of all devices of the home, however many they are."""
        language = self._language
        unit = self._home.unit or language.units[0]
        devices = []
        for device, name in zip(self._home.devices, self.names, strict=True):
            pool = state_pool(
                name.domain,
                unit,
                language.values.titles_of(name.domain),
                self._client.device_text,
                positioned=name.noun is None or name.noun.positioned,
                cools=name.noun is None or name.noun.cools,
                device_class=device.device_class or (name.noun.device_class if name.noun else ""),
                able=device.abilities,
            )
            places = (device.area, device.floor) if self._client.areas else (None, None)
            devices.append(Device(name, pick(draw, pool), *places, device.aliases))
        satellite = draw_satellite(draw, devices, language.values.labels) if self._says_where else None
        return self._prompts.home(draw, devices, unit, self._home.prompt, satellite)

    def absent_name(self, draw: Draw, home: Home, domain: str) -> Name | None:
        names = self._absent.get(domain, ())
        return pick(draw, names) if names else None


def _name(language: Language, device: KnownDevice, rooms: dict[str, Room], with_room: bool) -> Name:
    """Refer to a device as the language's own names do where one of them is the same, else by its friendly name; also
    by its aliases. `with_room`: always say where it is, because another device has the same name."""
    domain, room = device.domain, _room(language, device.area, rooms)
    called = [_called(language, domain, said) for said in (device.name, *device.aliases)]
    room = room or called[0].room
    references = tuple(reference for name in called for reference in name.references)
    if with_room and room:
        references = tuple(in_room(language.grammar, reference, room) for reference in references)
    cls, able = called[0].cls, device.abilities
    return Name(domain, called[0].noun, room, device.name, device.entity_id, cls, references, able)


def _called(language: Language, domain: str, said: str) -> Name:
    """Return the language's own name for what a device is called, else one that only knows the text."""
    for name in language.names:
        if name.domain == domain and name.friendly.casefold() == said.casefold():
            return name
    noun = _noun(language.nouns, domain, said)
    cls = noun.cls if noun else language.unknown_class
    return name_known_device(language.grammar, f"{domain}.", said, noun, None, cls)


def _noun(nouns: Sequence[Noun], domain: str, name: str) -> Noun | None:
    """Return the longest noun of a domain that a name contains."""
    contained = [noun for noun in nouns if noun.domain == domain and noun.base.casefold() in name.casefold()]
    return max(contained, key=lambda noun: len(noun.base), default=None)


def _room(language: Language, area: str | None, rooms: dict[str, Room]) -> Room | None:
    if area is None:
        return None
    if area not in rooms:
        known = (room for room in language.rooms if room.base.casefold() == area.casefold())
        rooms[area] = next(known, Room(area, unknown_place(language.grammar, area), (), 0))
    return rooms[area]
