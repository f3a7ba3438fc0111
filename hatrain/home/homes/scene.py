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
class SatelliteTimer:
    """A timer of a voice satellite: how long it was started for, and what is left of it, in seconds."""

    seconds: int
    left: int
    name: str = ""
    is_active: bool = True


@dataclass(frozen=True, slots=True)
class Satellite:
    """The voice satellite through which the user speaks: where it stands, and its timers."""

    area: str
    floor: str | None = None
    timers: tuple[SatelliteTimer, ...] = ()


@dataclass(frozen=True, slots=True)
class Scene:
    """`language` is the code of the labels; `date_line` writes the moment in that language.

    `satellite`: the conversation comes through it. None where the user writes, or the client has no areas.
    """

    opening: str
    moment: datetime
    devices: Sequence[Device]
    language: str
    labels: Mapping[str, str]
    date_line: Callable[[datetime], str]
    satellite: Satellite | None = None


def where_the_user_is(satellite: Satellite) -> str:
    """Return what a prompt says of a satellite's place, in English as Home Assistant does."""
    floor = f" on the floor {satellite.floor}" if satellite.floor else ""
    return f"The user is in the area {satellite.area}{floor}. A command that names no place means the devices there."


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
