"""Compares service calls by their effect: numbers, colours, durations and text."""

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from hatrain.home.calls.colors import color_value

T = TypeVar("T")

TARGET_KEYS = ("target_device", "entity_id")
"""Arguments that hold entity ids: one, a list, or several separated by commas."""

COLOR_KEYS = ("color_name", "color", "rgb_color", "hs_color")
"""Arguments that hold a colour. They have the same effect."""

CLOCK_KEYS = ("hours", "minutes", "seconds")
"""Arguments that together give a duration, as in Home Assistant's timer intents."""


@dataclass(frozen=True)
class Call:
    """A call as written: the service or tool, and all arguments including the target."""

    service: str
    arguments: Mapping[str, Any]

    def targets(self) -> tuple[str, ...]:
        """Return the entity ids in lower case, each once, in order."""
        entities = (entity for key in TARGET_KEYS for entity in _entities(self.arguments.get(key)))
        return tuple(dict.fromkeys(entities))

    def per_target(self) -> tuple["Call", ...]:
        """Split the call by entity: one call for two lamps does the same as two calls."""
        targets = self.targets()
        rest = {key: value for key, value in self.arguments.items() if key not in TARGET_KEYS}
        return tuple(Call(self.service, {"target_device": target, **rest}) for target in targets) or (self,)

    def __str__(self) -> str:
        return json.dumps({"service": self.service, **self.arguments}, ensure_ascii=False)


def same_call(one: Call, other: Call) -> bool:
    """Whether two calls have the same service, entities and effect of arguments."""
    return _word(one.service) == _word(other.service) and same_arguments(one.arguments, other.arguments)


def same_arguments(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two sets of arguments have the same effect, whatever their order and the key of a colour."""
    left, right = _unified(one), _unified(other)
    return left.keys() == right.keys() and all(same_value(key, left[key], right[key]) for key in left)


def same_value(key: str, one: Any, other: Any) -> bool:
    """Whether two values of the argument `key` mean the same; symmetric.

    Numbers agree within rounding (see `same_number`), colours within one step of a channel, durations in
    seconds, words without regard to case and spacing, lists without regard to order.
    """
    if key in TARGET_KEYS:
        return set(_entities(one)) == set(_entities(other))
    if key == "duration":
        durations = duration_seconds(one), duration_seconds(other)
        if durations != (None, None):
            return durations[0] == durations[1]
    if key in COLOR_KEYS and isinstance(one, tuple) and isinstance(other, tuple):
        return all(abs(a - b) <= 1 for a, b in zip(one, other, strict=True))
    if isinstance(one, Mapping) or isinstance(other, Mapping):
        return isinstance(one, Mapping) and isinstance(other, Mapping) and same_arguments(one, other)
    if _is_list(one) or _is_list(other):
        left, right = (list(value) if _is_list(value) else [value] for value in (one, other))
        return len(left) == len(right) == len(pair_off(left, right, lambda a, b: same_value(key, a, b)))
    if isinstance(one, bool) or isinstance(other, bool):
        return to_bool(one) is not None and to_bool(one) == to_bool(other)
    left_number, right_number = to_number(one), to_number(other)
    if left_number is not None and right_number is not None:
        return same_number(key, left_number, right_number)
    if isinstance(one, str) and isinstance(other, str):
        return _word(one) == _word(other)
    return bool(one == other)


def same_number(key: str, one: float, other: float) -> bool:
    """Whether two numbers are the same number, rounded differently.

    They may differ by less than half a unit of the last decimal of the shorter one, and by at most 1 %: 33 equals
    33.3 and 0.5 equals 0.502, while 21 does not equal 21.4, and 0 equals only 0. `brightness` above 100 is in steps of
    1/255 and is compared as the percentage that Home Assistant shows.
    """
    if one == other:
        return True
    if not (math.isfinite(one) and math.isfinite(other)):
        return False
    if key == "brightness" and min(one, other) > 100:
        return round(one / 2.55) == round(other / 2.55)
    half_unit = 0.5 * 10.0 ** -min(_decimals(one), _decimals(other))
    return abs(one - other) < half_unit and abs(one - other) <= 0.01 * max(abs(one), abs(other))


def duration_seconds(value: Any) -> float | None:
    """Return a duration in seconds as Home Assistant parses it, or None.

    A number is seconds, `HH:MM` is hours and minutes, `HH:MM:SS` has seconds, a mapping names its units.
    """
    if isinstance(value, Mapping):
        units = {"days": 86400, "hours": 3600, "minutes": 60, "seconds": 1}
        parts = {key: to_number(part) for key, part in value.items()}
        if not parts or not parts.keys() <= units.keys() or None in parts.values():
            return None
        return sum(units[key] * part for key, part in parts.items() if part is not None)
    if isinstance(value, str) and (clock := re.fullmatch(r"\s*(\d+):(\d{1,2})(?::(\d{1,2}))?\s*", value)):
        hours, minutes, seconds = (int(part or 0) for part in clock.groups())
        return hours * 3600 + minutes * 60 + seconds
    return to_number(value)


def pair_off(left: Sequence[T], right: Sequence[T], same: Callable[[T, T], bool]) -> dict[int, int]:
    """Return a maximum matching of items that are the `same`, as {index in `right`: index in `left`}.

    Equality within rounding is not transitive, so pairing each item with the first that fits could miss pairs.
    Kuhn's algorithm for bipartite matching changes partners along augmenting paths.
    """
    partner: dict[int, int] = {}

    def place(index: int, tried: set[int]) -> bool:
        for other, item in enumerate(right):
            if other in tried or not same(left[index], item):
                continue
            tried.add(other)
            if other not in partner or place(partner[other], tried):
                partner[other] = index
                return True
        return False

    for index in range(len(left)):
        place(index, set())
    return partner


def _unified(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Unify keys with the same effect: the first colour, as RGB channels if it can be parsed; targets; a duration."""
    folded: dict[str, Any] = {}
    for key, value in arguments.items():
        color = color_value(key, value) if key in COLOR_KEYS else None
        if color is not None and "color" not in folded:
            folded["color"] = color
        elif key in TARGET_KEYS:
            folded["target_device"] = [*folded.get("target_device", []), *_entities(value)]
        else:
            folded[key] = value
    clock = {key: folded[key] for key in CLOCK_KEYS if key in folded}
    if "duration" not in folded and duration_seconds(clock) is not None:
        folded = {key: value for key, value in folded.items() if key not in clock} | {"duration": clock}
    return folded


def _entities(value: Any) -> list[str]:
    if isinstance(value, str):
        return [part for part in (_word(part) for part in value.split(",")) if part]
    return [entity for part in value for entity in _entities(part)] if _is_list(value) else []


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _word(text: str) -> str:
    return " ".join(text.split()).casefold()


def to_bool(value: Any) -> bool | None:
    """Parse a value as Home Assistant's `cv.boolean` does; None where it refuses."""
    if isinstance(value, str):
        return {"true": True, "yes": True, "on": True, "1": True, "enable": True}.get(
            _word(value), False if _word(value) in ("false", "no", "off", "0", "disable") else None
        )
    return bool(value) if isinstance(value, bool | int | float) else None


def to_number(value: Any) -> float | None:
    """Parse a number, also one in quotes, which Home Assistant accepts as well."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str) and (found := re.fullmatch(r"\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*", value)):
        # Only the match: \s matches white space that float() does not accept.
        return float(found[1])
    try:
        return float(value) if isinstance(value, int | float) else None
    except OverflowError:
        return None


def _decimals(number: float) -> int:
    exponent = re.search(r"e-(\d+)$", repr(number))
    return int(exponent[1]) if exponent else len(repr(number).partition(".")[2].rstrip("0"))
