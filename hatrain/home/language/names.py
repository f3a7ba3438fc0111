"""Builds a language's grammar, rooms, nouns and device names from its YAML files."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hatrain.contract.load import Document, Key
from hatrain.errors import nearest
from hatrain.home.devices.sensors import DEVICE_CLASSES
from hatrain.home.language.grammar import PLACEHOLDER, Grammar, Name, Noun, Room, Rules, Style, name_device
from hatrain.home.language.schema import FormRule, GrammarFile, ReferenceRecord


def read_grammar(document: Document, file: GrammarFile, rules: Rules, problems: list[str]) -> Grammar:
    for word, by_class in file.agreement.items():
        problems += _missing_classes(document, ("agreement", word), by_class, file.classes)
    if (unknown_class := file.unknown_class) not in file.classes:
        where, accepted = document.where(("unknown_class",)), " | ".join(file.classes)
        problems.append(f"{where}: found {unknown_class!r}; accepted: {accepted}")
    styles: dict[str, list[Style]] = {"styles": [], "proper": []}
    for name, of_name in styles.items():
        for number, record in enumerate(getattr(file, name)):
            key = (name, number)
            style = Style(record.name, _by_class(document, (*key, "said"), record.said, file.classes, problems))
            of_name.append(style)
            for slot, declared in (("noun", file.noun_forms), ("room", file.room_forms)):
                for form in sorted(forms_used(style, slot) - {"base", *declared}):
                    near = nearest(form, declared)
                    problems.append(f"{document.where(key)}: {{{slot}:{form}}}: not in {slot}_forms{near}")
    unknown = Style("{name}", _by_class(document, ("unknown",), file.unknown, file.classes, problems))
    return Grammar(
        file.classes,
        file.agreement,
        tuple(styles["styles"]),
        tuple(styles["proper"]),
        unknown,
        file.unknown_room,
        file.decimal,
        f" {file.conjunction.strip()} ",
        rules,
    )


def _missing_classes(document: Document, key: Key, by_class: Mapping[str, str], classes: Sequence[str]) -> list[str]:
    return [
        f"{document.where(key)}: class {cls} is missing, accepted: one entry for each of {', '.join(classes)}"
        for cls in classes
        if cls not in by_class
    ]


def _by_class(
    document: Document,
    key: Key,
    records: Sequence[ReferenceRecord],
    classes: Sequence[str],
    problems: list[str],
) -> tuple[Mapping[str, Mapping[str, str]], ...]:
    """Give every form a pattern for each class."""
    expanded = []
    for number, record in enumerate(records):
        forms = {}
        for form, pattern in record.items():
            by_class = dict.fromkeys(classes, pattern) if isinstance(pattern, str) else pattern
            problems += _missing_classes(document, (*key, number, form), by_class, classes)
            forms[form] = by_class
        expanded.append(forms)
    return tuple(expanded)


def read_rooms(document: Document, records: Mapping[str, Any], rules: Mapping[str, FormRule]) -> tuple[Room, ...]:
    return tuple(
        Room(base, _forms(base, record, rules), record.tags, document.lines[base,]) for base, record in records.items()
    )


def read_nouns(
    document: Document,
    records: Mapping[str, Mapping[str, Any]],
    rules: Mapping[str, FormRule],
    rooms: Sequence[Room],
    problems: list[str],
) -> tuple[Noun, ...]:
    places = {"none", "any", *(room.base for room in rooms), *(tag for room in rooms for tag in room.tags)}
    bases = {base for entries in records.values() for base in entries}
    nouns = []
    for domain, entries in records.items():
        for base, record in entries.items():
            for place in record.rooms:
                if place not in places:
                    where = document.where((domain, base, "rooms"))
                    problems.append(
                        f"{where}: found {place!r}; accepted: any, none, a room or a tag of rooms.yaml"
                        + nearest(place, places)
                    )
            if record.alike is not None and record.alike not in bases:
                where = document.where((domain, base, "alike"))
                problems.append(
                    f"{where}: found {record.alike!r}; accepted: a noun of this file{nearest(record.alike, bases)}"
                )
            problems += _class_problems(document, domain, base, record.device_class)
            nouns.append(
                Noun(
                    base=base,
                    domain=domain,
                    cls=getattr(record, "class"),
                    forms=_forms(base, record, rules),
                    rooms=record.rooms,
                    kind=record.kind or base,
                    positioned=record.position,
                    cools=record.only != "heat",
                    device_class=record.device_class or "",
                    proper=record.proper,
                    line=document.lines[domain, base],
                )
            )
    return tuple(nouns)


def _class_problems(document: Document, domain: str, base: str, device_class: str | None) -> list[str]:
    accepted = DEVICE_CLASSES.get(domain, ())
    if device_class is None and domain == "binary_sensor":
        return [f"{document.where((domain, base))}: device_class: missing; accepted: {', '.join(accepted)}"]
    if device_class is not None and device_class not in accepted:
        found = f"found {device_class!r}; accepted: {', '.join(accepted) or 'none in this domain'}"
        return [f"{document.where((domain, base, 'device_class'))}: {found}{nearest(device_class, accepted)}"]
    return []


def _forms(base: str, record: Any, rules: Mapping[str, FormRule]) -> dict[str, str]:
    forms = {"base": base}
    for form, rule in rules.items():
        if (text := getattr(record, form)) is not None:
            forms[form] = text
        elif rule in ("base", "lower"):
            forms[form] = base if rule == "base" else base[0].lower() + base[1:]
    return forms


def make_names(
    grammar: Grammar, nouns: Sequence[Noun], rooms: Sequence[Room], source: str, problems: list[str]
) -> tuple[Name, ...]:
    """Name every noun in every room where it may stand, in every style. `source` is the nouns' file."""
    names: dict[tuple[str, str], Name] = {}
    entity_ids = set()
    usual, proper = (
        [(style, forms_used(style, "noun"), forms_used(style, "room")) for style in kind]
        for kind in (grammar.styles, grammar.proper)
    )
    for noun in nouns:
        styles = proper if noun.proper else usual
        for room in _rooms_of(noun, rooms):
            # Styles differ in how they write the room: without a room there is only the first.
            for style, noun_forms, room_forms in styles if room else styles[:1]:
                if not noun_forms <= set(noun.forms) or (room and not room_forms <= set(room.forms)):
                    continue  # an optional form that the style needs, such as a compound's, is not there
                try:
                    name = _complete_name(grammar, noun, room, style)
                except KeyError as error:
                    problems.append(
                        f"{source}:{noun.line}: {noun.base}: the style {style.name} needs {error}, "
                        "which is neither a form nor a word of agreement"
                    )
                    continue
                # Two ways to the same name are one name. The first wins, so that entity ids are unique.
                if (name.domain, name.friendly) not in names and name.entity_id not in entity_ids:
                    names[name.domain, name.friendly] = name
                    entity_ids.add(name.entity_id)
    return tuple(names.values())


def _rooms_of(noun: Noun, rooms: Sequence[Room]) -> Iterator[Room | None]:
    if "none" in noun.rooms:
        yield None
    for room in rooms:
        if "any" in noun.rooms or room.base in noun.rooms or not set(room.tags).isdisjoint(noun.rooms):
            yield room


def _complete_name(grammar: Grammar, noun: Noun, room: Room | None, style: Style) -> Name:
    """Name a device and build all its forms. Raises KeyError for a form or word that the language lacks."""
    name = name_device(grammar, noun, room, style)
    for reference, patterns in zip(name.references, style.references, strict=False):
        for form in patterns:
            reference[form]
    return name


def forms_used(style: Style, slot: str) -> set[str]:
    """Return the forms that a style uses of `{noun:form}` or `{room:form}`."""
    texts = [
        style.name,
        *(text for reference in style.references for form in reference.values() for text in form.values()),
    ]
    return {form for text in texts for name, form in PLACEHOLDER.findall(text) if name == slot and form}


def alike_nouns(nouns: Sequence[Noun], records: Mapping[str, Mapping[str, Any]]) -> dict[str, frozenset[str]]:
    """Return for each noun those that users could confuse with it: one contains the other, or a record names it."""
    folded = {noun.base: noun.base.casefold() for noun in nouns}
    declared = {
        (base, record.alike) for entries in records.values() for base, record in entries.items() if record.alike
    }
    return {
        noun: frozenset(
            other
            for other, other_text in folded.items()
            if text in other_text or other_text in text or (noun, other) in declared or (other, noun) in declared
        )
        for noun, text in folded.items()
    }
