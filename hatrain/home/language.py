"""Loads a language folder: records and piles in, names and templates out, every mistake named with file and line.

A language is a folder and nothing else; docs/languages.md describes its files.
"""

import importlib.util
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

from hatrain.errors import BadInput, nearest
from hatrain.home.actions import ACTIONS, COLLECTIVE, REFUSABLE, STATUS_ANSWERS, STATUS_SLOTS
from hatrain.home.actions import QUESTIONS as STATUS_QUESTIONS
from hatrain.home.devices import DOMAINS
from hatrain.home.grammar import (
    PLACEHOLDER,
    Grammar,
    Name,
    Noun,
    Room,
    Rules,
    Style,
    name_device,
)
from hatrain.home.piles import Phrase, Section, Text, read_records, read_sections
from hatrain.home.states import Unit
from hatrain.home.values import UNITS, WORDS, Values, as_variants, forms_of

LANGUAGES = Path(__file__).parent / "languages"
RECORD_FILES = ("grammar.yaml", "nouns.yaml", "rooms.yaml", "values.yaml")
PILES = ("requests.txt", "fixed.txt", "status.txt", "followups.txt", "refusals.txt", "failures.txt")
NEUTRAL = "neutral"
SCOPES = ("one", "all", "house")
NOUN_KEYS = ("class", "rooms", "kind", "alike", "position")


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


@dataclass(frozen=True, eq=False)
class Language:
    """Everything one language has to say. `alike` tells for each noun which others cannot stand beside it."""

    code: str
    name: str
    labels: Mapping[str, str]
    units: tuple[Unit, ...]
    grammar: Grammar
    unknown_class: str
    nouns: tuple[Noun, ...]
    rooms: tuple[Room, ...]
    names: tuple[Name, ...]
    values: Values
    piles: tuple[Pile, ...]
    prompts: Mapping[str, tuple[str, ...]]
    joins: tuple[str, ...]
    fillers: tuple[str, ...]
    alike: Mapping[str, frozenset[str]]


class Problems(list[str]):
    """Collects what is wrong, so that all of it is told at once."""

    def unless(self, fine: bool, problem: str) -> bool:
        if not fine:
            self.append(problem)
        return fine


def language_folders() -> dict[str, Path]:
    """Return the folders of the languages that come with hatrain, by name."""
    return {path.name: path for path in sorted(LANGUAGES.iterdir()) if (path / "grammar.yaml").is_file()}


def find_language(name: str) -> Path:
    """Return the folder of a language by its name or code (`english`, `en`). Raises BadInput for an unknown one."""
    folders = language_folders()
    if name.lower() in folders:
        return folders[name.lower()]
    codes = {str(read_records(path / "grammar.yaml")["code"]): path for path in folders.values()}
    if name.lower() in codes:
        return codes[name.lower()]
    accepted = ", ".join(f"{folder.name} ({code})" for code, folder in sorted(codes.items()))
    raise BadInput(f"--language: found {name}, accepted: {accepted}{nearest(name, [*folders, *codes])}")


@cache
def load_language(folder: Path) -> Language:
    """Load a language folder. Raises BadInput with every problem that stands in the way of using it."""
    language, problems = inspect_language(folder)
    if language is None or problems:
        raise BadInput(problems)
    return language


def inspect_language(folder: Path) -> tuple[Language | None, list[str]]:
    """Load what can be loaded of a folder, with all the problems found. Without its records there is no language."""
    problems = Problems()
    files = [*RECORD_FILES, "grammar.py", *PILES, f"answers/{NEUTRAL}.txt"]
    problems += [f"{file}: missing" for file in files if not (folder / file).is_file()]
    if problems:
        return None, problems
    records: dict[str, Any] = {}
    sections: dict[str, tuple[Section, ...]] = {}
    answer_files = [f"answers/{path.name}" for path in sorted((folder / "answers").glob("*.txt"))]
    for file in RECORD_FILES:
        try:
            records[file] = read_records(folder / file, file=file)
        except BadInput as error:
            problems += error.problems
    for file in [*PILES, *answer_files]:
        try:
            sections[file] = read_sections(folder / file, file=file)
        except BadInput as error:
            problems += error.problems
    if problems:
        return None, problems
    try:
        rules = _load_rules(folder / "grammar.py")
        return _assemble(folder, records, sections, rules, problems), problems
    except BadInput as error:
        return None, [*problems, *error.problems]


def _load_rules(path: Path) -> Rules:
    spec = importlib.util.spec_from_file_location(f"hatrain_language_{path.parent.name}", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise BadInput(f"grammar.py: cannot be imported: {error!r}") from None
    wanted = ("plural", "date_line", "friendly", "finish", "list_class")
    missing = [name for name in wanted if not callable(getattr(module, name, None))]
    if missing:
        raise BadInput(f"grammar.py: {name}: no such function" for name in missing)
    return cast(Rules, module)


def _assemble(
    folder: Path,
    records: Mapping[str, Any],
    sections: Mapping[str, Sequence[Section]],
    rules: Rules,
    problems: Problems,
) -> Language:
    head = records["grammar.yaml"]
    wanted = ("code", "labels", "temperature_units", "classes", "unknown_class", "agreement", "noun_forms")
    wanted += (
        "room_forms",
        "styles",
        "unknown",
        "unknown_room",
        "decimal",
        "conjunction",
        "joins",
        "fillers",
    )
    _keys("grammar.yaml", head, wanted, problems)
    _values_shape(records["values.yaml"], problems)
    if problems:
        raise BadInput(problems)
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
            for form in sorted(_forms_asked(style, record) - {"base", *declared}):
                problems.append(
                    f"grammar.yaml: styles: {style.name}: {{{record}:{form}}}: not in {record}_forms"
                )
    unknown = _style({"name": "{name}", "said": head["unknown"]}, classes, problems)
    grammar = Grammar(
        classes,
        head["agreement"],
        styles,
        unknown,
        head["unknown_room"],
        str(head["decimal"]),
        f" {str(head['conjunction']).strip()} ",
        rules,
    )
    rooms = _rooms(records["rooms.yaml"], head["room_forms"], problems)
    nouns = _nouns(records["nouns.yaml"], head["noun_forms"], classes, rooms, problems)
    if problems:
        raise BadInput(problems)
    units = tuple(cast(Unit, str(unit)) for unit in head["temperature_units"])
    names = _names(grammar, nouns, rooms, problems)
    said_forms = set.intersection(*(set(forms) for style in (*styles, unknown) for forms in style.said))
    room_forms = {"base", *(form for form, rule in head["room_forms"].items() if rule == "required")}
    forms = _Forms(said_forms | set(head["agreement"]), room_forms, records["values.yaml"], units)
    kinds = {noun.base for noun in nouns} | {noun.kind for noun in nouns}
    piles = [
        pile
        for file, found in sections.items()
        for section in found
        if section.keys != ("system",)
        for pile in _pile(file, section, forms, kinds, problems)
    ]
    _gaps(piles, {noun.domain for noun in nouns}, problems)
    prompts = {
        file.removeprefix("answers/").removesuffix(".txt"): tuple(
            phrase.text for section in found if section.keys == ("system",) for phrase in section.phrases
        )
        for file, found in sections.items()
        if file.startswith("answers/")
    }
    problems.unless(any(prompts.values()), "answers: no file has a [system] section: there is no persona")
    return Language(
        code=str(head["code"]),
        name=folder.name,
        labels={key: str(text) for key, text in head["labels"].items()},
        units=units,
        grammar=grammar,
        unknown_class=str(head["unknown_class"]),
        nouns=nouns,
        rooms=rooms,
        names=names,
        values=Values(records["values.yaml"], grammar),
        piles=tuple(piles),
        prompts={persona: texts for persona, texts in prompts.items() if texts},
        joins=tuple(str(join) for join in head["joins"]),
        fillers=tuple(str(filler) for filler in head["fillers"]),
        alike=_alike(nouns, records["nouns.yaml"]),
    )


def _keys(file: str, record: Mapping[str, Any], wanted: Iterable[str], problems: Problems) -> None:
    for key in wanted:
        problems.unless(key in record, f"{file}: {key}: missing")
    for key in record:
        problems.unless(
            key in wanted, f"{file}:{key.line}: {key}: not a key of this file{nearest(key, wanted)}"
        )


def _values_shape(record: Mapping[str, Any], problems: Problems) -> None:
    file = "values.yaml"
    _keys(
        file,
        record,
        ("units", "numbers", "durations", "color", "hvac_mode", "fan_mode", "title", "item"),
        problems,
    )
    if problems:
        return
    _keys(
        f"{file}: numbers",
        record["numbers"],
        ("percent", "humidity", "celsius", "fahrenheit", "count"),
        problems,
    )
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
    for word, _ in PLACEHOLDER.findall(pattern):
        problems.unless(
            word == "n" or word in record["units"],
            f"values.yaml:{pattern.line}: {pattern}: {{{word}}} is not one of the units{nearest(word, record['units'])}",
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


def _rooms(records: Mapping[Text, Any], rules: Mapping[str, str], problems: Problems) -> tuple[Room, ...]:
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


def _nouns(
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


def _names(
    grammar: Grammar, nouns: Sequence[Noun], rooms: Sequence[Room], problems: Problems
) -> tuple[Name, ...]:
    names: dict[tuple[str, str], Name] = {}
    entity_ids = set()
    wanted = [(style, _forms_asked(style, "noun"), _forms_asked(style, "room")) for style in grammar.styles]
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


def _forms_asked(style: Style, record: str) -> set[str]:
    """Return the forms of a noun or a room that a style asks for."""
    texts = [style.name, *(text for said in style.said for form in said.values() for text in form.values())]
    return {form for text in texts for slot, form in PLACEHOLDER.findall(text) if slot == record and form}


def _alike(nouns: Sequence[Noun], records: Mapping[Text, Any]) -> dict[str, frozenset[str]]:
    """Return for each noun the ones that cannot be told from it: one's words hold the other's, or the record says so."""
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


@dataclass(frozen=True)
class _Forms:
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


def _pile(file: str, section: Section, forms: _Forms, kinds: set[str], problems: Problems) -> list[Pile]:
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


def _gaps(piles: Sequence[Pile], domains: set[str], problems: Problems) -> None:
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
    wanted += [("status.txt", "status", key, key) for key in STATUS_QUESTIONS]
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
    elif file == "status.txt" and key in STATUS_QUESTIONS:
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
        *ACTIONS, *STATUS_QUESTIONS, "again", "missing", "error", "retry", "complaint", "several", "system",
        *(f"{scope} {key}" for scope in (*SCOPES, "then", "already") for key in ACTIONS),
        *(f"status {key}" for key in STATUS_ANSWERS),
    ]  # fmt: skip
    return [key for key in candidates if _header(file, key)]


def _template(
    phrase: Phrase, allowed: set[str], needed: set[str], forms: _Forms, problems: Problems
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
            problems.unless(
                (form or "base") in known,
                f"{where}: {{{slot}:{form}}}: no such form (accepted: {', '.join(sorted(known))}){nearest(form, known)}",
            )
    left = PLACEHOLDER.sub("", phrase.text)
    problems.unless("{" not in left and "}" not in left, f"{where}: a brace that is no placeholder")
    problems.unless(
        needed <= slots, f"{where}: {', '.join(f'{{{slot}}}' for slot in sorted(needed - slots))} is missing"
    )
    if len(problems) > before:
        return None
    text = PLACEHOLDER.sub(lambda match: f"{{{match[1]}[{match[2] or 'base'}]}}", phrase.text)
    return Template(text, frozenset(slots), phrase)
