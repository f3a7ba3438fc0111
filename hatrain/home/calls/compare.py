"""When two service calls mean the same to a home: numbers, colours, durations and words, by what they do.
Pure functions; nothing here knows a model, a prompt or a language."""

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
"""Arguments that hold a colour. Which of them says it makes no difference to the lamp."""

CLOCK_KEYS = ("hours", "minutes", "seconds")
"""Arguments that together say a duration, as Home Assistant's timer intents take it."""


@dataclass(frozen=True)
class Call:
    """One call as it was said: the service or tool, and every argument, the target among them."""

    service: str
    arguments: Mapping[str, Any]

    def targets(self) -> tuple[str, ...]:
        """Return the entity ids it names, in lower case, each once, in order."""
        found = (entity for key in TARGET_KEYS for entity in _entities(self.arguments.get(key)))
        return tuple(dict.fromkeys(found))

    def per_target(self) -> tuple["Call", ...]:
        """Return the call once for each entity: one call for two lamps does what two calls do."""
        targets = self.targets()
        rest = {key: value for key, value in self.arguments.items() if key not in TARGET_KEYS}
        return tuple(Call(self.service, {"target_device": target, **rest}) for target in targets) or (self,)

    def __str__(self) -> str:
        return json.dumps({"service": self.service, **self.arguments}, ensure_ascii=False)


def same_call(one: Call, other: Call) -> bool:
    """Whether both do the same: the same service, the same entities, arguments of the same meaning."""
    return _word(one.service) == _word(other.service) and same_arguments(one.arguments, other.arguments)


def same_arguments(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two sets of arguments mean the same. Order is ignored, and so is which key says a colour."""
    left, right = _by_meaning(one), _by_meaning(other)
    return left.keys() == right.keys() and all(same_value(key, left[key], right[key]) for key in left)


def same_value(key: str, one: Any, other: Any) -> bool:
    """Whether two values of the argument `key` mean the same; symmetric.

    Numbers agree within rounding (see `same_number`), colours within one step of a channel, durations in
    seconds, words without regard to case and spacing, lists without regard to order.
    """
    if key in TARGET_KEYS:
        return set(_entities(one)) == set(_entities(other))
    if key == "duration" and (seconds := duration_seconds(one)) is not None:
        return seconds == duration_seconds(other)
    if key in COLOR_KEYS and isinstance(one, tuple) and isinstance(other, tuple):
        return all(abs(a - b) <= 1 for a, b in zip(one, other, strict=True))
    if isinstance(one, Mapping) or isinstance(other, Mapping):
        return isinstance(one, Mapping) and isinstance(other, Mapping) and same_arguments(one, other)
    if _is_list(one) or _is_list(other):
        left, right = (list(value) if _is_list(value) else [value] for value in (one, other))
        return len(left) == len(right) == len(pair_off(left, right, lambda a, b: same_value(key, a, b)))
    if isinstance(one, bool) or isinstance(other, bool):
        return _truth(one) is not None and _truth(one) == _truth(other)
    left_number, right_number = _number(one), _number(other)
    if left_number is not None and right_number is not None:
        return same_number(key, left_number, right_number)
    if isinstance(one, str) and isinstance(other, str):
        return _word(one) == _word(other)
    return bool(one == other)


def same_number(key: str, one: float, other: float) -> bool:
    """Whether two numbers are one number, rounded differently.

    They may differ by less than half a unit of the last decimal of the shorter one, and by at most one part
    in a hundred, so that 33 is 33.3 and 0.5 is 0.502, while 21 is not 21.4 and 0 is nothing but 0.
    `brightness` above 100 counts 255 steps and is compared as the percentage that Home Assistant shows.
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
    """Return a duration in seconds as Home Assistant reads it, or None.

    A number is seconds, `HH:MM` hours and minutes, `HH:MM:SS` with seconds; a mapping names its units.
    """
    if isinstance(value, Mapping):
        units = {"days": 86400, "hours": 3600, "minutes": 60, "seconds": 1}
        parts = {key: _number(part) for key, part in value.items()}
        if not parts or not parts.keys() <= units.keys() or None in parts.values():
            return None
        return sum(units[key] * part for key, part in parts.items() if part is not None)
    if isinstance(value, str) and (clock := re.fullmatch(r"\s*(\d+):(\d{1,2})(?::(\d{1,2}))?\s*", value)):
        hours, minutes, seconds = (int(part or 0) for part in clock.groups())
        return hours * 3600 + minutes * 60 + seconds
    return _number(value)


def pair_off(left: Sequence[T], right: Sequence[T], same: Callable[[T, T], bool]) -> dict[int, int]:
    """Return the most pairs of the `same` that can be made, as {index in `right`: index in `left`}.

    Each item is in one pair at most. Sameness within rounding is not transitive, so taking the first that
    fits could miss pairs: items change partners along augmenting paths (Kuhn's bipartite matching).
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


def _by_meaning(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Fold keys that say one thing: the first colour, as channels where it can be read; targets; a duration."""
    folded: dict[str, Any] = {}
    for key, value in arguments.items():
        color = color_value(key, value) if key in COLOR_KEYS else None
        if color is not None and "color" not in folded:
            folded["color"] = color
        elif key in TARGET_KEYS:
            folded["target_device"] = [*folded.get("target_device", []), *_entities(value)]
        else:
            folded[key] = value
    units = [key for key in CLOCK_KEYS if key in folded]
    if units and "duration" not in folded:
        folded["duration"] = {key: folded.pop(key) for key in units}
    return folded


def _entities(value: Any) -> list[str]:
    if isinstance(value, str):
        return [part for part in (_word(part) for part in value.split(",")) if part]
    return [entity for part in value for entity in _entities(part)] if _is_list(value) else []


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _word(text: str) -> str:
    return " ".join(text.split()).casefold()


def _truth(value: Any) -> bool | None:
    """Return what Home Assistant's `cv.boolean` makes of a value, or None where it refuses."""
    if isinstance(value, str):
        return {"true": True, "yes": True, "on": True, "1": True, "enable": True}.get(
            _word(value), False if _word(value) in ("false", "no", "off", "0", "disable") else None
        )
    return bool(value) if isinstance(value, bool | int | float) else None


def _number(value: Any) -> float | None:
    """Return a number, also one in quotes, which Home Assistant takes as well."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str) and (
        found := re.fullmatch(r"\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*", value)
    ):
        # Not the whole text: a pattern's white space is more than what float leaves out.
        return float(found[1])
    try:
        return float(value) if isinstance(value, int | float) else None
    except OverflowError:
        return None


def _decimals(number: float) -> int:
    exponent = re.search(r"e-(\d+)$", repr(number))
    return int(exponent[1]) if exponent else len(repr(number).partition(".")[2].rstrip("0"))
