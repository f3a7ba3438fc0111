"""Builds device names and the ways to refer to a device in a sentence, from nouns, rooms and agreement.

It holds no word of any language.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from hatrain.home.devices.abilities import ANY, Abilities

PLACEHOLDER = re.compile(r"\{(\w+)(?::(\w+))?\}")

Forms = Mapping[str, str]
"""Form → text. `base` is always there."""


class Rules(Protocol):
    """What a language's grammar.py must define."""

    def plural(self, number: float) -> str:
        """Return the plural category of a number: a key of `units` in values.yaml."""

    def date_line(self, moment: datetime) -> str:
        """Return the line of the system prompt that gives date and time."""

    def clock(self, moment: datetime) -> str:
        """Return the time of day as it is said: `half past six`, `18:30`."""

    def day(self, moment: datetime) -> str:
        """Return the date as it is said: `Friday, March 15`."""

    def friendly(self, text: str) -> str:
        """Return a device's name as its owner would type it (capitals, contractions)."""

    def finish(self, text: str) -> str:
        """Return a complete sentence with its contractions made."""

    def list_class(self, classes: Sequence[str]) -> str:
        """Return the agreement class of several things named together."""


@dataclass(frozen=True)
class Noun:
    """What a device is. `cls` is the class that the words around it agree with."""

    base: str
    domain: str
    cls: str
    forms: Forms
    rooms: tuple[str, ...]
    kind: str
    positioned: bool  # a cover that can stop half way
    cools: bool  # a climate device that does more than heat
    device_class: str  # Home Assistant's, or empty
    proper: bool  # a name of its own, which takes no article
    line: int


@dataclass(frozen=True)
class Room:
    """Where a device is. `forms` holds whole phrases such as `in the kitchen`."""

    base: str
    forms: Forms
    tags: tuple[str, ...]
    line: int


@dataclass(frozen=True)
class Style:
    """One way to name devices, and the ways to refer to them, the usual one first."""

    name: str
    references: tuple[Mapping[str, Mapping[str, str]], ...]  # form → class → pattern


@dataclass(frozen=True)
class Grammar:
    """A language's grammar.yaml and grammar.py."""

    classes: tuple[str, ...]
    agreement: Mapping[str, Mapping[str, str]]
    styles: tuple[Style, ...]
    proper: tuple[Style, ...]
    unknown: Style
    unknown_room: Mapping[str, str]
    decimal: str
    conjunction: str
    rules: Rules

    def number(self, value: float) -> str:
        """Write a number with the language's decimal mark and no needless decimals."""
        text = f"{value:g}"
        return text if self.decimal == "." else text.replace(".", self.decimal)

    def listed(self, parts: Sequence[str]) -> str:
        """Return `a`, `a and b`, `a, b and c`."""
        if len(parts) == 1:
            return parts[0]
        return ", ".join(parts[:-1]) + self.conjunction + parts[-1]


class Reference(dict[str, str]):
    """One way to refer to a device: form → text. A form is built when it is first used."""

    def __init__(self, cls: str, build: Callable[[str], str]):
        super().__init__()
        self.cls, self._build = cls, build

    def __missing__(self, form: str) -> str:
        self[form] = text = self._build(form)
        return text


@dataclass(frozen=True, eq=False)
class Name:
    """A device's name, and the ways to refer to the device, the usual one first."""

    domain: str
    noun: Noun | None
    room: Room | None
    friendly: str
    entity_id: str
    cls: str
    references: tuple[Reference, ...] = field(repr=False)
    able: Abilities = ANY

    line_start: str = field(init=False, repr=False)  # of the device's line in a system prompt
    words: str = field(init=False, repr=False)  # what is compared to decide whether two names are alike

    def __post_init__(self) -> None:
        object.__setattr__(self, "line_start", f"{self.entity_id} '{self.friendly}' = ")
        object.__setattr__(self, "words", self.friendly.casefold())


def fill_pattern(pattern: str, agreement: Mapping[str, Mapping[str, str]], cls: str, parts: Mapping[str, Forms]) -> str:
    """Fill `{noun:form}`, `{room:form}` and agreement words such as `{the}`. Raises KeyError for an unknown one.

    Runs of spaces become one space: without a room, a pattern has gaps.
    """

    def fill(match: re.Match[str]) -> str:
        slot, form = match.groups()
        return parts[slot][form or "base"] if slot in parts else agreement[slot][cls]

    return " ".join(PLACEHOLDER.sub(fill, pattern).split())


class _Empty(dict[str, str]):
    def __missing__(self, form: str) -> str:
        return ""


_NO_ROOM: Forms = _Empty()


def _references(grammar: Grammar, style: Style, cls: str, parts: Mapping[str, Forms]) -> tuple[Reference, ...]:
    def builder(patterns: Mapping[str, Mapping[str, str]]) -> Callable[[str], str]:
        def build(form: str) -> str:
            if form in patterns:
                return fill_pattern(patterns[form][cls], grammar.agreement, cls, parts)
            return grammar.agreement[form][cls]

        return build

    return tuple(Reference(cls, builder(patterns)) for patterns in style.references)


# Letters that Unicode does not decompose into a plain letter and an accent.
_PLAIN_LETTERS = {ord(letter): plain for letter, plain in zip("łŁßœæø", ("l", "L", "ss", "oe", "ae", "o"), strict=True)}


def slug(text: str) -> str:
    """Return the part after the dot of the entity id that Home Assistant derives from a name."""
    decomposed = unicodedata.normalize("NFKD", text.translate(_PLAIN_LETTERS))
    ascii_text = decomposed.encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "_", ascii_text.lower()).strip("_")


def name_device(grammar: Grammar, noun: Noun, room: Room | None, style: Style) -> Name:
    """Name a noun in a room. Raises KeyError for a form that a record lacks."""
    parts = {"noun": noun.forms, "room": room.forms if room else _NO_ROOM}
    friendly = grammar.rules.friendly(fill_pattern(style.name, grammar.agreement, noun.cls, parts))
    references = _references(grammar, style, noun.cls, parts)
    if not room:
        references = references[:1]
    return Name(noun.domain, noun, room, friendly, f"{noun.domain}.{slug(friendly)}", noun.cls, references)


class _Declined(dict[str, str]):
    def __missing__(self, form: str) -> str:
        return self["base"]


def _declined(friendly: str, noun: Noun | None) -> Forms:
    """Decline a name by the noun that it contains; the rest of it, or all without a noun, stays as typed."""
    forms = _Declined(base=friendly)
    start = friendly.casefold().find(noun.base.casefold()) if noun else -1
    if noun and start >= 0:
        before, after = friendly[:start], friendly[start + len(noun.base) :]
        for form, text in noun.forms.items():
            if form != "base":
                forms[form] = before + text + after
    return forms


def name_known_device(
    grammar: Grammar, entity_id: str, friendly: str, noun: Noun | None, room: Room | None, cls: str
) -> Name:
    """Name a device of a user's real home; only its friendly name is certain."""
    references = _references(grammar, grammar.unknown, cls, {"name": _declined(friendly, noun), "room": _NO_ROOM})
    return Name(entity_id.partition(".")[0], noun, room, friendly, entity_id, cls, references)


def unknown_place(grammar: Grammar, name: str) -> Forms:
    """Return how a place of a user's home is said of which only the name is known."""
    return {form: pattern.replace("{name}", name) for form, pattern in grammar.unknown_room.items()}


def in_room(grammar: Grammar, reference: Reference, room: Room) -> Reference:
    """Say of a reference where the device is: `the lamp in the kitchen`, with the first form of a room."""
    where = next(form for form in grammar.unknown_room if form != "base")
    return at(grammar, reference, room.forms[where])


def at(grammar: Grammar, reference: Reference, place: str) -> Reference:
    """Say of a reference where the device is: `the lamp upstairs`."""

    def build(form: str) -> str:
        return reference[form] if form in grammar.agreement else f"{reference[form]} {place}"

    return Reference(reference.cls, build)


def several(grammar: Grammar, references: Iterable[Reference]) -> Reference:
    """Refer to several devices together; words of agreement agree with all of them."""
    parts = tuple(references)
    cls = grammar.rules.list_class([part.cls for part in parts])

    def build(form: str) -> str:
        if form in grammar.agreement:
            return grammar.agreement[form][cls]
        return grammar.listed([part[form] for part in parts])

    return Reference(cls, build)


def by_name(grammar: Grammar, names: Sequence[Name]) -> Reference:
    """Refer to devices by the names that Home Assistant has, without articles; words of agreement agree with all."""
    cls = names[0].cls if len(names) == 1 else grammar.rules.list_class([name.cls for name in names])
    said = grammar.listed([name.friendly for name in names])
    return Reference(cls, lambda form: grammar.agreement[form][cls] if form in grammar.agreement else said)
