"""A home: devices in their states, and the system prompt that lists them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol, TypeVar

from hatrain.home.devices.actions import State
from hatrain.home.devices.services import DOMAINS
from hatrain.home.devices.states import Unit
from hatrain.home.language.grammar import Name
from hatrain.home.language.load import Language
from hatrain.home.language.templates import NEUTRAL

Draw = Callable[[], float]  # a random number in [0, 1)
T = TypeVar("T")

_FIRST_DAY, _DAYS = datetime(2020, 1, 1), 3650


class Device(NamedTuple):
    """A device of a home, in a state. A named tuple, because it is the fastest to make and homes have many."""

    name: Name
    state: State


@dataclass(frozen=True, eq=False, slots=True)
class Home:
    """Devices, the unit of temperature, the persona that answers, and the whole system prompt."""

    devices: Sequence[Device]
    by_domain: Mapping[str, Sequence[Device]]
    unit: Unit
    persona: str
    prompt: str

    @property
    def domains(self) -> tuple[str, ...]:
        return tuple(self.by_domain)


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
    """Writes system prompts: a persona's opening, date and time, services, devices.

    Rows with tools leave the services out, since their tools list them.
    """

    def __init__(self, language: Language, list_services: bool):
        self._list_services = list_services
        self._labels, self._rules = language.labels, language.grammar.rules
        self._personas = tuple(language.prompts.items())
        self._services: dict[frozenset[str], str] = {}

    def home(self, draw: Draw, devices: Sequence[Device], unit: Unit, opening: str | None = None) -> Home:
        """Write the prompt of a home. With an opening from the user's home file, the neutral persona answers."""
        persona, openings = pick(draw, self._personas) if opening is None else (NEUTRAL, (opening,))
        moment = _FIRST_DAY + timedelta(days=int(draw() * _DAYS), minutes=int(draw() * 1440))
        by_domain: dict[str, list[Device]] = {}
        for device in devices:
            by_domain.setdefault(device.name.domain, []).append(device)
        lines = [device.name.line_start + device.state["text"] for device in devices]
        head = (
            f"{pick(draw, openings)}\n{self._rules.date_line(moment)}\n"
            f"{self._service_line(frozenset(by_domain))}{self._labels['devices']}\n"
        )
        return Home(devices, by_domain, unit, persona, head + "\n".join(lines))

    def _service_line(self, domains: frozenset[str]) -> str:
        if not self._list_services:
            return ""
        if domains not in self._services:
            listed = [service.signature for domain in sorted(domains) for service in DOMAINS[domain].values()]
            self._services[domains] = f"{self._labels['services']} {', '.join(listed)}\n"
        return self._services[domains]
