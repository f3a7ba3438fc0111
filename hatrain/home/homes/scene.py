"""What a system prompt is written of: devices in their states, a moment, a persona's opening."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from hatrain.home.devices.actions import State
from hatrain.home.devices.entity import Entity
from hatrain.home.language.grammar import Name


class Device(NamedTuple):
    """A device of a home, in a state. A named tuple, because it is the fastest to make and homes have many."""

    name: Name
    state: State
    area: str | None = None
    floor: str | None = None
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Scene:
    """`language` is the code of the labels; `date_line` writes the moment in that language."""

    opening: str
    moment: datetime
    devices: Sequence[Device]
    language: str
    labels: Mapping[str, str]
    date_line: Callable[[datetime], str]


WritePrompt = Callable[[Scene], str]


def entity_of(device: Device) -> Entity:
    """Return a device as Home Assistant knows it."""
    name, state = device.name, device.state
    return Entity(
        name.entity_id,
        name.friendly,
        state["state"],
        state["attributes"],
        device.aliases,
        device.area,
        device.floor,
    )
