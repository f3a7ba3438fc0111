"""Keeps passwords and tokens out of what a run writes: those in URLs, and those that the environment carries."""

import os
import re
from collections.abc import Mapping
from functools import cache
from typing import Any

HIDDEN = "***"

_PASSWORD = re.compile(r"(\b[A-Za-z][A-Za-z0-9+.-]*://[^\s@:/\"']*):(?!\d+[/@\s])[^\s@\"']+@")
"""A user and a password before the host; the password of an S3 key may hold slashes."""
_QUERY = re.compile(
    r"([?&](?:[A-Za-z0-9_.-]*(?:token|secret|password|passwd|signature|credential)|sig|api_?key|access_?key(?:_?id)?)=)"
    r"[^&\s\"'#]+",
    re.IGNORECASE,
)
_NAME = re.compile(
    r"(^|_)(TOKEN|PASSWORD|PASSWD|SECRET|CREDENTIALS?|(API|ACCESS|SECRET|PRIVATE|ACCOUNT)_KEY)$", re.IGNORECASE
)
_LEAST = 8
"""Letters of a value that is hidden wherever it appears: a shorter one is in ordinary words."""


def in_url(text: str) -> bool:
    """Whether a text holds a URL with a password, or with a token in its query."""
    return bool(_PASSWORD.search(text) or _QUERY.search(text))


def hide(text: str, environment: Mapping[str, str] | None = None) -> str:
    """Return a text without the passwords of URLs, and without the values of secret variables of an environment; of
    this process's where none is given."""
    variables = os.environ if environment is None else environment
    if "://" in text:
        text = _QUERY.sub(rf"\1{HIDDEN}", _PASSWORD.sub(rf"\1:{HIDDEN}@", text))
    for secret in _secrets(tuple(value for name, value in variables.items() if _NAME.search(name))):
        text = text.replace(secret, HIDDEN)
    return text


def hidden(value: Any) -> Any:
    """Return plain data with `hide` on every text in it."""
    if isinstance(value, str):
        return hide(value)
    if isinstance(value, Mapping):
        return {key: hidden(item) for key, item in value.items()}
    return [hidden(item) for item in value] if isinstance(value, list | tuple) else value


@cache
def _secrets(values: tuple[str, ...]) -> tuple[str, ...]:
    """The values to hide, the longest first: one may be part of another."""
    return tuple(sorted({value for value in values if len(value) >= _LEAST}, key=len, reverse=True))
