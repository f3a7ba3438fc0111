"""Builds from a language's YAML files what is no device: floors, "here", groups of things, a satellite's timers."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from hatrain.contract.load import Document
from hatrain.errors import nearest
from hatrain.home.devices.sensors import DEVICE_CLASSES
from hatrain.home.devices.services import DOMAINS
from hatrain.home.language.grammar import PLACEHOLDER, Forms, Grammar, Reference, Room, Rules, fill_pattern
from hatrain.home.language.schema import FormRule, FormsRecord, GrammarFile, GroupRecord, PlacesFile, TimersRecord


@dataclass(frozen=True)
class Places:
    """Places that are said where a room could be. `floors` are by level; all have forms of rooms."""

    floors: Mapping[str, tuple[Room, ...]]
    by_name: Mapping[str, Room]  # by the name that the floor has in Home Assistant
    levels: Mapping[str, str]  # room → level, or `none`; the others may be on 0 or 1
    here: tuple[Forms, ...]
    everywhere: tuple[Forms, ...]


@dataclass(frozen=True)
class Group:
    """What several things of a kind are called. `there`: what a sensor of the kind says to be somewhere."""

    cls: str
    forms: Forms
    states: Mapping[str, Forms]
    there: Forms | None
    grammar: Grammar

    @property
    def reference(self) -> Reference:
        """Refer to the group; words of agreement agree with it."""
        return Reference(self.cls, lambda form: _filled(self.forms.get(form), self.grammar, self.cls, form))

    def state(self, state: str, cls: str | None = None) -> dict[str, str]:
        """Return what a state is called of things of a class; of the group's own without one."""
        return {form: _filled(text, self.grammar, cls or self.cls, form) for form, text in self.states[state].items()}


def _filled(pattern: str | None, grammar: Grammar, cls: str, form: str) -> str:
    return grammar.agreement[form][cls] if pattern is None else fill_pattern(pattern, grammar.agreement, cls, {})


def read_places(
    document: Document, file: PlacesFile, grammar: GrammarFile, rules: Rules, rooms: Sequence[Room], problems: list[str]
) -> Places:
    """Build the places. A floor needs the forms that a room needs; the others may lack some."""
    floors: dict[str, list[Room]] = {}
    for base, record in file.floors.items():
        key = ("floors", base, "forms")
        problems += _form_problems(document, key, record.forms, grammar.room_forms)
        forms = {"base": base, **{form: text for form, text in record.forms.items() if form != "base"}}
        for form, rule in grammar.room_forms.items():
            if rule == "required" and form not in forms:
                problems.append(f"{document.where(key)}: {form}: missing; room_forms of grammar.yaml requires it")
        floors.setdefault(record.level, []).append(Room(base, forms, (), document.lines["floors", base]))
    if len(floors) < 2:
        problems.append(
            f"{document.where(('floors',))}: found {len(floors)} level; accepted: floors of two levels or more"
        )
    for name in ("here", "everywhere"):
        for number, forms in enumerate(getattr(file, name)):
            problems += _form_problems(document, (name, number), forms, grammar.room_forms)
    known = {name for room in rooms for name in (room.base, *room.tags)}
    levels: dict[str, str] = {}
    for level, names in file.rooms.items():
        for name in names:
            if name not in known:
                where = document.where(("rooms", level))
                problems.append(
                    f"{where}: found {name!r}; accepted: a room or a tag of rooms.yaml{nearest(name, known)}"
                )
        levels |= {room.base: level for room in rooms if room.base in names or not set(room.tags).isdisjoint(names)}
    return Places(
        {level: tuple(of_level) for level, of_level in floors.items()},
        {rules.friendly(floor.base): floor for of_level in floors.values() for floor in of_level},
        levels,
        tuple(file.here),
        tuple(file.everywhere),
    )


def _form_problems(
    document: Document, key: tuple[str | int, ...], forms: FormsRecord, rules: Mapping[str, FormRule]
) -> Iterator[str]:
    for form in forms:
        if form != "base" and form not in rules:
            yield f"{document.where(key)}: {form}: not in room_forms of grammar.yaml{nearest(form, rules)}"


def read_groups(
    document: Document, records: Mapping[str, GroupRecord], grammar: Grammar, problems: list[str]
) -> dict[str, Group]:
    groups = {}
    for key, record in records.items():
        domain, _, device_class = key.partition(".")
        if domain not in DOMAINS or (device_class and device_class not in DEVICE_CLASSES.get(domain, ())):
            accepted = "a domain, or a domain and device class such as cover.blind"
            problems.append(f"{document.where((key,))}: found {key!r}; accepted: {accepted}{nearest(domain, DOMAINS)}")
            continue
        if record.cls not in grammar.classes:
            accepted = " | ".join(grammar.classes)
            problems.append(f"{document.where((key, 'class'))}: found {record.cls!r}; accepted: {accepted}")
            continue
        texts = [*record.forms.values(), *(text for forms in record.states.values() for text in forms.values())]
        unknown = {slot for text in texts for slot, _ in PLACEHOLDER.findall(text)} - set(grammar.agreement)
        if unknown:
            word = sorted(unknown)[0]
            near = nearest(word, grammar.agreement)
            problems.append(f"{document.where((key,))}: found {{{word}}}; accepted: a word of agreement{near}")
            continue
        groups[key] = Group(record.cls, record.forms, record.states, record.there, grammar)
    sensors = (f"binary_sensor.{each}" for each in DEVICE_CLASSES["binary_sensor"])
    needed = ["light", "cover", "lock", "person", *sensors]
    problems += [f"{document.source}: {key}: missing" for key in needed if key not in records]
    return groups


def fill_text(patterns: Forms, parts: Mapping[str, Forms]) -> Forms:
    """Fill placeholders such as `{label}` or `{duration:adj}` in each form."""
    return {form: fill_pattern(text, {}, "", parts) for form, text in patterns.items()}


TIMER_SLOTS = {"any": (), "named": ("label",), "room": ("room",), "lasting": ("duration",)}
"""What tells a timer apart → the placeholders of its patterns."""


def read_timers(document: Document, file: TimersRecord, problems: list[str]) -> dict[str, tuple[Forms, ...]]:
    timers = {}
    for kind, slots in TIMER_SLOTS.items():
        references = tuple(getattr(file, kind))
        for number, forms in enumerate(references):
            for form, text in forms.items():
                found = {slot for slot, _ in PLACEHOLDER.findall(text)}
                if found != set(slots):
                    accepted = ", ".join(f"{{{slot}}}" for slot in slots) or "no placeholder"
                    where = document.where(("timers", kind, number))
                    problems.append(f"{where}: {form}: {text}: accepted: {accepted}, and nothing else")
        timers[kind] = references
    return timers
