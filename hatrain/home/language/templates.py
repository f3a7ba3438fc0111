"""Turns the sections of a language's phrase files into templates, and checks their headers and placeholders."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hatrain.errors import nearest
from hatrain.home.devices.actions import (
    ACTIONS,
    COLLECTIVE,
    IN_A_PLACE,
    QUESTION_SLOTS,
    QUESTIONS,
    REFUSABLE,
    STATUS_ANSWERS,
    STATUS_SLOTS,
)
from hatrain.home.devices.services import DOMAINS
from hatrain.home.devices.states import Unit
from hatrain.home.language.grammar import PLACEHOLDER
from hatrain.home.language.phrases import Phrase, Section
from hatrain.home.language.schema import ValuesFile
from hatrain.home.language.topics import GROUP_ANSWERS, GROUP_QUESTIONS, TOPICS
from hatrain.home.language.values import forms_of

NEUTRAL = "neutral"
_GROUP_SCOPES = ("one", "all", "house", "here", "except")
_WITHOUT_PLACE = ("house", "here", "except")
_TOPIC_SCOPES = ("ask", "say")
_FAILURES = ("error", "correction", "retry", "complaint")


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
class TemplateSection:
    """The templates of one section. `file` is relative to the language folder; `scope` and `keys` are the header's."""

    file: str
    scope: str
    keys: tuple[str, ...]
    nouns: frozenset[str]
    templates: tuple[Template, ...]

    @property
    def persona(self) -> str:
        """The persona of an answer file; empty for other files."""
        folder, _, name = self.file.rpartition("/")
        return name.removesuffix(".txt") if folder == "answers" else ""


@dataclass(frozen=True)
class Placeholders:
    """The forms that a language's templates may use."""

    device: set[str]
    room: set[str]
    timer: set[str]
    group: set[str]
    state: set[str]
    there: set[str]
    values: ValuesFile
    units: tuple[Unit, ...]

    def forms(self, slot: str) -> set[str]:
        if slot == "device":
            return self.device | {"base"}
        if slot in ("room", "timer", "group", "state", "there"):
            return getattr(self, slot)
        if slot in _TEXTS:
            return {"base"}
        return forms_of(self.values, slot, self.units)


_TEXTS = ("entity_id", "request", "time", "date", "message", "label", "place", "number", "value", "event")
"""Placeholders for text that has one form."""


@dataclass(frozen=True)
class _Header:
    """What a key of a header means: which placeholders its phrases may use, and which they must use: all of `needed`,
    and one of `one_of`."""

    scope: str
    key: str
    allowed: tuple[str, ...]
    needed: tuple[str, ...] = ()
    one_of: tuple[str, ...] = ()


def read_templates(
    file: str, section: Section, placeholders: Placeholders, kinds: set[str], groups: set[str], problems: list[str]
) -> TemplateSection | None:
    """Check a section of a file; None if its header cannot be used.

    `kinds` are all nouns and kinds of noun, `groups` the keys of groups.yaml.
    """
    kinds = groups if section.keys[0] in GROUP_QUESTIONS or section.keys[0] in GROUP_ANSWERS else kinds
    for noun in section.nouns:
        if noun not in kinds:
            near = nearest(noun, kinds)
            accepted = "a group of groups.yaml" if kinds is groups else "a noun or kind of nouns.yaml"
            problems.append(f"{section.where}: found {noun!r}; accepted: {accepted}{near}")
    headers = []
    for key in _with_scope(section.keys):
        if header := _header(file, key):
            headers.append(header)
        else:
            near = nearest(key, _accepted_headers(file))
            problems.append(f"{section.where}: [{key}]: not a header of this file{near}")
    scopes = {header.scope for header in headers}
    if len(scopes) > 1:
        problems.append(f"{section.where}: found {' and '.join(sorted(scopes))} in one header; split it")
    if len(scopes) != 1 or len(headers) < len(section.keys):
        return None
    (scope,) = scopes
    allowed = set.intersection(*(set(header.allowed) for header in headers))
    needed = set.union(*(set(header.needed) for header in headers))
    if scope == "group" and section.nouns:
        needed -= {"group"}  # "is anybody at home?" has a word of its own for people
    one_of = set(headers[0].one_of)
    templates = [_template(phrase, allowed, needed, one_of, placeholders, problems) for phrase in section.phrases]
    return TemplateSection(
        file,
        scope,
        tuple(header.key for header in headers),
        frozenset(section.nouns),
        tuple(template for template in templates if template),
    )


def find_gaps(sections: Sequence[TemplateSection], domains: set[str]) -> Iterable[str]:
    """Yield a problem for each section that the generator needs and that has under two phrases, one for each side."""
    phrases: Counter[tuple[str, str, str]] = Counter()
    for section in sections:
        for key in section.keys:
            phrases[section.file, section.scope, key] += len(section.templates)
    requested = {key for file, _, key in phrases if file in ("requests.txt", "fixed.txt", "followups.txt") and key}
    neutral = f"answers/{NEUTRAL}.txt"
    # (file, scope, key, header)
    needed = [(neutral, "action", key, key) for key in ACTIONS if key in requested]
    needed += [(neutral, "action", "several", "several")]
    needed += [(neutral, "status", key, f"status {key}") for key in STATUS_ANSWERS]
    needed += [("failures.txt", key, "", key) for key in _FAILURES]
    needed += [("refusals.txt", "missing", "", "missing"), ("followups.txt", "again", "", "again")]
    needed += [("refusals.txt", "already", key, f"already {key}") for key in REFUSABLE if key in requested]
    needed += [("status.txt", "status", key, key) for key in QUESTIONS]
    needed += [("requests.txt", "device", key, key) for key in ACTIONS]
    needed += [("status.txt", "group", key, key) for key in GROUP_QUESTIONS]
    needed += [(neutral, "group", key, key) for key in GROUP_ANSWERS]
    needed += [
        (name, scope, key, f"{scope} {key}")
        for name, topics in TOPICS.items()
        for key in topics
        for scope in _TOPIC_SCOPES
    ]
    for file, scope, key, header in needed:
        if (count := phrases[file, scope, key]) < 2:
            yield f"{file}: [{header}]: needs at least 2 phrases, has {count}"
    for domain in DOMAINS:
        if domain not in domains:
            yield f"nouns.yaml: {domain}: missing"


def _with_scope(keys: tuple[str, ...]) -> tuple[str, ...]:
    """Repeat the scope of a header's first key before the others: `[all fan.turn_on, light.turn_on]`."""
    scope, _, rest = keys[0].partition(" ")
    if not rest:
        return keys
    if scope not in (*_GROUP_SCOPES, *_TOPIC_SCOPES, "then", "already", "status") or keys[0] in GROUP_ANSWERS:
        return keys
    return tuple(key if key.startswith(f"{scope} ") else f"{scope} {key}" for key in keys)


def _header(file: str, key: str) -> _Header | None:
    scope, _, rest = key.partition(" ")
    slots = ACTIONS[rest].slots if rest in ACTIONS else ()
    if file in ("requests.txt", "fixed.txt"):
        if scope in _GROUP_SCOPES:
            if rest not in (ACTIONS if scope in ("one", "here") else COLLECTIVE):
                return None
            if scope == "except":
                return _Header(scope, rest, ("device", "room", *slots), slots, ("device", "room"))
            needed = slots if scope in _WITHOUT_PLACE else ("room", *slots)
            return _Header(scope, rest, needed, needed)
        if key in ACTIONS:
            return _Header("device", key, ("device", "room", *ACTIONS[key].slots), ACTIONS[key].slots)
    elif file == "status.txt" and key in GROUP_QUESTIONS:
        things = "there" if key == "there" else "group"
        return _Header("group", key, (things, "state", "place"), (things,) if key == "there" else (things, "state"))
    elif file == "status.txt" and key in QUESTIONS:
        asked = QUESTION_SLOTS.get(key, ())
        if key in IN_A_PLACE:
            return _Header("status", key, ("device", "room"))
        return _Header("status", key, ("device", *asked), ("device", *asked))
    elif file in TOPICS and scope in _TOPIC_SCOPES and rest in TOPICS[file]:
        topic = TOPICS[file][rest]
        if scope == "ask":
            return _Header(scope, rest, topic.asked, topic.asked)
        return _Header(scope, rest, topic.said)
    elif file == "followups.txt":
        if key == "again":
            return _Header("again", "", ("device",), ("device",))
        if scope == "then" and rest in ACTIONS:
            return _Header("then", rest, ("device", *slots), slots)
    elif file == "refusals.txt":
        if key == "missing":
            return _Header("missing", "", ("device",))
        if scope == "already" and rest in REFUSABLE:
            return _Header("already", rest, ("device",))
    elif file == "failures.txt" and key in _FAILURES:
        return _Header(key, "", ("entity_id",) if key == "error" else ("device",))
    elif file.startswith("answers/"):
        if key in GROUP_ANSWERS:
            return _Header("group", key, ("device", "group", "state", "place", "number"))
        if key == "several":
            return _Header("action", key, ("device", "count"))
        if key in ACTIONS:
            return _Header("action", key, ("device", *ACTIONS[key].slots))
        if scope == "status" and rest in STATUS_ANSWERS:
            slots = STATUS_SLOTS.get(rest, ())
            return _Header("status", rest, ("device", *slots), slots[:1])
    return None


def _accepted_headers(file: str) -> list[str]:
    candidates = [
        *ACTIONS, *QUESTIONS, *GROUP_QUESTIONS, *GROUP_ANSWERS, "again", "missing", *_FAILURES, "several", "system",
        *(f"{scope} {key}" for scope in _TOPIC_SCOPES for topics in TOPICS.values() for key in topics),
        *(f"{scope} {key}" for scope in (*_GROUP_SCOPES, "then", "already") for key in ACTIONS),
        *(f"status {key}" for key in STATUS_ANSWERS),
    ]  # fmt: skip
    return [key for key in candidates if _header(file, key)]


def _template(
    phrase: Phrase,
    allowed: set[str],
    needed: set[str],
    one_of: set[str],
    placeholders: Placeholders,
    problems: list[str],
) -> Template | None:
    faults = []
    slots = set()
    for slot, form in PLACEHOLDER.findall(phrase.text):
        slots.add(slot)
        if slot not in allowed:
            accepted = ", ".join(f"{{{name}}}" for name in sorted(allowed)) or "none"
            faults.append(f"found {{{slot}}}; accepted: {accepted}{nearest(slot, allowed)}")
        elif (form or "base") not in (forms := placeholders.forms(slot)):
            accepted = f"the forms {', '.join(sorted(forms))}{nearest(form, forms)}"
            faults.append(f"found {{{slot}:{form}}}; accepted: {accepted}")
    rest = PLACEHOLDER.sub("", phrase.text)
    if "{" in rest or "}" in rest:
        faults.append("found a brace that is not part of a placeholder")
    if missing := sorted(needed - slots):
        faults.append(f"{', '.join(f'{{{slot}}}' for slot in missing)} is missing")
    if one_of and one_of.isdisjoint(slots):
        faults.append(f"{' or '.join(f'{{{slot}}}' for slot in sorted(one_of))} is missing")
    if faults:
        problems += [f"{phrase.where}: {phrase.text}: {fault}" for fault in faults]
        return None
    text = PLACEHOLDER.sub(lambda match: f"{{{match[1]}[{match[2] or 'base'}]}}", phrase.text)
    return Template(text, frozenset(slots), phrase)
