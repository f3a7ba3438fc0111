"""A home: devices in their states, and the system prompt that lists them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Protocol, TypeVar

from hatrain.home.devices.entity import Entity
from hatrain.home.devices.states import Unit
from hatrain.home.homes.scene import Device, Satellite, Scene, WritePrompt, entity_of
from hatrain.home.language.grammar import Name
from hatrain.home.language.load import Language
from hatrain.home.language.templates import NEUTRAL

__all__ = ["Device", "Draw", "Home", "Homes", "Prompts", "alike", "pick"]

Draw = Callable[[], float]  # a random number in [0, 1)
T = TypeVar("T")

_FIRST_DAY, _DAYS = datetime(2020, 1, 1), 3650


@dataclass(frozen=True, eq=False)
class Home:
    """The unit of temperature, the persona that answers, what the prompt is written of, and who writes it."""

    by_domain: Mapping[str, Sequence[Device]]
    unit: Unit
    persona: str
    scene: Scene
    write: WritePrompt

    @cached_property
    def prompt(self) -> str:
        return self.write(self.scene)

    @property
    def devices(self) -> Sequence[Device]:
        return self.scene.devices

    @property
    def domains(self) -> tuple[str, ...]:
        return tuple(self.by_domain)

    @cached_property
    def entities(self) -> tuple[Entity, ...]:
        """The devices as Home Assistant knows them, in the same order."""
        return tuple(map(entity_of, self.devices))


class Homes(Protocol):
    """A source of homes: random ones, or the one that a user described."""

    def draw(self, draw: Draw, max_devices: int = 32) -> Home: ...

    def absent_name(self, draw: Draw, home: Home, domain: str) -> Name | None:
        """Draw the name of a device that the home does not have, nor one like it; None if there is no such name."""


def pick(draw: Draw, items: Sequence[T]) -> T:
    return items[int(draw() * len(items))]


def alike(one: Name, other: Name, alike_nouns: Mapping[str, frozenset[str]]) -> bool:
    """Whether a user could confuse two devices: one name contains the other, or similar nouns share a room.

    "Lampe du salon" and "Lampe salon" are one lamp in two styles. `alike_nouns` is `Language.alike`.
    """
    if one.words in other.words or other.words in one.words:
        return True
    if not one.noun or not other.noun or one.room is not other.room:
        return False
    return other.noun.base in alike_nouns[one.noun.base]


class Prompts:
    """Draws what a system prompt says besides the devices, and has a client write it."""

    def __init__(self, language: Language, write: WritePrompt):
        self._code, self._labels, self._rules = language.code, language.labels, language.grammar.rules
        self._personas = tuple(language.prompts.items())
        self._write = write

    def home(
        self,
        draw: Draw,
        devices: Sequence[Device],
        unit: Unit,
        opening: str | None = None,
        satellite: Satellite | None = None,
    ) -> Home:
        """Write the prompt of a home. With an opening from the user's home file, the neutral persona answers."""
        persona, openings = pick(draw, self._personas) if opening is None else (NEUTRAL, (opening,))
        moment = _FIRST_DAY + timedelta(days=int(draw() * _DAYS), minutes=int(draw() * 1440))
        by_domain: dict[str, list[Device]] = {}
        for device in devices:
            by_domain.setdefault(device.name.domain, []).append(device)
        line = self._rules.date_line
        scene = Scene(pick(draw, openings), moment, devices, self._code, self._labels, line, satellite)
        return Home(by_domain, unit, persona, scene, self._write)
