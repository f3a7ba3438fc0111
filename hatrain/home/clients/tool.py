"""What a tool of Home Assistant's Assist API is: its schema, what it refuses, and the services that it calls."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hatrain.home.calls.compare import Call
from hatrain.home.devices.entity import Entity

Json = dict[str, Any]
Arguments = Mapping[str, Any]
Act = Callable[[Entity, Arguments], tuple[Call, ...] | str]
"""Return the calls of services for one matched entity, or why there are none. Arguments have passed the schema."""


@dataclass(frozen=True)
class Slot:
    """An argument beside those that choose the entities, and what it accepts."""

    schema: Json
    accepts: Callable[[Any], bool]
    required: bool = True


@dataclass(frozen=True)
class Tool:
    """One intent.

    It is offered where an entity of `offered_for` is exposed (empty: always), and acts on those of `domains` alone
    (empty: any). `states`: entities in other states are passed over. `single`: several entities are refused.
    `says`: what it answers in words, instead of naming the entities that it acted on.
    """

    name: str
    description: str
    act: Act
    offered_for: frozenset[str] = frozenset()
    domains: frozenset[str] = frozenset()
    states: frozenset[str] = frozenset()
    device_classes: tuple[str, ...] = ()
    slots: Mapping[str, Slot] = field(default_factory=dict)
    targets: tuple[str, ...] = ("name", "area", "floor", "domain")
    single: bool = False
    says: Callable[[Entity, Arguments], str] | None = None

    def schema(self) -> Json:
        """Return the tool as an OpenAI-style function."""
        text: Json = {"type": "string"}
        properties: Json = {key: text for key in self.targets if key != "domain"}
        if "domain" in self.targets:
            items = {"type": "string", "enum": sorted(self.domains)} if self.domains else text
            properties["domain"] = {"type": "array", "items": items}
        if self.device_classes:
            items = {"type": "string", "enum": list(self.device_classes)}
            properties["device_class"] = {"type": "array", "items": items}
        properties |= {key: slot.schema for key, slot in self.slots.items()}
        required = [key for key, slot in self.slots.items() if slot.required]
        if self.targets == ("name",):
            required.append("name")
        return function(self.name, self.description, properties, required)

    def problem(self, arguments: Arguments) -> str | None:
        """Return in one line what the schema refuses, if anything."""
        accepted = (*self.targets, *(["device_class"] if self.device_classes else []), *self.slots)
        for key, value in arguments.items():
            if key not in accepted:
                return not_an_argument(self.name, key, accepted)
            if key in self.slots and not self.slots[key].accepts(value):
                return refused(self.name, key, value)
            enum = {"domain": sorted(self.domains), "device_class": self.device_classes}.get(key)
            unknown = [item for item in _listed(value) if enum and item not in enum]
            if unknown:
                return f"{key}: found {unknown[0]!r}; accepted: {', '.join(enum or ())}"
        return missing_slot(self.name, self.slots, arguments)


def not_an_argument(tool: str, key: str, accepted: Sequence[str]) -> str:
    return f"{key}: not an argument of {tool}; accepted: {', '.join(accepted)}"


def refused(tool: str, key: str, value: Any) -> str:
    return f"{key}: found {value!r}, which {tool} refuses"


def missing_slot(tool: str, slots: Mapping[str, Slot], arguments: Arguments) -> str | None:
    missing = next((key for key, slot in slots.items() if slot.required and key not in arguments), None)
    return f"{missing}: missing; {tool} needs it" if missing else None


def function(name: str, description: str, properties: Json, required: Sequence[str]) -> Json:
    parameters = {"type": "object", "properties": properties, "required": list(required)}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


def _listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else (value,)


def number(value: Any) -> float | None:
    """Return a number, also one in quotes, which Home Assistant coerces; None for anything else."""
    try:
        parsed = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        return None
    return parsed if math.isfinite(parsed) else None


def within(low: float, high: float = math.inf) -> Callable[[Any], bool]:
    def accepts(value: Any) -> bool:
        parsed = number(value)
        return parsed is not None and low <= int(parsed) <= high

    return accepts


def some_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def percent(low: int = 0, high: int = 100, required: bool = True) -> Slot:
    return Slot({"type": "integer", "minimum": low, "maximum": high}, within(low, high), required)


def service_call(name: str, arguments: Callable[[Arguments], Json] = lambda given: {}) -> Act:
    domain = name.partition(".")[0]

    def act(entity: Entity, given: Arguments) -> tuple[Call, ...] | str:
        if entity.domain != domain:
            return f"{entity.entity_id}: not a {domain}, which {name} needs"
        return (Call(name, {"entity_id": entity.entity_id, **arguments(given)}),)

    return act
