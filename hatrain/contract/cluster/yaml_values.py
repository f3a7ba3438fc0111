"""Parts of a cluster file with a schema of their own, such as tolerations: their scalars have the types of YAML. All
other scalars stay text until our schema converts them (hatrain/contract/load.py)."""

import math
import re
from typing import Annotated, Any

from pydantic import BeforeValidator

from hatrain.contract.load import Plain

_BOOLEANS: dict[str, bool] = {
    name: name.lower() == "true" for name in ("true", "True", "TRUE", "false", "False", "FALSE")
}
_WHOLE = re.compile(r"[-+]?[0-9]+")
_OTHER_BASE = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_NUMBER = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NO_NUMBER = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


def scalar(text: str) -> bool | int | float | str:
    """The value of an unquoted scalar in the core schema of YAML 1.2. Raises ValueError for numbers that JSON lacks.

    Unlike in YAML 1.1, `yes`, `on`, `1_000` and `24:00` are text, and `010` is ten. Nulls are None already.
    """
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    if _WHOLE.fullmatch(text):
        return int(text)
    if _OTHER_BASE.fullmatch(text):
        return int(text, 0)
    if _NO_NUMBER.fullmatch(text):
        raise ValueError(f"numbers that JSON can hold, not {text}; quote it to make it text")
    if _NUMBER.fullmatch(text):
        if math.isinf(number := float(text)):
            raise ValueError(f"numbers that JSON can hold, not {text}; quote it to make it text")
        return number
    return str(text)


def as_yaml(value: Any) -> Any:
    """Convert every unquoted scalar of a value; quoted scalars stay text."""
    if isinstance(value, Plain):
        return scalar(value)
    if isinstance(value, dict):
        return {str(key): as_yaml(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_yaml(item) for item in value]
    return value


Mapping = Annotated[dict[str, Any], BeforeValidator(as_yaml)]
"""A mapping with another schema."""
