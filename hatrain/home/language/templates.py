"""Turns the piles of a language folder into templates: which headers there are, what may be filled in under each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hatrain.errors import nearest
from hatrain.home.devices.actions import (
    ACTIONS,
    COLLECTIVE,
    QUESTIONS,
    REFUSABLE,
    STATUS_ANSWERS,
    STATUS_SLOTS,
)
from hatrain.home.devices.services import DOMAINS
from hatrain.home.devices.states import Unit
from hatrain.home.language.grammar import PLACEHOLDER
from hatrain.home.language.piles import Phrase, Section
from hatrain.home.language.records import Problems
from hatrain.home.language.values import forms_of

NEUTRAL = "neutral"
SCOPES = ("one", "all", "house")


@dataclass(frozen=True)
class Template:
    """A phrase ready for `str.format_map`: `{device:the}` has become `{device[the]}`."""

    text: str
    slots: frozenset[str]
    phrase: Phrase

    @property
    def plain(self) -> bool:
        return self.phrase.plain


@dataclass(frozen=True)
class Pile:
    """The templates of one section. `kind` is its file, or `answers/PERSONA.txt`; `scope` and `key` its header."""

    kind: str
    scope: str
    key: tuple[str, ...]
    nouns: frozenset[str]
    templates: tuple[Template, ...]


@dataclass(frozen=True)
class Forms:
    device: set[str]
    room: set[str]
    values: Mapping[str, Any]
    units: tuple[Unit, ...]

    def of(self, slot: str) -> set[str]:
        if slot == "device":
            return self.device | {"base"}
        if slot == "room":
            return self.room
        if slot == "entity_id":
            return {"base"}
        return forms_of(self.values, slot, self.units)


def read_pile(file: str, section: Section, forms: Forms, kinds: set[str], problems: Problems) -> list[Pile]:
    for noun in section.nouns:
        problems.unless(noun in kinds, f"{section.place}: {noun}: no such noun or kind{nearest(noun, kinds)}")
    keys = _scoped(section.keys)
    parsed = [_header(file, key) for key in keys]
    if None in parsed or len({scope for scope, _, _, _ in filter(None, parsed)}) != 1:
        accepted = _accepted_headers(file)
        for key, header in zip(keys, parsed, strict=True):
            if header is None:
                problems.append(
                    f"{section.place}: [{key}]: not a header of this file{nearest(key, accepted)}"
                )
        if None not in parsed:
            problems.append(f"{section.place}: the keys of one header must be of one scope")
        return []
    headers = [header for header in parsed if header]
    allowed = set.intersection(*(set(slots) for _, _, slots, _ in headers))
    needed = set.union(*(set(slots) for _, _, _, slots in headers))
    templates = []
    for phrase in section.phrases:
        template = _template(phrase, allowed, needed, forms, problems)
        if template:
            templates.append(template)
    scope = headers[0][0]
    return [
        Pile(file, scope, tuple(key for _, key, _, _ in headers), frozenset(section.nouns), tuple(templates))
    ]


def gaps(piles: Sequence[Pile], domains: set[str], problems: Problems) -> None:
    """Tell what cannot be said: each section of phrases that a draw relies on needs two, one for each side."""
    said: dict[tuple[str, str, str], int] = {}
    for pile in piles:
        for key in pile.key:
            place = (pile.kind, pile.scope, key)
            said[place] = said.get(place, 0) + len(pile.templates)
    asked = {key for (kind, _, key) in said if kind in ("requests.txt", "fixed.txt", "followups.txt") and key}
    neutral = f"answers/{NEUTRAL}.txt"
    wanted = [
        (neutral, "action", key, key) for key in [*ACTIONS, "several"] if key in asked or key == "several"
    ]
    wanted += [(neutral, "status", key, f"status {key}") for key in STATUS_ANSWERS]
    wanted += [("failures.txt", kind, "", kind) for kind in ("error", "retry", "complaint")]
    wanted += [("refusals.txt", "missing", "", "missing"), ("followups.txt", "again", "", "again")]
    wanted += [("refusals.txt", "already", key, f"already {key}") for key in REFUSABLE if key in asked]
    wanted += [("status.txt", "status", key, key) for key in QUESTIONS]
    wanted += [("requests.txt", "device", key, key) for key in ACTIONS]
    for file, scope, key, header in wanted:
        found = said.get((file, scope, key), 0)
        problems.unless(found >= 2, f"{file}: [{header}]: needs at least 2 phrases, has {found}")
    for domain in DOMAINS:
        problems.unless(domain in domains, f"nouns.yaml: {domain}: missing")


def _scoped(keys: tuple[str, ...]) -> tuple[str, ...]:
    """Return the keys of a header, the scope word of the first put before them all: `[all fan.turn_on, …]`."""
    scope = keys[0].partition(" ")[0]
    if scope not in (*SCOPES, "then", "already", "status"):
        return keys
    return tuple(key if key.startswith(f"{scope} ") else f"{scope} {key}" for key in keys)


_Header = tuple[str, str, tuple[str, ...], tuple[str, ...]]  # scope, key, slots allowed, slots needed


def _header(file: str, key: str) -> _Header | None:
    scope, _, rest = key.partition(" ")
    if file in ("requests.txt", "fixed.txt"):
        if scope in SCOPES:
            known = rest in (ACTIONS if scope == "one" else COLLECTIVE)
            slots = ("room",) if scope != "house" else ()
            return (
                (scope, rest, (*slots, *ACTIONS[rest].slots), (*slots, *ACTIONS[rest].slots))
                if known
                else None
            )
        if key in ACTIONS:
            return "device", key, ("device", "room", *ACTIONS[key].slots), ACTIONS[key].slots
    elif file == "status.txt" and key in QUESTIONS:
        return "status", key, ("device",), ("device",)
    elif file == "followups.txt":
        if key == "again":
            return "again", "", ("device",), ("device",)
        if scope == "then" and rest in ACTIONS:
            return "then", rest, ("device", *ACTIONS[rest].slots), ACTIONS[rest].slots
    elif file == "refusals.txt":
        if key == "missing":
            return "missing", "", ("device",), ()
        if scope == "already" and rest in REFUSABLE:
            return "already", rest, ("device",), ()
    elif file == "failures.txt" and key in ("error", "retry", "complaint"):
        return key, "", ("entity_id",) if key == "error" else ("device",), ()
    elif file.startswith("answers/"):
        if key == "several":
            return "action", key, ("device", "count"), ()
        if key in ACTIONS:
            return "action", key, ("device", *ACTIONS[key].slots), ()
        if scope == "status" and rest in STATUS_ANSWERS:
            return "status", rest, ("device", *STATUS_SLOTS.get(rest, ())), STATUS_SLOTS.get(rest, ())[:1]
    return None


def _accepted_headers(file: str) -> list[str]:
    candidates = [
        *ACTIONS, *QUESTIONS, "again", "missing", "error", "retry", "complaint", "several", "system",
        *(f"{scope} {key}" for scope in (*SCOPES, "then", "already") for key in ACTIONS),
        *(f"status {key}" for key in STATUS_ANSWERS),
    ]  # fmt: skip
    return [key for key in candidates if _header(file, key)]


def _template(
    phrase: Phrase, allowed: set[str], needed: set[str], forms: Forms, problems: Problems
) -> Template | None:
    where, before = f"{phrase.place}: {phrase.text}", len(problems)
    slots = set()
    for slot, form in PLACEHOLDER.findall(phrase.text):
        slots.add(slot)
        if problems.unless(
            slot in allowed,
            f"{where}: {{{slot}}} cannot be filled here (accepted: {', '.join(sorted(allowed))})",
        ):
            known = forms.of(slot)
            accepted = f"(accepted: {', '.join(sorted(known))}){nearest(form, known)}"
            problems.unless((form or "base") in known, f"{where}: {{{slot}:{form}}}: no such form {accepted}")
    left = PLACEHOLDER.sub("", phrase.text)
    problems.unless("{" not in left and "}" not in left, f"{where}: a brace that is no placeholder")
    problems.unless(
        needed <= slots, f"{where}: {', '.join(f'{{{slot}}}' for slot in sorted(needed - slots))} is missing"
    )
    if len(problems) > before:
        return None
    text = PLACEHOLDER.sub(lambda match: f"{{{match[1]}[{match[2] or 'base'}]}}", phrase.text)
    return Template(text, frozenset(slots), phrase)
