"""One entity of a simulated home while calls are applied to it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Event:
    """Something that a call does and that no state shows: a button pressed, an item added.

    `ordered`: whether it matters what came before it.
    """

    entity_id: str
    what: str
    details: Mapping[str, Any] = field(default_factory=dict)
    ordered: bool = True

    def __str__(self) -> str:
        details = ", ".join(f"{key} {value}" for key, value in self.details.items())
        return f"{self.entity_id} {self.what}".strip() + (f" ({details})" if details else "")


@dataclass
class Thing:
    """An entity that effects change. `values` holds its state under `state`, and its attributes.

    A value that is not known is absent or None: a model is not told the brightness of a lamp that is off.
    """

    entity_id: str
    values: dict[str, Any]
    events: list[Event] = field(default_factory=list)

    @property
    def state(self) -> str | None:
        return self.values.get("state")

    def become(self, state: str | None, **values: Any) -> None:
        self.values |= {"state": state, **values}

    def forget(self, *keys: str) -> None:
        for key in keys:
            self.values.pop(key, None)

    def log(self, what: str, details: Mapping[str, Any] | None = None, *, ordered: bool = True) -> None:
        self.events.append(Event(self.entity_id, what, dict(details or {}), ordered))
