"""What a client is: a program of Home Assistant that shows a model the home and carries out the calls it writes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from hatrain.home.calls.compare import Call
from hatrain.home.devices.entity import Entity

FENCE = "fence"
"""A `homeassistant` fence with one JSON object a line."""
SINGLE_FENCE = "single-fence"
"""A `homeassistant` fence that holds one JSON object; several calls take several fences."""
TOOL_CALL = "tool_call"
"""`<tool_call>{"name", "arguments"}</tool_call>` in the text of an answer, whatever the chat template writes."""
TEMPLATE = "template"
"""The form in which the model's own chat template writes tool calls: the server parses it."""
UNCLOSED = "unclosed"
"""Added to the others: the last call of an answer counts although its end is missing."""


@dataclass(frozen=True)
class Understood:
    """What a client does with one written call.

    `calls` are services with Home Assistant's own arguments, each with the `entity_id` of one existing entity. `read`
    are the entities whose state the call asks for; such a call changes nothing. `problem` says in one line why the
    client does nothing.
    """

    calls: tuple[Call, ...] = ()
    read: tuple[str, ...] = ()
    problem: str | None = None


class Client(Protocol):
    """One program, or one of its settings, that people use a model with."""

    @property
    def name(self) -> str:
        """As in `--client NAME` and in the rows of a dataset."""

    @property
    def forms(self) -> frozenset[str]:
        """The forms of calls that it carries out; it speaks or drops calls in any other."""

    def understand(self, call: Call, entities: Sequence[Entity]) -> Understood:
        """Return what it does with a written call in a home of these exposed entities. It accepts any call."""
