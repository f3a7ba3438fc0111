"""What a client is: a program of Home Assistant that shows a model the home and carries out the calls it writes."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from hatrain.home.calls.compare import Call
from hatrain.home.devices.actions import State
from hatrain.home.devices.entity import Entity
from hatrain.home.devices.states import Unit
from hatrain.home.homes.scene import Satellite, Scene
from hatrain.home.simulation.thing import Event

RowFormat = Literal["sharegpt", "messages", "raw"]
History = Literal["whole", "calls", "words"]
Json = dict[str, Any]
Drawn = Mapping[str, Any]
"""A call as it is drawn, before a client writes it: `{"service", "target_device", arguments…}` of one device.

Without `target_device`, `service` is the name of a tool, called with these arguments: `{"service": "HassStartTimer",
"minutes": 5}`.
"""

READ = "read"
"""The service of a drawn call that reads the state of its device."""

TEMPLATE = "template"
"""The form in which the model's own chat template writes tool calls: the server parses it."""


@dataclass(frozen=True)
class Understood:
    """What a client does with one written call.

    `calls` are services with Home Assistant's own arguments, each with the `entity_id` of one existing entity.
    `events` happen in the house and touch no entity, as a timer that starts. `read` is what the call asks for, entities
    or timers; such a call changes nothing. `problem` says in one line why the client does nothing.
    """

    calls: tuple[Call, ...] = ()
    events: tuple[Event, ...] = ()
    read: tuple[str, ...] = ()
    problem: str | None = None


class Client(Hashable, Protocol):
    """One program, or one of its settings, that people use a model with."""

    @property
    def name(self) -> str:
        """As in `--client NAME` and in the rows of a dataset."""

    @property
    def forms(self) -> frozenset[str]:
        """The forms of calls (`TEMPLATE`, or those of `answer.py`) that it carries out; it speaks or drops others."""

    @property
    def row_format(self) -> RowFormat:
        """The format of its rows. With `messages`, calls and their results are messages of their own."""

    @property
    def areas(self) -> bool:
        """Whether it knows areas."""

    @property
    def states_in_prompt(self) -> bool:
        """Whether the prompt says in which state each device is; otherwise the model has to ask."""

    @property
    def says_where(self) -> bool:
        """Whether the prompt says in which area the user speaks. Only then are there satellites."""

    def lists(self, domain: str) -> bool:
        """Whether the prompt lists devices of a domain."""

    @property
    def history(self) -> History:
        """What the model is shown of its own earlier turns.

        `whole`: all of it. `calls`: messages with calls alone; then a row trains one message. `words`: answers with
        calls, without the calls; then a row trains its last answer. In both the prompt has the states of now.
        """

    @property
    def least_brightness(self) -> int:
        """The least brightness, in percent, that its calls can say."""

    def understand(self, call: Call, entities: Sequence[Entity]) -> Understood:
        """Return what it does with a written call in a home of these exposed entities. It accepts any call."""

    def offers(self, service: str, arguments: Iterable[str]) -> bool:
        """Whether it can carry out a drawn call of a service with these arguments."""

    def states_for(self, service: str, arguments: Iterable[str]) -> frozenset[str]:
        """Return the states in which it finds a device for such a call; empty for any state."""

    def shows(self, key: str, state: State) -> bool:
        """Whether the model can know what Home Assistant holds under `key`: an attribute, or `state`."""

    def device_text(self, domain: str, state: State, unit: Unit) -> str:
        """Return what the prompt says of a device after its name."""

    def prompt(self, scene: Scene) -> str:
        """Return the system prompt."""

    def tools(self, domains: frozenset[str], satellite: bool = False) -> Sequence[Json]:
        """Return the tools that a home with devices of these domains offers, to a voice satellite or without one."""


class TextClient(Client, Protocol):
    """A client with calls in the text of an answer: `row_format` is not `messages`."""

    def answer(self, text: str, calls: Sequence[Drawn]) -> str:
        """Return an answer with its calls."""


class ToolClient(Client, Protocol):
    """A client with calls and their results as messages of their own: `row_format` is `messages`."""

    def tool_calls(self, calls: Sequence[Drawn], entities: Sequence[Entity], together: bool) -> list[Call]:
        """Return the calls of a message. `together`: the request named no devices, so one call may mean several."""

    def result(self, call: Call, entities: Sequence[Entity], error: str, satellite: Satellite | None = None) -> Json:
        """Return what a tool says after a call. `error`: what the language says of a call that must fail."""
