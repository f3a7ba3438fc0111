"""The keys of a schema: what is accepted where, and what an unknown key or a wrong value was probably meant to be. All
of it comes from the pydantic models, but for the words of other programs (`other_words.py`)."""

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic import BaseModel

from hatrain.contract.other_words import KEYS, VALUES
from hatrain.errors import nearest, plain

Schema = dict[str, Any]

_TRUE = {"true", "yes", "on"}
_FALSE = {"false", "no", "off", "none", "null"}


@cache
def _schema(model: type[BaseModel]) -> Schema:
    return model.model_json_schema()


def _branches(schema: Schema, root: Schema) -> list[Schema]:
    """Return the alternatives of a JSON schema, references resolved."""
    if "$ref" in schema:
        return _branches(root["$defs"][schema["$ref"].rsplit("/", 1)[-1]], root)
    for union in ("anyOf", "oneOf", "allOf"):
        if union in schema:
            return [leaf for option in schema[union] for leaf in _branches(option, root)]
    return [schema]


def _kind_of(branch: Schema) -> Any:
    return branch.get("properties", {}).get("kind", {}).get("const")


def _alternatives(model: type[BaseModel], loc: Sequence[str | int]) -> list[Schema]:
    """Return what a model accepts at a location: a file's key, or a pydantic error's `loc`."""
    root = _schema(model)
    at = [root]
    for part in loc:
        mappings = [branch for branch in at if "properties" in branch]
        if tagged := [branch for branch in mappings if _kind_of(branch) == part]:
            at = tagged
        elif isinstance(part, int):
            at = [leaf for branch in at if "items" in branch for leaf in _branches(branch["items"], root)]
        else:
            values = [branch.get("properties", {}).get(part, branch.get("additionalProperties")) for branch in at]
            at = [leaf for value in values if isinstance(value, dict) for leaf in _branches(value, root)]
    return at


def accepted_keys(model: type[BaseModel], loc: Sequence[str | int]) -> list[str]:
    """Return the keys that a model accepts at a location."""
    return list(dict.fromkeys(key for branch in _alternatives(model, loc) for key in branch.get("properties", {})))


@dataclass(frozen=True)
class _Place:
    """Where a schema has a key, but for those in lists."""

    key: tuple[str, ...]
    kind: str | None
    """The kind that the mapping around it must have."""


@cache
def _places(model: type[BaseModel]) -> tuple[_Place, ...]:
    root = _schema(model)

    def below(schema: Schema, key: tuple[str, ...], above: tuple[int, ...]) -> Iterator[_Place]:
        for branch in _branches(schema, root):
            if id(branch) in above:
                continue
            for name, value in branch.get("properties", {}).items():
                yield _Place((*key, name), _kind_of(branch))
                yield from below(value, (*key, name), (*above, id(branch)))

    return tuple(dict.fromkeys(below(root, (), ())))


# --- keys ---------------------------------------------------------------------------------------------------


def target(words: str) -> str:
    """Return the key that an entry of `other_words.KEYS` begins with."""
    return re.split(r"[ :]", words)[0]


def unknown_key(
    model: type[BaseModel],
    loc: Sequence[str | int],
    found: Any = None,
    *,
    below: Sequence[str | int] = (),
    accepted: Sequence[str] = (),
) -> str:
    """Return what to say about a key that a model does not accept: its right place, else what is accepted there.

    `found` is its value; `below` is what was set in it (`--set lora.rank=8`); `accepted` replaces the model's own keys.
    """
    *above, last = loc
    name = plain(str(last))
    here = list(accepted) or accepted_keys(model, above)
    listed = f"unknown key; accepted: {', '.join(here)}"
    if name in map(plain, here):
        return listed + nearest(name, here)
    kinds = _kinds(model)
    level = tuple(str(part) for part in above if part not in kinds)
    # The same key in a mapping of another kind, such as method.beta without kind: dpo.
    for place in _places(model):
        if place.key == (*level, name) and place.kind:
            return f"{listed}; it needs kind: {place.kind}"
    if places := list(dict.fromkeys(place.key for place in _places(model) if place.key[-1] == name)):
        value = _guess(model, places[0], found) if len(places) == 1 and isinstance(found, str) else ""
        written = " or ".join(".".join((*place, *map(str, below))) for place in places)
        return f"unknown key here; did you mean {written}{value and ': '}{value}?"
    if (words := KEYS.get(name)) and target(words) in {".".join(place.key) for place in _places(model)}:
        return f"unknown key; write {words}"
    if file := _other_file(model, name):
        return f"unknown key; it belongs into {file}"
    if hint := nearest(name, here):
        return listed + hint
    by_name = {place.key[-1]: ".".join((*place.key, *map(str, below))) for place in reversed(_places(model))}
    near = difflib.get_close_matches(name, by_name, n=1, cutoff=0.8)
    return f"{listed}; did you mean {by_name[near[0]]}?" if near else listed


def _other_file(model: type[BaseModel], name: str) -> str:
    """A job's key in a cluster file belongs into a job, and the reverse."""
    from hatrain.contract.cluster import KINDS
    from hatrain.contract.spec import JobSpec

    if model is JobSpec:
        kinds = [kind for kind, cluster in KINDS.items() if name in cluster.model_fields]
        return f"a cluster file of kind: {' or '.join(kinds)}" if kinds else ""
    if model in KINDS.values():
        places = [".".join(place.key) for place in _places(JobSpec) if place.key[-1] == name]
        return f"a job, as {' or '.join(dict.fromkeys(places))}" if places else ""
    return ""


@cache
def _kinds(model: type[BaseModel]) -> frozenset[str]:
    return frozenset(place.kind for place in _places(model) if place.kind)


# --- values -------------------------------------------------------------------------------------------------


def meant(model: type[BaseModel], key: Sequence[str | int], found: str) -> str:
    """Return `; did you mean X?` for a value that is not accepted; empty where there is no guess."""
    guess = _guess(model, key, found)
    return f"; did you mean {guess}?" if guess else ""


def _guess(model: type[BaseModel], key: Sequence[str | int], found: str) -> str:
    dotted, word = ".".join(map(str, key)), plain(found)
    if text := VALUES.get((dotted, word)):
        return text
    at = _alternatives(model, key)
    if any(branch.get("type") == "boolean" for branch in at):
        return ""
    words = [str(word) for branch in at for word in branch.get("enum", [branch.get("const")]) if word is not None]
    mappings = [branch for branch in at if "properties" in branch]
    if word in _TRUE:
        return "auto" if "auto" in words else "{}, for its defaults" if mappings and not _required(mappings) else ""
    if word in _FALSE:
        nothing = any(branch.get("type") == "null" for branch in at)
        return next((word for word in ("off", "none") if word in words), "null" if nothing else "")
    if mappings and word in map(_kind_of, mappings):
        return f"{dotted}.kind: {word}"
    if len(required := _required(mappings)) == 1:
        return f"{dotted}.{required[0]}: {found}"
    starting = [other for other in words if found.isdigit() and other.startswith(found)]
    return starting[0] if len(starting) == 1 else ""


def _required(mappings: Sequence[Schema]) -> list[str]:
    return list(dict.fromkeys(key for branch in mappings for key in branch.get("required", []) if key != "kind"))
