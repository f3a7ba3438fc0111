"""Finds phrases that could be said in the same words, so that a split never puts one of them on each side."""

import re
from collections.abc import Iterator, Mapping

from hatrain.home.language.grammar import Noun, Style, fill_pattern
from hatrain.home.language.load import Language
from hatrain.home.language.records import forms_asked
from hatrain.home.language.templates import Pile, Template

_REQUESTS = ("requests.txt", "fixed.txt", "status.txt", "followups.txt")
_DEVICE = re.compile(r"\{device\[(\w+)\]\}")
# Placeholders whose values look alike: "40% is enough" may be about a fan or about blinds.
_PERCENT = re.compile(r"\{(?:brightness|percentage|position|volume|humidity|battery)\[")
_FEW_LETTERS = 10
_PROTOTYPES = 2  # nouns of each class that stand for all, where no phrase can hold a noun's own words


def normal(text: str) -> str:
    """Return what makes two texts the same to a reader: words and placeholders, not marks, capitals or spaces."""
    return " ".join(re.sub(r"[^\w{}\[\]%°']+", " ", text.casefold()).split())


def phrase_key(pile: Pile, template: Template) -> str:
    """Return what identifies a phrase. What users say and what assistants say are never compared."""
    asked = pile.kind in _REQUESTS or pile.scope == "complaint"
    return f"{'user' if asked else 'assistant'}: {normal(template.text)}"


def without_forms(key: str) -> str:
    """Return a phrase's key without the forms of its placeholders, which mean something in one language alone."""
    return re.sub(r"\[\w+\]", "", key)


def may_be_shared(key: str) -> bool:
    """Whether a request has so few letters besides its placeholders that it may be one of another language too."""
    speaker, _, words = key.partition(": ")
    return speaker == "user" and sum(map(str.isalpha, re.sub(r"\{[^}]*\}", "", words))) <= _FEW_LETTERS


class _Rooms(dict[str, str]):
    """A room that stays a placeholder: every form of it is the template's own `{room[form]}`."""

    def __missing__(self, form: str) -> str:
        return f"{{room[{form}]}}"


class PhraseGroups:
    """Groups phrases. Two are kin if one device, said in one of its ways, makes both the same words: "toggle
    {device:the}" and "toggle the light {room:in}", or a plain imperative within a filler and the same in full."""

    def __init__(self, language: Language):
        self._parents: dict[str, str] = {}
        self._language = language
        self._fillers = [
            re.compile("(.+)".join(map(re.escape, normal(filler).split("{request}"))))
            for filler in language.fillers
        ]
        self._styles = (*language.grammar.styles, language.grammar.unknown)
        self._asked = [forms_asked(style, "noun") for style in self._styles]
        self._forms: dict[tuple[str, int, str], str] = {}
        seen: dict[str, str] = {}
        for pile in language.piles:
            for template in pile.templates:
                key = phrase_key(pile, template)
                self._parents.setdefault(key, key)
                speaker = key.partition(":")[0]
                for words in self._wordings(pile, template):
                    self._join(key, seen.setdefault(f"{speaker}: {words}", key))

    def root(self, key: str) -> str:
        """Return the phrase that stands for all of a group."""
        while self._parents[key] != key:
            self._parents[key] = self._parents[self._parents[key]]
            key = self._parents[key]
        return key

    def _join(self, one: str, other: str) -> None:
        first, second = sorted((self.root(one), self.root(other)))
        self._parents[second] = first

    def _wordings(self, pile: Pile, template: Template) -> Iterator[str]:
        """Yield what a phrase can become, rooms and values left open, itself and within fillers."""
        text = _PERCENT.sub("{percent[", normal(template.text))
        cores = {text}
        if pile.kind in _REQUESTS:
            for filler in self._fillers:
                match = filler.fullmatch(text)
                if match:
                    cores.add(match[1])
        forms = set(_DEVICE.findall(text))
        for core in cores:
            if not forms:
                yield core
            for said in self._devices(pile, frozenset(forms)) if forms else ():
                yield _DEVICE.sub(lambda match: said[match[1]], core)  # noqa: B023 - used at once

    def _devices(self, pile: Pile, forms: frozenset[str]) -> Iterator[Mapping[str, str]]:
        """Yield the forms of the devices that a phrase may be about, one mapping for each way of speaking of it."""
        domains = {key.partition(".")[0] for key in pile.key if "." in key}
        nouns = [noun for noun in self._language.nouns if noun.domain in domains or not domains]
        if pile.kind not in _REQUESTS or not domains:
            nouns = [noun for cls in self._language.grammar.classes for noun in _of_class(nouns, cls)]
        for noun in nouns:
            for index, style in enumerate(self._styles):
                if not self._asked[index] <= noun.forms.keys():
                    continue  # a style skips the nouns that lack what it needs, such as the end of a compound
                for way in range(len(style.said)):
                    yield {form: self._form(noun, style, index * 10 + way, way, form) for form in forms}

    def _form(self, noun: Noun, style: Style, number: int, way: int, form: str) -> str:
        key = noun.base, number, form
        if key not in self._forms:
            patterns, agreement = style.said[way], self._language.grammar.agreement
            if form in patterns:
                parts = {"noun": noun.forms, "room": _Rooms(), "name": noun.forms}
                text = fill_pattern(patterns[form][noun.cls], agreement, noun.cls, parts)
            else:
                text = agreement[form][noun.cls]
            self._forms[key] = normal(text)
        return self._forms[key]


def _of_class(nouns: list[Noun], cls: str) -> list[Noun]:
    return [noun for noun in nouns if noun.cls == cls][:_PROTOTYPES]
