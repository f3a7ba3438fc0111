"""Checks parts of a pod in the notation of Kubernetes: their keys, and the type of each value. The API server would
refuse a mistake in them, or ignore it."""

import json
import math
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from pydantic_core import InitErrorDetails, PydanticCustomError, ValidationError

Key = tuple[str | int, ...]

TABLE = Path(__file__).with_name("pod_schema.json")
"""{type: {field: shape}}: every field that any version of Kubernetes from 1.20 to 1.37 has in a pod. A shape is another
type, a scalar of `_SCALARS`, a list "[shape]", or a mapping with free keys "{shape}"."""

_QUANTITY = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][-+]?[0-9]+)?")


def _whole(bits: int) -> Callable[[Any], bool]:
    def fits(value: Any) -> bool:
        number = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        return number and not isinstance(value, bool) and -(2 ** (bits - 1)) <= value < 2 ** (bits - 1)

    return fits


def _quantity(value: Any) -> bool:
    if isinstance(value, str):
        return bool(_QUANTITY.fullmatch(value))
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


_SCALARS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "string": ("text, which has quotes where it looks like another type", lambda value: isinstance(value, str)),
    "boolean": ("true or false, without quotes", lambda value: isinstance(value, bool)),
    "int32": ("a whole number of 32 bits, without quotes", _whole(32)),
    "int64": ("a whole number of 64 bits, without quotes", _whole(64)),
    "int-or-string": ("a whole number or text", lambda value: isinstance(value, str) or _whole(32)(value)),
    "quantity": ("a quantity such as 16, 500m or 64Gi", _quantity),
    "object": ("a mapping of keys", lambda value: isinstance(value, dict)),
}
"""What each accepts, in words and as a function."""
_HANDLERS = {"exec", "httpGet", "tcpSocket", "grpc", "sleep"}
_EXCLUSIVE = {
    "EnvFromSource": {"configMapRef", "secretRef"},
    "EnvVar": {"value", "valueFrom"},
    "LifecycleHandler": _HANDLERS,
    "Probe": _HANDLERS,
}
"""Fields of which an object has at most one."""
_ONE_FIELD = {"EnvVarSource": set(), "Volume": {"name"}, "VolumeProjection": set()}
"""Types with at most one field besides these."""


@cache
def table() -> dict[str, dict[str, str]]:
    """{type: {field: shape}} of `TABLE`."""
    types: dict[str, dict[str, str]] = json.loads(TABLE.read_text(encoding="utf-8"))
    return types


def check(value: dict[str, Any], shape: str) -> dict[str, Any]:
    """Raises a ValidationError with every unknown key and every value of a wrong type, each at its place."""
    if mistakes := [*_mistakes(value, shape, ())]:
        raise ValidationError.from_exception_data(shape, mistakes)
    return value


def refusal(key: Key, found: Any, accepted: str) -> ValidationError:
    """The error for one value inside a part of a pod, to be raised where it is validated."""
    return ValidationError.from_exception_data("pod", [_wrong(key, found, accepted)])


def _wrong(key: Key, found: Any, accepted: str) -> InitErrorDetails:
    error = PydanticCustomError("value_error", "{accepted}", {"accepted": accepted})
    return InitErrorDetails(type=error, loc=key, input=found)


def _mistakes(value: Any, shape: str, key: Key) -> Iterator[InitErrorDetails]:
    if value is None:
        return
    if scalar := _SCALARS.get(shape):
        accepted, fits = scalar
        if not fits(value):
            yield _wrong(key, value, accepted)
    elif shape.startswith("["):
        if isinstance(value, list):
            for number, item in enumerate(value):
                yield from _mistakes(item, shape[1:-1], (*key, number))
        else:
            yield _wrong(key, value, "a list")
    elif not isinstance(value, dict):
        yield _wrong(key, value, "a mapping of keys")
    else:
        fields = None if shape.startswith("{") else table()[shape]
        if len(several := _exclusive(value, shape)) > 1:
            yield _wrong(key, value, f"only one of {', '.join(several)}")
        for name, item in value.items():
            inner = shape[1:-1] if fields is None else fields.get(name)
            if inner is None:
                error = PydanticCustomError("extra_forbidden", "unknown key", {"accepted": sorted(fields or ())})
                yield InitErrorDetails(type=error, loc=(*key, name), input=item)
            else:
                yield from _mistakes(item, inner, (*key, name))


def _exclusive(value: dict[str, Any], shape: str) -> list[str]:
    """The given keys of which only one may be given."""
    given = [name for name, item in value.items() if item not in (None, "")]
    if shape in _ONE_FIELD:
        return [name for name in given if name in table()[shape] and name not in _ONE_FIELD[shape]]
    return [name for name in given if name in _EXCLUSIVE.get(shape, ())]
