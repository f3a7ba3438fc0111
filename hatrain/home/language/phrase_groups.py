"""Groups phrases that can become the same text, so that the split never puts one of them on each side."""

import re
from collections.abc import Iterator, Mapping

from hatrain.home.language.grammar import Forms, Noun, Style, fill_pattern
from hatrain.home.language.load import Language
from hatrain.home.language.names import forms_used
from hatrain.home.language.templates import Template, TemplateSection

_USER_FILES = ("requests.txt", "fixed.txt", "status.txt", "followups.txt")
_DEVICE = re.compile(r"\{device\[(\w+)\]\}")
# Placeholders whose values look alike: "40% is enough" may be about a fan or about blinds.
_PERCENT = re.compile(r"\{(?:brightness|percentage|position|volume|humidity|battery)\[")
_ROOM, _TIMER = re.compile(r"\{room\[(\w+)\]\}"), re.compile(r"\{timer\[(\w+)\]\}")
_SLOT = re.compile(r"\{(group|state|there|place)\[(\w+)\]\}")
_PLACE = re.compile(r"\{place\[\w+\]\}")
_COUNT = re.compile(r"\{(?:number|value)\[")  # "5" is a count, and what a sensor without a unit measures
_FEW_LETTERS = 7
_NOUNS_PER_CLASS = 2  # enough where a phrase cannot contain a noun's own words


def normalize(text: str) -> str:
    """Keep words and placeholders; drop punctuation, capitals and spaces."""
    return " ".join(re.sub(r"[^\w{}\[\]%°']+", " ", text.casefold()).split())


def phrase_key(section: TemplateSection, template: Template) -> str:
    """Return a phrase's normalized text, after `user: ` or `assistant: `: these are never compared to each other."""
    by_user = section.file in _USER_FILES or section.scope in ("complaint", "ask")
    return f"{'user' if by_user else 'assistant'}: {normalize(template.text)}"


def may_be_shared(key: str) -> bool:
    """Whether a request has so few letters of its own that another language may have it too."""
    role, _, text = key.partition(": ")
    return role == "user" and sum(map(str.isalpha, re.sub(r"\{[^}]*\}", "", text))) <= _FEW_LETTERS


class _OpenRoom(dict[str, str]):
    """A room that stays a placeholder, in every form."""

    def __missing__(self, form: str) -> str:
        return f"{{room[{form}]}}"


class PhraseGroups:
    """Disjoint sets (union-find) of a language's phrases.

    Two phrases are in one group if a reference to some device makes them the same text ("toggle {device:the}" and
    "toggle the light {room:in}"), or if one is the other within a filler.
    """

    def __init__(self, language: Language):
        self._parents: dict[str, str] = {}
        self._language = language
        self._fillers = [
            re.compile("(.+)".join(map(re.escape, normalize(filler).split("{request}")))) for filler in language.fillers
        ]
        self._styles = (*language.grammar.styles, language.grammar.unknown)
        self._noun_forms = [forms_used(style, "noun") for style in self._styles]
        self._forms: dict[tuple[str, int, int, str], str] = {}
        first_with: dict[str, str] = {}
        for section in language.sections:
            for template in section.templates:
                key = phrase_key(section, template)
                self._parents.setdefault(key, key)
                role = key.partition(":")[0]
                for text in self._texts(section, template):
                    self._join(key, first_with.setdefault(f"{role}: {text}", key))

    def root(self, key: str) -> str:
        while self._parents[key] != key:
            self._parents[key] = self._parents[self._parents[key]]
            key = self._parents[key]
        return key

    def _join(self, one: str, other: str) -> None:
        first, second = sorted((self.root(one), self.root(other)))
        self._parents[second] = first

    def _texts(self, section: TemplateSection, template: Template) -> Iterator[str]:
        """Yield all texts that a phrase can become, with and without a filler; rooms and values stay open."""
        text = _COUNT.sub("{count[", _PERCENT.sub("{percent[", normalize(template.text)))
        texts = {text, *self._placed(text), *self._timed(text), *self._grouped(section, text)}
        if section.file in _USER_FILES:
            texts |= {match[1] for filler in self._fillers if (match := filler.fullmatch(text))}
        texts |= {normalize(_PLACE.sub("", each)) for each in texts if "{place[" in each}  # which may be left unsaid
        forms = frozenset(_DEVICE.findall(text))
        if not forms:
            yield from texts
            return
        for text in texts:
            for device in self._devices(section, forms):
                yield _DEVICE.sub(lambda match: device[match[1]], text)  # noqa: B023 - used at once

    def _placed(self, text: str) -> Iterator[str]:
        """Yield a request about a room with the words for "here" and "everywhere": another may say the same so."""
        places = self._language.places
        for forms in (*places.here, *places.everywhere):
            if (used := set(_ROOM.findall(text))) and used <= forms.keys():
                yield normalize(_ROOM.sub(lambda match: forms[match[1]], text))  # noqa: B023 - used at once

    def _timed(self, text: str) -> Iterator[str]:
        """Yield a request about a satellite's timer with the words for any timer, which may mean a device too."""
        for forms in self._language.timers["any"] if "{timer[" in text else ():
            yield normalize(_TIMER.sub(lambda match: forms[match[1]], text))  # noqa: B023 - used at once

    def _grouped(self, section: TemplateSection, text: str) -> Iterator[str]:
        """Yield a question about several things with the words for each kind of thing and state: "all lights off?"."""
        if section.scope != "group" or section.file not in _USER_FILES:
            return
        where = next(form for form in self._language.grammar.unknown_room if form != "base")
        for group in self._language.groups.values():
            for state in group.states:
                parts = {"group": group.reference, "state": group.state(state), "there": group.there or {}}
                for place in ("", f"{{room[{where}]}}"):
                    fillers = {**parts, "place": {"base": place}}
                    if all(form in fillers[slot] for slot, form in _SLOT.findall(text) if slot == "there"):
                        yield normalize(_SLOT.sub(lambda match: fillers[match[1]][match[2]], text))  # noqa: B023

    def _devices(self, section: TemplateSection, forms: frozenset[str]) -> Iterator[Mapping[str, str]]:
        """Yield these forms of every reference to every device that a phrase may be about."""
        domains = {key.partition(".")[0] for key in section.keys if "." in key}
        nouns = [noun for noun in self._language.nouns if noun.domain in domains or not domains]
        if section.file not in _USER_FILES or not domains:
            by_class = ([noun for noun in nouns if noun.cls == cls] for cls in self._language.grammar.classes)
            nouns = [noun for same_class in by_class for noun in same_class[:_NOUNS_PER_CLASS]]
        for noun in nouns:
            for index, style in enumerate(self._styles):
                if not self._noun_forms[index] <= noun.forms.keys():
                    continue  # the style needs an optional form that the noun lacks
                for number in range(len(style.references)):
                    yield {form: self._form(noun, style, index, number, form) for form in forms}

    def _form(self, noun: Noun, style: Style, index: int, number: int, form: str) -> str:
        key = noun.base, index, number, form
        if key not in self._forms:
            patterns, agreement = style.references[number], self._language.grammar.agreement
            if form in patterns:
                parts: dict[str, Forms] = {"noun": noun.forms, "room": _OpenRoom(), "name": noun.forms}
                text = fill_pattern(patterns[form][noun.cls], agreement, noun.cls, parts)
            else:
                text = agreement[form][noun.cls]
            self._forms[key] = normalize(text)
        return self._forms[key]
