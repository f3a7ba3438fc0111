"""Reads a clone of home-assistant/intents: the test sentences of a language, and the home that they are about."""

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hatrain.contract.load import read_file
from hatrain.errors import BadInput, nearest
from hatrain.home.calls.compare import to_number
from hatrain.home.devices.entity import Entity
from hatrain.home.language.grammar import slug

_FIXTURES = "_fixtures.yaml"
_OPTIONAL, _CHOICE = re.compile(r"\[([^\[\]]*)\]"), re.compile(r"\(([^()|]*)\|[^()]*\)")
_ATTRIBUTES = {"position": "current_position"}
"""Attributes that the fixtures call otherwise than Home Assistant."""


@dataclass(frozen=True)
class Block:
    """A block of sentences that mean the same: an intent with its slots, and what Home Assistant responds.

    `area` is where the user is. `entities` are those that the block's own file adds to the home.
    """

    file: str
    number: int
    intent: str
    sentences: tuple[str, ...]
    slots: Mapping[str, Any]
    response: str
    area: str | None
    entities: tuple[Entity, ...]


@dataclass(frozen=True)
class Sentences:
    """The tests of one language. `said` has for a device class what each state is called."""

    language: str
    home: tuple[Entity, ...]
    blocks: tuple[Block, ...]
    said: Mapping[str, Mapping[str, tuple[str, ...]]]

    def home_of(self, block: Block) -> tuple[Entity, ...]:
        """Return the home of a block. An entity of its own file stands for one of the same name."""
        own = {entity.name.casefold() for entity in block.entities}
        return (*(entity for entity in self.home if entity.name.casefold() not in own), *block.entities)


def is_clone(path: Path) -> bool:
    return (path / "tests").is_dir()


def languages(folder: Path) -> list[str]:
    """Return the codes of the languages that a clone has tests of. Raises BadInput for another folder."""
    found = sorted(path.parent.name for path in (folder / "tests").glob(f"*/{_FIXTURES}"))
    if not found:
        raise BadInput(
            f"--intents: {folder}: no tests/LANGUAGE/{_FIXTURES}; accepted: a clone of home-assistant/intents"
        )
    return found


def read_sentences(folder: Path, language: str) -> Sentences:
    """Read the tests of a language by its code. Raises BadInput with a line for each file that cannot be used."""
    known = languages(folder)
    if language not in known:
        raise BadInput(
            f"--intents: {folder}: no tests of {language}; accepted: {', '.join(known)}{nearest(language, known)}"
        )
    tests = folder / "tests" / language
    fixtures = _mapping(tests / _FIXTURES)
    with _refused(tests / _FIXTURES, "floors and areas with id and name"):
        places = _Places(fixtures)
        said = _state_words(fixtures)
    home = _entities(tests / _FIXTURES, fixtures, places)
    blocks: list[Block] = []
    problems: list[str] = []
    for path in sorted(tests.rglob("*.yaml")):
        if path.name.startswith("_"):
            continue
        try:
            blocks += _blocks(path, str(path.relative_to(folder)), places)
        except BadInput as bad:
            problems += bad.problems
    if problems:
        raise BadInput(problems)
    return Sentences(language, home, tuple(blocks), said)


@contextmanager
def _refused(where: object, accepted: str) -> Iterator[None]:
    """Raise BadInput for a part of a file that has another form."""
    try:
        yield
    except (KeyError, TypeError, AttributeError):
        raise BadInput(f"{where}: found another form; accepted: {accepted}") from None


def _entities(path: Path, document: Mapping[str, Any], places: "_Places") -> tuple[Entity, ...]:
    with _refused(f"{path}: entities", "a list of name, and id or domain"):
        return tuple(places.entities(document.get("entities") or ()))


class _Places:
    """Areas and floors by their ids."""

    def __init__(self, fixtures: Mapping[str, Any]):
        floors = {each["id"]: plain(each["name"]) for each in fixtures.get("floors") or ()}
        self._areas = {
            each["id"]: (plain(each["name"]), floors.get(each.get("floor"))) for each in fixtures.get("areas") or ()
        }

    def entities(self, records: Iterable[Mapping[str, Any]]) -> Iterator[Entity]:
        for record in records:
            name = plain(record["name"])
            entity_id = record.get("id") or f"{record['domain']}.{slug(name)}"
            area, floor = self._areas.get(record.get("area"), (None, None))
            short = plain(_OPTIONAL.sub("", str(record["name"])))
            aliases = (short,) if short != name else ()
            yield Entity(entity_id, name, _state(record, entity_id), _attributes(record), aliases, area, floor)


def _blocks(path: Path, name: str, places: _Places) -> Iterator[Block]:
    """Yield the blocks of a file. In a folder of its own, the folder is the intent's name."""
    document = _mapping(path)
    own = _entities(path, document, places)
    for number, test in enumerate(document.get("tests") or ()):
        with _refused(f"{path}: test {number}", "sentences, intent, slots"):
            intent = test.get("intent") or {"name": path.parent.name, "slots": test.get("slots")}
            yield Block(
                name,
                number,
                str(intent["name"]),
                tuple(str(sentence) for sentence in test["sentences"]),
                {key: _slot(value) for key, value in (intent.get("slots") or {}).items()},
                str(test.get("response") or "").strip(),
                _slot((intent.get("context") or {}).get("area")),
                own,
            )


def _slot(value: Any) -> Any:
    """Return a slot's value; it may be given with the text that was said, or as a list of what it may be."""
    if isinstance(value, Mapping) and "value" in value:
        value = value["value"]
    value = value[0] if isinstance(value, list) and value else value
    return value.strip() if isinstance(value, str) else value


def _state(record: Mapping[str, Any], entity_id: str) -> str:
    state = record.get("state", record.get("state_with_unit"))
    if isinstance(state, Mapping):
        state = state.get("out", state.get("in"))
    if state is None or state == "":
        return {"script": "off", "todo": "0"}.get(entity_id.partition(".")[0], "unknown")
    return str(state)


def _attributes(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes; the YAML reader leaves numbers as text."""
    written = record.get("attributes") or {}
    return {_ATTRIBUTES.get(key, key): number_or_text(value) for key, value in written.items()}


def number_or_text(value: Any) -> Any:
    number = to_number(value)
    if number is None:
        return value
    return int(number) if number.is_integer() else number


def _state_words(fixtures: Mapping[str, Any]) -> dict[str, dict[str, tuple[str, ...]]]:
    """Return what a state is called, by device class; the fixtures give it as `in`, the state itself as `out`."""
    said: dict[str, dict[str, tuple[str, ...]]] = {}
    for record in fixtures.get("entities") or ():
        state, device_class = record.get("state"), (record.get("attributes") or {}).get("device_class")
        if isinstance(state, Mapping) and "in" in state and "out" in state and device_class:
            words = said.setdefault(device_class, {})
            words[str(state["out"])] = tuple(
                dict.fromkeys([*words.get(str(state["out"]), ()), plain(str(state["in"]))])
            )
    return said


def plain(text: str) -> str:
    """Return a text without the marks of sentence templates: optional parts are kept, the first choice is taken."""
    text = _OPTIONAL.sub(r"\1", str(text))
    return _CHOICE.sub(r"\1", text).strip()


def _mapping(path: Path) -> dict[str, Any]:
    data = _native(read_file(path).data)
    if not isinstance(data, dict):
        raise BadInput(f"{path}: found {type(data).__name__}; accepted: a mapping")
    return data


def _native(value: Any) -> Any:
    """Return a document in Python's own types; its reader has a type of text that knows its line."""
    if isinstance(value, dict):
        return {_native(key): _native(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_native(item) for item in value]
    return str(value) if isinstance(value, str) else value
