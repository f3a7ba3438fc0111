"""What a service does to one entity, as data; and the effects that many services share."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hatrain.home.simulation.arguments import Parse, Refused, flag
from hatrain.home.simulation.thing import Thing

Change = Callable[[Thing, Mapping[str, Any]], None]
"""Changes a thing by parsed arguments. May raise Refused."""


@dataclass(frozen=True)
class Effect:
    """A service. `feature` is the bit of `supported_features` that an entity needs for it, where it lists them."""

    change: Change
    accepted: Mapping[str, Parse] = field(default_factory=dict)
    required: tuple[str, ...] = ()
    feature: int = 0


def becomes(state: str, **values: Any) -> Change:
    return lambda thing, given: thing.become(state, **values)


def stores(*keys: str) -> Change:
    """Keep arguments as attributes of the same name."""

    def change(thing: Thing, given: Mapping[str, Any]) -> None:
        thing.values |= {key: given[key] for key in keys if key in given}

    return change


def stores_one_of(key: str, listed: str) -> Change:
    """Keep a word as an attribute. What an entity accepts is in its attribute `listed`; without it, anything."""

    def change(thing: Thing, given: Mapping[str, Any]) -> None:
        check_listed(thing, key, listed, given[key])
        thing.values[key] = given[key]

    return change


def check_listed(thing: Thing, key: str, listed: str, value: str) -> None:
    known = thing.values.get(listed)
    if isinstance(known, list | tuple) and known and value.casefold() not in {str(each).casefold() for each in known}:
        raise Refused(f"{thing.entity_id}: {key} {value} is not one of {', '.join(map(str, known))}")


def logs(what: str, *, ordered: bool = True) -> Change:
    """Record an event, with all arguments."""
    return lambda thing, given: thing.log(what, given, ordered=ordered)


def toggles(on: Change, off: Change, *, off_states: tuple[str, ...] = ("off",)) -> Change:
    """Turn off what is on, and on what is off. A state that is not known becomes the opposite of what it was."""

    def change(thing: Thing, given: Mapping[str, Any]) -> None:
        if thing.state in off_states:
            on(thing, given)
        elif thing.state in (None, "unknown", "unavailable", "toggled"):
            thing.become(None if thing.state == "toggled" else "toggled")
        else:
            off(thing, {})

    return change


def steps(key: str, by: str, size: str, direction: int, low: float, high: float) -> Change:
    """Raise or lower a number. Its step is the argument `by`, else the attribute `size`.

    Where the number or its step is not known, the steps are counted, so that two of them differ from one.
    """

    def change(thing: Thing, given: Mapping[str, Any]) -> None:
        value, step = thing.values.get(key), given.get(by, thing.values.get(size))
        if isinstance(value, int | float) and isinstance(step, int | float):
            thing.values[key] = min(high, max(low, value + direction * step))
        else:
            count = f"{key} steps"
            thing.values[count] = thing.values.get(count, 0) + direction * (step if by in given else 1)

    return change


SWITCH: Mapping[str, Effect] = {
    "turn_on": Effect(becomes("on")),
    "turn_off": Effect(becomes("off")),
    "toggle": Effect(toggles(becomes("on"), becomes("off"))),
}
"""The services of everything that is only on or off."""

MUTED: Mapping[str, Parse] = {"is_volume_muted": flag}
