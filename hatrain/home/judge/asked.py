"""What a question about the home asks for, as a row carries it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hatrain.errors import BadInput

STATE, RESPONSE = "state", "response"
KEYS = ("about", "key", "value", "supposed", "said")


@dataclass(frozen=True)
class Asked:
    """One thing that is asked: an entity's state, or an attribute, with its value as Home Assistant stores it.

    `supposed` is the value that a yes-or-no question names: "is the door open?" supposes `open`. `said` has words for
    values beside those of the language. The key `response` stands for a question about several entities: its value is
    a right answer in words, whose yes or no, number and names count, and `about` is the domain.
    """

    about: str
    key: str
    value: Any
    supposed: Any = None
    said: Mapping[str, Sequence[str]] = field(default_factory=dict)


def read_asked(value: Any, where: str) -> tuple[Asked, ...]:
    """Read the `asked` of a row. Raises BadInput with one line for each entry that cannot be used."""
    if value is None:
        return ()
    if not isinstance(value, list):
        raise BadInput(f"{where}: asked: found {type(value).__name__}; accepted: a list of {{about, key, value}}")
    faults = ((number, _fault(each)) for number, each in enumerate(value))
    problems = [f"{where}: asked: entry {number}: {fault}" for number, fault in faults if fault]
    if problems:
        raise BadInput(problems)
    return tuple(map(_asked, value))


def write_asked(asked: Asked) -> dict[str, Any]:
    """Return what is asked as a row carries it, without what is empty."""
    row: dict[str, Any] = {"about": asked.about, "key": asked.key, "value": asked.value}
    if asked.supposed is not None:
        row["supposed"] = asked.supposed
    return row | ({"said": {value: list(words) for value, words in asked.said.items()}} if asked.said else {})


def _asked(entry: Mapping[str, Any]) -> Asked:
    return Asked(entry["about"], entry["key"], entry["value"], entry.get("supposed"), _words(entry.get("said")))


def _words(said: Any) -> dict[str, list[str]]:
    # A dataset library adds keys without a value to rows that lack them.
    return {value: list(words) for value, words in (said or {}).items() if words}


def _fault(entry: Any) -> str | None:
    if not isinstance(entry, Mapping):
        return f"found {entry!r}; accepted: {{about, key, value}}"
    if unknown := next((key for key in entry if key not in KEYS), None):
        return f"{unknown}: not a key; accepted: {', '.join(KEYS)}"
    for key in ("about", "key"):
        if not isinstance(entry.get(key), str) or not entry[key]:
            return f"{key}: found {entry.get(key)!r}; accepted: some text"
    said = entry.get("said")
    if said is not None and not isinstance(said, Mapping):
        return f"said: found {said!r}; accepted: words by value"
    return None if "value" in entry else "value: missing"
