"""What a conversation is, independent of any row format: messages of a user, and of the assistant with its calls."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from hatrain.home.clients.client import READ
from hatrain.home.devices.actions import Action, State
from hatrain.home.generate.drafts import Call
from hatrain.home.homes.home import Home
from hatrain.home.intents.shape import Shape
from hatrain.home.judge.asked import Asked
from hatrain.home.language.grammar import Name


@dataclass(frozen=True, slots=True)
class Step:
    """One message of the assistant. `error` is the result of a call that must fail, `told` that of one that reads what
    no home holds, such as the time."""

    text: str
    calls: tuple[Call, ...] = ()
    error: str = ""
    told: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Turn:
    """A message of the user, the assistant's messages after it, and the home before it."""

    user: str
    steps: tuple[Step, ...]
    home: Home


class Topic(NamedTuple):
    """What a conversation is about: a device, with its state if the home has it, and what is requested or asked."""

    name: Name
    state: State | None
    action: Action | None = None
    question: str = ""


@dataclass(frozen=True, slots=True)
class Conversation:
    """`home` is the one that the prompt shows. `device_types` are the domains that it is about, sorted.

    `shape`: what kind of sentence opened it, as Home Assistant would understand it.
    """

    home: Home
    kind: str
    device_types: tuple[str, ...]
    turns: tuple[Turn, ...]
    asked: tuple[Asked, ...] = ()
    topic: Topic | None = None
    shape: Shape | None = None


def read_call(entity_id: str) -> Call:
    """Return the call that reads the state of a device."""
    return {"service": READ, "target_device": entity_id}
