"""Parts of a cluster file that somebody else's schema describes: what a scalar means there is what YAML says it means.
Everywhere else scalars stay text until our own schema knows better (hatrain/load.py)."""

import math
import re
from typing import Annotated, Any

from pydantic import BeforeValidator

from hatrain.contract.load import Plain

_WORDS: dict[str, bool] = {
    word: word.lower() == "true" for word in ("true", "True", "TRUE", "false", "False", "FALSE")
}
_WHOLE = re.compile(r"[-+]?[0-9]+")
_OTHER_BASE = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_NUMBER = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NO_NUMBER = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


def scalar(text: str) -> bool | int | float | str:
    """Return what a scalar without quotes is in YAML 1.2's core schema. Raises ValueError for what JSON cannot hold.

    `yes`, `on`, `1_000` and `24:00` are text there, unlike in YAML 1.1; `010` is ten. A file's nulls are None by now.
    """
    if text in _WORDS:
        return _WORDS[text]
    if _WHOLE.fullmatch(text):
        return int(text)
    if _OTHER_BASE.fullmatch(text):
        return int(text, 0)
    if _NO_NUMBER.fullmatch(text):
        raise ValueError(f"numbers that JSON can hold, not {text}; in quotes it is text")
    if _NUMBER.fullmatch(text):
        if math.isinf(number := float(text)):
            raise ValueError(f"numbers that JSON can hold, not {text}; in quotes it is text")
        return number
    return str(text)


def as_yaml(value: Any) -> Any:
    """Return a document's value with what YAML makes of every scalar without quotes; what is in quotes stays text."""
    if isinstance(value, Plain):
        return scalar(value)
    if isinstance(value, dict):
        return {str(key): as_yaml(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_yaml(item) for item in value]
    return value


Mapping = Annotated[dict[str, Any], BeforeValidator(as_yaml)]
"""A mapping as another schema has it."""
