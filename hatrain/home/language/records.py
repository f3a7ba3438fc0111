"""Turns the YAML records of a language folder into nouns, rooms, grammar and names, telling every mistake in them."""

from collections.abc import Mapping, Sequence
from typing import Any

from hatrain.errors import nearest
from hatrain.home.devices.services import DOMAINS
from hatrain.home.language.grammar import PLACEHOLDER, Grammar, Name, Noun, Room, Rules, Style, name_device
from hatrain.home.language.piles import Text
from hatrain.home.language.values import UNITS, WORDS, as_variants

NOUN_KEYS = ("class", "rooms", "kind", "alike", "position", "only")
HEAD_KEYS: dict[str, type] = {
    "code": str,
    "labels": dict,
    "temperature_units": list,
    "decimal": str,
    "conjunction": str,
    "joins": list,
    "fillers": list,
    "classes": list,
    "unknown_class": str,
    "agreement": dict,
    "noun_forms": dict,
    "room_forms": dict,
    "styles": list,
    "unknown": list,
    "unknown_room": dict,
}
VALUE_KEYS: dict[str, type] = {
    "units": dict,
    "numbers": dict,
    "durations": dict,
    "color": dict,
    "hvac_mode": dict,
    "fan_mode": dict,
    "title": list,
    "item": dict,
}
_SHAPES: dict[type, str] = {str: "some text", list: "a list", dict: "a mapping"}


class Problems(list[str]):
    """Collects what is wrong, so that all of it is told at once."""

    def unless(self, fine: bool, problem: str) -> bool:
        if not fine:
            self.append(problem)
        return fine


def check_keys(file: str, record: Any, wanted: Mapping[str, type], problems: Problems) -> None:
    """Tell which keys of a file are missing, unknown, or hold something of the wrong shape."""
    if not problems.unless(isinstance(record, Mapping), f"{file}: not a mapping"):
        return
    for key, shape in wanted.items():
        if problems.unless(key in record, f"{file}: {key}: missing"):
            fits = isinstance(record[key], shape) and (shape is not list or bool(record[key]))
            problems.unless(fits, f"{file}: {key}: must be {_SHAPES[shape]}")
    for key in record:
        problems.unless(
            key in wanted, f"{file}:{key.line}: {key}: not a key of this file{nearest(key, wanted)}"
        )


def read_grammar(head: Mapping[str, Any], rules: Rules, problems: Problems) -> Grammar:
    """Return the grammar of a grammar.yaml whose keys are all there."""
    classes = tuple(str(cls) for cls in head["classes"])
    for word, by_class in head["agreement"].items():
        for cls in classes:
            problems.unless(
                cls in by_class, f"grammar.yaml:{word.line}: agreement: {word}: class {cls} is missing"
            )
    for key, slots in (("joins", ("{first}", "{second}")), ("fillers", ("{request}",))):
        for pattern in head[key]:
            problems.unless(
                all(pattern.count(slot) == 1 for slot in slots),
                f"grammar.yaml:{pattern.line}: {key}: {pattern}: needs {' and '.join(slots)}, once each",
            )
    styles = tuple(_style(style, classes, problems) for style in head["styles"])
    for style in styles:
        for record, declared in (("noun", head["noun_forms"]), ("room", head["room_forms"])):
            for form in sorted(forms_asked(style, record) - {"base", *declared}):
                problems.append(
                    f"grammar.yaml: styles: {style.name}: {{{record}:{form}}}: not in {record}_forms"
                )
    unknown = _style({"name": "{name}", "said": head["unknown"]}, classes, problems)
    return Grammar(
        classes,
        head["agreement"],
        styles,
        unknown,
        head["unknown_room"],
        str(head["decimal"]),
        f" {str(head['conjunction']).strip()} ",
        rules,
    )


def check_values(record: Mapping[str, Any], problems: Problems) -> None:
    file = "values.yaml"
    check_keys(file, record, VALUE_KEYS, problems)
    if problems:
        return
    kinds = ("percent", "humidity", "celsius", "fahrenheit", "count")
    for kind in kinds:
        problems.unless(kind in record["numbers"], f"{file}: numbers: {kind}: missing")
    for kind in record["numbers"]:
        known = kind in kinds
        problems.unless(known, f"{file}:{kind.line}: numbers: {kind}: not one of them{nearest(kind, kinds)}")
    for unit in UNITS:
        problems.unless(unit in record["units"], f"{file}: units: {unit}: missing")
    for slot, words in WORDS.items():
        for word in words:
            problems.unless(
                word == "off" or word in record[slot], f"{file}: {slot}: {word}: missing, how is it said?"
            )
    if problems.unless(
        isinstance(record["item"], Mapping), f"{file}: item: not a mapping of kinds of list to their items"
    ):
        for kind, items in record["item"].items():
            fine = isinstance(items, list) and len(items) >= 5
            problems.unless(fine, f"{file}:{kind.line}: item: {kind}: needs at least 5 items")
    for kind, patterns in record["numbers"].items():
        for wordings in as_variants(patterns).values():
            for pattern in wordings:
                problems.unless(
                    "{n}" in pattern, f"{file}:{pattern.line}: numbers: {kind}: {pattern}: has no {{n}}"
                )
                _unit_words(pattern, record, problems)
    for form, parts in record["durations"]["parts"].items():
        for unit in ("hour", "minute", "second"):
            if problems.unless(unit in parts, f"{file}:{form.line}: durations: {form}: {unit}: missing"):
                _unit_words(parts[unit], record, problems)


def _unit_words(pattern: Text, record: Mapping[str, Any], problems: Problems) -> None:
    units = record["units"]
    for word, _ in PLACEHOLDER.findall(pattern):
        problems.unless(
            word == "n" or word in units,
            f"values.yaml:{pattern.line}: {pattern}: {{{word}}}: not one of the units{nearest(word, units)}",
        )


def _style(record: Mapping[str, Any], classes: Sequence[str], problems: Problems) -> Style:
    said = []
    for forms in record["said"]:
        by_form: dict[str, Mapping[str, str]] = {}
        for form, pattern in forms.items():
            by_class = pattern if isinstance(pattern, Mapping) else dict.fromkeys(classes, pattern)
            missing = [cls for cls in classes if cls not in by_class]
            problems += [f"grammar.yaml:{form.line}: said: {form}: class {cls} is missing" for cls in missing]
            by_form[str(form)] = by_class
        said.append(by_form)
    return Style(str(record["name"]), tuple(said))


def _forms(
    file: str, base: Text, record: Mapping[str, Any], rules: Mapping[str, str], problems: Problems
) -> dict[str, str]:
    forms = {"base": str(base)}
    for form, rule in rules.items():
        if form in record:
            forms[str(form)] = str(record[form])
        elif rule == "required":
            problems.append(f"{file}:{base.line}: {base}: form {form} is missing")
        elif rule in ("base", "lower"):
            forms[str(form)] = base if rule == "base" else base[0].lower() + base[1:]
    return forms


def read_rooms(records: Mapping[Text, Any], rules: Mapping[str, str], problems: Problems) -> tuple[Room, ...]:
    rooms = []
    for base, record in records.items():
        tags = record.get("tags", [])
        tags = [tags] if isinstance(tags, str) else tags
        for key in record:
            problems.unless(
                key == "tags" or key in rules,
                f"rooms.yaml:{key.line}: {base}: {key}: not a form{nearest(key, ['tags', *rules])}",
            )
        forms = _forms("rooms.yaml", base, record, rules, problems)
        rooms.append(Room(str(base), forms, tuple(map(str, tags)), base.line))
    return tuple(rooms)


def read_nouns(
    records: Mapping[Text, Any],
    rules: Mapping[str, str],
    classes: Sequence[str],
    rooms: Sequence[Room],
    problems: Problems,
) -> tuple[Noun, ...]:
    places = {"none", "any", *(room.base for room in rooms), *(tag for room in rooms for tag in room.tags)}
    nouns = []
    for domain, entries in records.items():
        if not problems.unless(
            domain in DOMAINS, f"nouns.yaml:{domain.line}: {domain}: no such domain{nearest(domain, DOMAINS)}"
        ):
            continue
        for base, record in entries.items():
            where = f"nouns.yaml:{base.line}: {base}"
            for key in record:
                known = key in NOUN_KEYS or key in rules
                problems.unless(known, f"{where}: {key}: not a key{nearest(key, [*NOUN_KEYS, *rules])}")
            cls = record.get("class", classes[0] if len(classes) == 1 else None)
            problems.unless(cls in classes, f"{where}: class: found {cls}, accepted: {', '.join(classes)}")
            allowed = record.get("rooms", ["any"])
            allowed = [allowed] if isinstance(allowed, str) else allowed
            for place in allowed:
                problems.unless(
                    place in places, f"{where}: rooms: {place}: no such room or tag{nearest(place, places)}"
                )
            nouns.append(
                Noun(
                    base=str(base),
                    domain=str(domain),
                    cls=str(cls),
                    forms=_forms("nouns.yaml", base, record, rules, problems),
                    rooms=tuple(map(str, allowed)),
                    kind=str(record.get("kind", base)),
                    positioned=record.get("position", "yes") == "yes",
                    cools=record.get("only") != "heat",
                    line=base.line,
                )
            )
    return tuple(nouns)


def _places(noun: Noun, rooms: Sequence[Room]) -> list[Room | None]:
    found: list[Room | None] = [None] if "none" in noun.rooms else []
    for room in rooms:
        if "any" in noun.rooms or room.base in noun.rooms or not set(room.tags).isdisjoint(noun.rooms):
            found.append(room)
    return found


def make_names(
    grammar: Grammar, nouns: Sequence[Noun], rooms: Sequence[Room], problems: Problems
) -> tuple[Name, ...]:
    names: dict[tuple[str, str], Name] = {}
    entity_ids = set()
    wanted = [(style, forms_asked(style, "noun"), forms_asked(style, "room")) for style in grammar.styles]
    for noun in nouns:
        for room in _places(noun, rooms):
            # A thing that stands for itself is named in the first style alone: the others differ in the room's part.
            for style, noun_forms, room_forms in wanted if room else wanted[:1]:
                if not noun_forms <= set(noun.forms) or (room and not room_forms <= set(room.forms)):
                    continue  # a record may lack what one style needs, such as a compound: that style skips it
                name = _name(grammar, noun, room, style, problems)
                # Two ways to the same name are one name; the first wins, and its id is unique.
                if name and (name.domain, name.friendly) not in names and name.entity_id not in entity_ids:
                    names[name.domain, name.friendly] = name
                    entity_ids.add(name.entity_id)
    return tuple(names.values())


def _name(grammar: Grammar, noun: Noun, room: Room | None, style: Style, problems: Problems) -> Name | None:
    try:
        name = name_device(grammar, noun, room, style)
        for said, forms in zip(name.said, style.said, strict=False):
            for form in forms:
                said[form]
    except KeyError as error:
        problems.append(
            f"nouns.yaml:{noun.line}: {noun.base}: the style {style.name} asks for {error}, which is missing"
        )
        return None
    return name


def forms_asked(style: Style, record: str) -> set[str]:
    """Return the forms of a noun or a room that a style asks for."""
    texts = [style.name, *(text for said in style.said for form in said.values() for text in form.values())]
    return {form for text in texts for slot, form in PLACEHOLDER.findall(text) if slot == record and form}


def alike_nouns(nouns: Sequence[Noun], records: Mapping[Text, Any]) -> dict[str, frozenset[str]]:
    """Return for each noun those that cannot be told from it: one holds the other's words, or a record says so."""
    said = {noun.base: noun.base.casefold() for noun in nouns}
    same = {
        (str(base), str(record["alike"]))
        for entries in records.values()
        for base, record in entries.items()
        if "alike" in record
    }
    return {
        one: frozenset(
            other
            for other, theirs in said.items()
            if mine in theirs or theirs in mine or (one, other) in same or (other, one) in same
        )
        for one, mine in said.items()
    }
