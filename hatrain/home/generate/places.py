"""Draws where a request or a question is aimed: a room, a floor, the place of the satellite, the whole home."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Literal

from hatrain.home.homes.home import Device, Draw, Home, pick
from hatrain.home.language.grammar import Forms, Room, unknown_place
from hatrain.home.language.load import Language
from hatrain.home.language.templates import Template

Kind = Literal["area", "floor", "here", "everywhere"]
_FORM = re.compile(r"\{room\[(\w+)\]\}")


@dataclass(frozen=True, slots=True)
class Place:
    """A place as it is said, and the devices that are in it. `name` is that of the area or floor."""

    kind: Kind
    forms: Forms
    holds: Callable[[Device], bool]
    name: str = ""

    @property
    def phrase(self) -> str:
        """How one is there: `in the kitchen`, `upstairs`."""
        return _phrase(self.forms)

    def suits(self, template: Template) -> bool:
        """Whether the place has all forms that a phrase uses."""
        return room_forms(template) <= self.forms.keys()


def _phrase(forms: Forms) -> str:
    return next((text for form, text in forms.items() if form != "base"), "")


def says_room(text: str, room: Room | None) -> bool:
    """Whether a text says how one is in a room, in any case of letters."""
    return room is not None and _phrase(room.forms).casefold() in text.casefold()


@cache
def room_forms(template: Template) -> frozenset[str]:
    """Return the forms of a room that a phrase uses."""
    return frozenset(_FORM.findall(template.text))


def area_of(device: Device) -> Place | None:
    """Return the room that a device's name has; without one there is no telling how the room is said."""
    room = device.name.room
    if room is None:
        return None
    return Place("area", room.forms, lambda other: other.name.room is room, device.area or "")


def draw_place(draw: Draw, language: Language, home: Home, device: Device, kind: Kind) -> Place | None:
    """Draw a place of a kind that holds a device; None where the home has no such place."""
    if kind == "area":
        return area_of(device)
    if kind == "everywhere":
        return Place(kind, pick(draw, language.places.everywhere), lambda other: True)
    if kind == "floor":
        if device.floor is None:
            return None
        return Place(
            kind, _floor_forms(language, device.floor), lambda other: other.floor == device.floor, device.floor
        )
    if not is_near(home, device):
        return None
    return Place(kind, pick(draw, language.places.here), lambda other: is_near(home, other), device.area or "")


def _floor_forms(language: Language, name: str) -> Forms:
    """Return how a floor is said: as the language says one of that name, else as any place of a user's home."""
    known = language.places.by_name.get(name)
    return known.forms if known else unknown_place(language.grammar, name)


def is_near(home: Home, device: Device) -> bool:
    """Whether a device is in the area of the satellite."""
    return home.scene.satellite is not None and device.area == home.scene.satellite.area


def near_satellite(home: Home) -> list[Device]:
    """Return the devices in the area of the satellite."""
    return [device for device in home.devices if is_near(home, device)]
