"""Puts nouns, rooms and agreement together: what a device is called, and how people refer to it in a sentence.

Everything a language needs beyond its own files is here; no word of any language is.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

PLACEHOLDER = re.compile(r"\{(\w+)(?::(\w+))?\}")


class Rules(Protocol):
    """What a language's own `grammar.py` must define: the little that data cannot say."""

    def plural(self, number: float) -> str:
        """Return the plural category of a number, one of those that the units in values.yaml use."""

    def date_line(self, moment: datetime) -> str:
        """Return the line of the system prompt that says what time it is."""

    def friendly(self, text: str) -> str:
        """Return a device's name as its owner would have typed it (capitals, contractions)."""

    def finish(self, text: str) -> str:
        """Return a finished sentence with its contractions made."""

    def list_class(self, classes: Sequence[str]) -> str:
        """Return the agreement class of several things named together."""


@dataclass(frozen=True)
class Noun:
    """What a device is. `forms` has its base form under `base`; `cls` is what words around it agree with."""

    base: str
    domain: str
    cls: str
    forms: Mapping[str, str]
    rooms: tuple[str, ...]
    kind: str
    positioned: bool  # a cover that can stop half way
    cools: bool  # a climate device that does more than heat
    line: int


@dataclass(frozen=True)
class Room:
    """Where a device is. `forms` holds whole phrases such as `in the kitchen`."""

    base: str
    forms: Mapping[str, str]
    tags: tuple[str, ...]
    line: int


@dataclass(frozen=True)
class Style:
    """One way of naming devices, and the ways (`said`) in which people then speak of them, usual ones first."""

    name: str
    said: tuple[Mapping[str, Mapping[str, str]], ...]  # form → class → pattern


@dataclass(frozen=True)
class Grammar:
    """A language's grammar.yaml and grammar.py, ready for use."""

    classes: tuple[str, ...]
    agreement: Mapping[str, Mapping[str, str]]
    styles: tuple[Style, ...]
    unknown: Style
    unknown_room: Mapping[str, str]
    comma: str
    conjunction: str
    rules: Rules

    def number(self, value: float) -> str:
        """Return a number in the language's digits, without needless decimals."""
        text = f"{value:g}"
        return text if self.comma == "." else text.replace(".", self.comma)

    def listed(self, parts: Sequence[str]) -> str:
        """Return `a`, `a and b`, `a, b and c`."""
        if len(parts) == 1:
            return parts[0]
        return ", ".join(parts[:-1]) + self.conjunction + parts[-1]


@dataclass(frozen=True, eq=False)
class Name:
    """One device's name. `said` holds one mapping of form → text for each way of speaking of it."""

    domain: str
    noun: Noun | None
    room: Room | None
    friendly: str
    entity_id: str
    cls: str
    said: "tuple[Said, ...]" = field(repr=False)

    line_start: str = field(init=False, repr=False)  # of the device's line in a system prompt
    words: str = field(init=False, repr=False)  # what is compared to tell whether two names are alike

    def __post_init__(self) -> None:
        object.__setattr__(self, "line_start", f"{self.entity_id} '{self.friendly}' = ")
        object.__setattr__(self, "words", self.friendly.casefold())


class Said(dict[str, str]):
    """The forms of one way of speaking of a device, made when first asked for."""

    def __init__(self, cls: str, make: Callable[[str], str]):
        super().__init__()
        self.cls, self._make = cls, make

    def __missing__(self, form: str) -> str:
        self[form] = text = self._make(form)
        return text


def squeeze(text: str) -> str:
    """Return text with its runs of spaces made one: a device without a room leaves holes in a pattern."""
    return " ".join(text.split())


def fill_pattern(
    pattern: str, agreement: Mapping[str, Mapping[str, str]], cls: str, parts: Mapping[str, Mapping[str, str]]
) -> str:
    """Fill `{noun:form}`, `{room:form}` and agreement words such as `{the}`. Raises KeyError for an unknown one."""

    def put(match: re.Match[str]) -> str:
        slot, form = match.groups()
        return parts[slot][form or "base"] if slot in parts else agreement[slot][cls]

    return squeeze(PLACEHOLDER.sub(put, pattern))


class _Nothing(dict[str, str]):
    def __missing__(self, form: str) -> str:
        return ""


NOTHING: Mapping[str, str] = _Nothing()


def _said(
    grammar: Grammar, style: Style, cls: str, parts: Mapping[str, Mapping[str, str]]
) -> tuple[Said, ...]:
    def maker(forms: Mapping[str, Mapping[str, str]]) -> Callable[[str], str]:
        def make(form: str) -> str:
            if form in forms:
                return fill_pattern(forms[form][cls], grammar.agreement, cls, parts)
            return grammar.agreement[form][cls]

        return make

    return tuple(Said(cls, maker(forms)) for forms in style.said)


# Letters that are no others with an accent.
_NO_ACCENT = {
    ord(letter): plain for letter, plain in zip("łŁßœæø", ("l", "L", "ss", "oe", "ae", "o"), strict=True)
}


def slug(text: str) -> str:
    """Return the part after the dot of the entity id that Home Assistant makes of a name."""
    ascii_text = unicodedata.normalize("NFKD", text.translate(_NO_ACCENT)).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "_", ascii_text.lower()).strip("_")


def name_device(grammar: Grammar, noun: Noun, room: Room | None, style: Style) -> Name:
    """Return the name of a noun in a room, in one style. Raises KeyError for a form that a record lacks."""
    parts = {"noun": noun.forms, "room": room.forms if room else NOTHING}
    friendly = grammar.rules.friendly(fill_pattern(style.name, grammar.agreement, noun.cls, parts))
    said = _said(grammar, style, noun.cls, parts)
    if not room:
        said = said[:1]
    return Name(noun.domain, noun, room, friendly, f"{noun.domain}.{slug(friendly)}", noun.cls, said)


class _Undeclined(dict[str, str]):
    def __missing__(self, form: str) -> str:
        return self["base"]


def declined(friendly: str, noun: Noun | None) -> Mapping[str, str]:
    """Return the forms of a name as its owner typed it: the noun in it takes its form, all else stays.

    A name without a noun that is known is the same in every form.
    """
    forms = _Undeclined(base=friendly)
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
    """Return the name of a device that exists in somebody's home, of which only the name as typed is sure."""
    said = _said(grammar, grammar.unknown, cls, {"name": declined(friendly, noun), "room": NOTHING})
    return Name(entity_id.partition(".")[0], noun, room, friendly, entity_id, cls, said)


def several(grammar: Grammar, fillers: Iterable[Said]) -> Said:
    """Return the forms of devices named together; words that agree with them agree with them all."""
    parts = tuple(fillers)
    cls = grammar.rules.list_class([part.cls for part in parts])

    def make(form: str) -> str:
        if form in grammar.agreement:
            return grammar.agreement[form][cls]
        return grammar.listed([part[form] for part in parts])

    return Said(cls, make)
