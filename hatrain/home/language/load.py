"""Loads a language folder: records and piles in, names and templates out, every mistake named with file and line.

A language is a folder and nothing else; docs/languages.md describes its files.
"""

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

from hatrain.errors import BadInput, nearest
from hatrain.home.devices.states import Unit
from hatrain.home.language.grammar import Grammar, Name, Noun, Room, Rules
from hatrain.home.language.piles import Section, read_records, read_sections
from hatrain.home.language.records import (
    HEAD_KEYS,
    Problems,
    alike_nouns,
    check_keys,
    check_values,
    make_names,
    read_grammar,
    read_nouns,
    read_rooms,
)
from hatrain.home.language.templates import NEUTRAL, Forms, Pile, gaps, read_pile
from hatrain.home.language.values import Values

LANGUAGES = Path(__file__).parents[1] / "languages"
RECORD_FILES = ("grammar.yaml", "nouns.yaml", "rooms.yaml", "values.yaml")
PILES = ("requests.txt", "fixed.txt", "status.txt", "followups.txt", "refusals.txt", "failures.txt")


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
    check_keys("grammar.yaml", head, HEAD_KEYS, problems)
    check_values(records["values.yaml"], problems)
    if problems:
        raise BadInput(problems)
    grammar = read_grammar(head, rules, problems)
    rooms = read_rooms(records["rooms.yaml"], head["room_forms"], problems)
    nouns = read_nouns(records["nouns.yaml"], head["noun_forms"], grammar.classes, rooms, problems)
    if problems:
        raise BadInput(problems)
    units = tuple(cast(Unit, str(unit)) for unit in head["temperature_units"])
    names = make_names(grammar, nouns, rooms, problems)
    ways = [forms for style in (*grammar.styles, grammar.unknown) for forms in style.said]
    device_forms = set.intersection(*map(set, ways)) | set(head["agreement"])
    room_forms = {"base", *(form for form, rule in head["room_forms"].items() if rule != "optional")}
    forms = Forms(device_forms, room_forms, records["values.yaml"], units)
    kinds = {noun.base for noun in nouns} | {noun.kind for noun in nouns}
    piles = [
        pile
        for file, found in sections.items()
        for section in found
        if section.keys != ("system",)
        for pile in read_pile(file, section, forms, kinds, problems)
    ]
    gaps(piles, {noun.domain for noun in nouns}, problems)
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
        alike=alike_nouns(nouns, records["nouns.yaml"]),
    )
