"""Arguments of services: which values Home Assistant accepts, and what they come to."""

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from hatrain.home.calls.colors import color_value
from hatrain.home.calls.compare import duration_seconds, to_bool, to_number


class Refused(Exception):
    """Home Assistant would refuse the call. The message is one line."""


Parse = Callable[[str, Any], Any]
"""From an argument's key and value to the value that is stored. Raises Refused."""


def number(low: float = -math.inf, high: float = math.inf) -> Parse:
    """A number within a range; text that is a number counts, as in Home Assistant."""

    def parse(key: str, value: Any) -> float:
        parsed = to_number(value)
        if parsed is None or not low <= parsed <= high:
            bounds = "" if math.isinf(low) else f" from {low:g} to {high:g}"
            raise Refused(f"{key}: found {_shown(value)}; accepted: a number{bounds}")
        return parsed

    return parse


def color(key: str, value: Any) -> tuple[int, int, int]:
    parsed = color_value(key, value)
    if parsed is None:
        raise Refused(f"{key}: found {_shown(value)}; accepted: a colour")
    return parsed


def seconds(key: str, value: Any) -> float:
    parsed = duration_seconds(value)
    if parsed is None:
        raise Refused(f"{key}: found {_shown(value)}; accepted: a duration, such as 00:05:00")
    return parsed


def text(key: str, value: Any) -> str:
    if not isinstance(value, str | int | float) or isinstance(value, bool) or not str(value).strip():
        raise Refused(f"{key}: found {_shown(value)}; accepted: some text")
    return str(value)


def flag(key: str, value: Any) -> bool:
    parsed = to_bool(value)
    if parsed is None:
        raise Refused(f"{key}: found {_shown(value)}; accepted: true or false")
    return parsed


def anything(key: str, value: Any) -> Any:
    return value


percent = number(0, 100)
fraction = number(0, 1)
byte = number(0, 255)


def parse_arguments(
    service: str, accepted: Mapping[str, Parse], required: tuple[str, ...], given: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the parsed arguments of a call. Raises Refused for the first that Home Assistant would not take."""
    for key in given:
        if key not in accepted:
            listed = f"; accepted: {', '.join(accepted)}" if accepted else ""
            raise Refused(f"{service}: {key} is not one of its arguments{listed}")
    for key in required:
        if key not in given:
            raise Refused(f"{service}: {key} is missing")
    return {key: accepted[key](key, value) for key, value in given.items()}


def _shown(value: Any) -> str:
    shown = json.dumps(value, ensure_ascii=False, default=str)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
