"""Applies service calls to a home's entities and compares where two sequences of calls end."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hatrain.errors import nearest
from hatrain.home.calls.compare import TARGET_KEYS, Call, duration_seconds, pair_off, same_arguments, same_value
from hatrain.home.devices.entity import Entity
from hatrain.home.simulation.arguments import Refused, parse_arguments
from hatrain.home.simulation.services import EFFECTS, effect_for, is_known
from hatrain.home.simulation.thing import Event, Thing

_SETTLED: Mapping[str, Mapping[str, Any]] = {
    "opening": {"state": "open", "current_position": 100},
    "closing": {"state": "closed", "current_position": 0},
    "locking": {"state": "locked"},
    "unlocking": {"state": "unlocked"},
    "returning": {"state": "docked"},
}
"""Where a state that passes ends by itself."""

_TOLERANCES: Mapping[str, float] = {
    "brightness": 1.5,  # one of 255 steps, rounded differently
    "volume_level": 0.0051,
    "color_temp_kelvin": 60,  # a mired at 7,700 K
    "current_position": 0.51,
    "current_tilt_position": 0.51,
    "percentage": 0.51,
    "humidity": 0.51,
    "rgb_color": 2.01,  # hue and saturation are rounded
}
"""How far two numbers may lie apart and still be one setting; everything else is equal or not."""


@dataclass(frozen=True)
class End:
    """How a home is after calls: the values of each entity, and what happened that no value shows."""

    states: Mapping[str, Mapping[str, Any]]
    events: tuple[Event, ...] = ()


class House:
    """A simulated home.

    Without entities it is open: calls create the entities that they name, in an unknown state, so that a dataset
    whose prompts list no home can be judged too.
    """

    def __init__(self, entities: Iterable[Entity]):
        self._entities = {entity.entity_id.casefold(): entity for entity in entities}
        self._things: dict[str, Thing] = {}
        self._events: list[Event] = []

    def apply(self, call: Call) -> list[str]:
        """Apply a service call. Return why Home Assistant would refuse it, one line each; then nothing has changed."""
        service = call.service.strip().casefold()
        targets, arguments = call.targets(), _without_targets(call.arguments)
        if not is_known(service):
            return [f"{call.service}: not a service of this home{nearest(service, EFFECTS)}"]
        if not targets:
            return [f"{call.service}: names no entity"]
        changed: list[Thing] = []
        problems = []
        for target in targets:
            domain = target.partition(".")[0]
            effect = effect_for(service, domain)
            entity = self._entities.get(target)
            try:
                if entity is None and self._entities:
                    raise Refused(f"{target}: not in this home{nearest(target, self._entities)}")
                if effect is None:
                    raise Refused(f"{target}: not a {service.partition('.')[0]}, which {call.service} needs")
                features = entity.attributes.get("supported_features") if entity else None
                if effect.feature and isinstance(features, int) and not features & effect.feature:
                    raise Refused(f"{target}: cannot do {call.service}")
                parsed = parse_arguments(call.service, effect.accepted, effect.required, arguments)
                thing = self._copy(target)
                effect.change(thing, parsed)  # may be refused by what the entity can do
                changed.append(thing)
            except Refused as refused:
                problems.append(str(refused))
        for thing in () if problems else changed:
            self._things[thing.entity_id] = thing
            self._events += thing.events
        return problems

    def apply_all(self, calls: Iterable[Call]) -> list[str]:
        return [problem for call in calls for problem in self.apply(call)]

    def log(self, event: Event) -> None:
        """Record something that happens outside of this home's entities."""
        self._events.append(event)

    def end(self) -> End:
        states = {name: dict(_values(entity)) for name, entity in self._entities.items()}
        states |= {name: dict(thing.values) for name, thing in self._things.items()}
        return End({name: _settled(values) for name, values in states.items()}, tuple(self._events))

    def entities(self) -> tuple[Entity, ...]:
        """The entities in their present states."""
        changed = []
        for name, entity in self._entities.items():
            values = dict(self._things[name].values) if name in self._things else None
            if values is not None:
                entity = Entity(
                    entity.entity_id,
                    entity.name,
                    str(values.pop("state") or ""),
                    values,
                    entity.aliases,
                    entity.area,
                    entity.floor,
                )
            changed.append(entity)
        return tuple(changed)

    def _copy(self, target: str) -> Thing:
        if target in self._things:
            return Thing(target, dict(self._things[target].values))
        entity = self._entities.get(target)
        return Thing(target, _values(entity) if entity else {"state": None})


def end_after(entities: Iterable[Entity], calls: Iterable[Call]) -> End:
    """Return how a home ends after the calls that can be carried out."""
    house = House(entities)
    house.apply_all(calls)
    return house.end()


def differences(expected: End, actual: End) -> list[str]:
    """Return where a home does not end as expected, a line for each entity and event."""
    lines = []
    for name in dict.fromkeys([*expected.states, *actual.states]):
        due, found = expected.states.get(name, {}), actual.states.get(name, {})
        if due == found:
            continue
        wrong = [key for key in dict.fromkeys([*due, *found]) if not same_setting(key, due.get(key), found.get(key))]
        if wrong:
            # Attributes follow from a state: a lamp that is off has no brightness.
            shown = ["state"] if "state" in wrong else wrong
            pairs = (f"{key} is {_shown(found.get(key))}, should be {_shown(due.get(key))}" for key in shown)
            lines.append(f"{name}: {'; '.join(pairs)}")
    return [*lines, *_event_differences(expected.events, actual.events)]


def same_setting(key: str, one: Any, other: Any) -> bool:
    """Whether two values of an attribute are the same setting of a device."""
    if one == other:
        return True
    if one is None or other is None:
        return False
    tolerance = _TOLERANCES.get(key, 1e-6)
    if key in ("duration", "remaining"):
        one, other = duration_seconds(one), duration_seconds(other)
    if _is_number(one) and _is_number(other):
        return abs(one - other) <= tolerance
    if key == "rgb_color" and isinstance(one, Sequence) and isinstance(other, Sequence) and len(one) == len(other):
        return all(_is_number(a) and _is_number(b) and abs(a - b) <= tolerance for a, b in zip(one, other, strict=True))
    return same_value(key, one, other)


def _event_differences(expected: Sequence[Event], actual: Sequence[Event]) -> list[str]:
    due, found = ([event for event in events if event.ordered] for events in (expected, actual))
    lines = []
    if len(due) != len(found) or not all(map(_same_event, due, found)):
        lines += _unpaired(due, found)
        lines += [] if lines else ["the right events in another order: " + ", ".join(map(str, found))]
    return lines + _unpaired(*([event for event in events if not event.ordered] for events in (expected, actual)))


def _unpaired(due: Sequence[Event], found: Sequence[Event]) -> list[str]:
    partner = pair_off(due, found, _same_event)
    missing = [event for index, event in enumerate(due) if index not in partner.values()]
    extra = [event for index, event in enumerate(found) if index not in partner]
    return [*(f"missing: {event}" for event in missing), *(f"not expected: {event}" for event in extra)]


def _same_event(one: Event, other: Event) -> bool:
    same = (one.entity_id, one.what) == (other.entity_id, other.what)
    return same and same_arguments(one.details, other.details)


def _settled(values: dict[str, Any]) -> dict[str, Any]:
    return {**values, **_SETTLED.get(str(values.get("state")), {})}


def _values(entity: Entity) -> dict[str, Any]:
    return {**entity.attributes, "state": entity.state}


def _without_targets(arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in arguments.items() if key not in TARGET_KEYS}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _shown(value: Any) -> str:
    if value is None:
        return "not set"
    return f"{value:g}" if isinstance(value, float) else str(value)
