"""Loads a language folder. docs/languages.md describes its files."""

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeVar, cast

from pydantic import BaseModel

from hatrain.contract.load import Document, read_file, validate
from hatrain.errors import BadInput, nearest
from hatrain.home.devices.states import Unit
from hatrain.home.language.grammar import Forms, Grammar, Name, Noun, Room, Rules
from hatrain.home.language.names import alike_nouns, make_names, read_grammar, read_nouns, read_rooms
from hatrain.home.language.phrases import Section, read_sections
from hatrain.home.language.places import Group, Places, read_groups, read_places, read_timers
from hatrain.home.language.schema import (
    GrammarFile,
    GroupsFile,
    PlacesFile,
    ValuesFile,
    WordsFile,
    nouns_file,
    rooms_file,
)
from hatrain.home.language.templates import (
    NEUTRAL,
    Placeholders,
    TemplateSection,
    find_gaps,
    read_templates,
)
from hatrain.home.language.topics import TOPICS
from hatrain.home.language.values import Values, check_units

LANGUAGES = Path(__file__).parents[1] / "languages"
YAML_FILES = (
    "grammar.yaml", "rooms.yaml", "places.yaml", "nouns.yaml", "groups.yaml", "values.yaml", "words.yaml"
)  # fmt: skip
PHRASE_FILES = (
    "requests.txt", "fixed.txt", "status.txt", "followups.txt", "refusals.txt", "failures.txt", *TOPICS
)  # fmt: skip
_FUNCTIONS = ("plural", "date_line", "clock", "day", "friendly", "finish", "list_class")
M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, eq=False)
class Language:
    """A language folder, ready for use. `alike` has for each noun those that users could confuse with it."""

    code: str
    name: str
    labels: Mapping[str, str]
    units: tuple[Unit, ...]
    grammar: Grammar
    unknown_class: str
    nouns: tuple[Noun, ...]
    rooms: tuple[Room, ...]
    places: Places
    groups: Mapping[str, Group]
    timers: Mapping[str, tuple[Forms, ...]]  # what tells a timer apart → patterns by form
    names: tuple[Name, ...]
    values: Values
    sections: tuple[TemplateSection, ...]
    prompts: Mapping[str, tuple[str, ...]]  # persona → openings of the system prompt
    joins: tuple[str, ...]
    fillers: tuple[str, ...]
    keeps_question_mark: bool  # a question without it reads as a statement
    misheard: Mapping[str, str]  # word → what speech recognition makes of it
    alike: Mapping[str, frozenset[str]]
    words: WordsFile


def language_folders() -> dict[str, Path]:
    return {path.name: path for path in sorted(LANGUAGES.iterdir()) if (path / "grammar.yaml").is_file()}


def find_language(name: str) -> Path:
    """Find a language's folder by its name or code (`english`, `en`). Raises BadInput for an unknown one."""
    folders = language_folders()
    if name.lower() in folders:
        return folders[name.lower()]
    grammars = {path: read_file(path / "grammar.yaml").data for path in folders.values()}
    codes = {data["code"]: path for path, data in grammars.items() if isinstance(data, dict) and "code" in data}
    if name.lower() in codes:
        return codes[name.lower()]
    accepted = ", ".join(f"{folder.name} ({code})" for code, folder in sorted(codes.items()))
    raise BadInput(f"--language: found {name}, accepted: {accepted}{nearest(name, [*folders, *codes])}")


@cache
def load_language(folder: Path) -> Language:
    """Load a language folder. Raises BadInput with all problems found in it."""
    language, problems = inspect_language(folder)
    if language is None or problems:
        raise BadInput(problems)
    return language


def inspect_language(folder: Path) -> tuple[Language | None, list[str]]:
    """Load as much of a folder as its problems allow. Without valid YAML files there is no language."""
    files = [*YAML_FILES, "grammar.py", *PHRASE_FILES, f"answers/{NEUTRAL}.txt"]
    problems = [f"{folder / file}: no such file" for file in files if not (folder / file).is_file()]
    if problems:
        return None, problems
    try:
        return _Reader(folder, problems).read(), problems
    except BadInput as error:
        return None, [*problems, *error.problems]


class _Reader:
    """Reads one folder. It adds what is wrong to `problems` and goes on as long as there is something to check."""

    def __init__(self, folder: Path, problems: list[str]):
        self._folder, self._problems = folder, problems

    def read(self) -> Language | None:
        folder, problems = self._folder, self._problems
        documents = {file: read_file(folder / file) for file in YAML_FILES}
        sections = self._sections()
        head = self._validated(GrammarFile, documents["grammar.yaml"])
        values = self._validated(ValuesFile, documents["values.yaml"])
        words = self._validated(WordsFile, documents["words.yaml"])
        if problems or not head or not values or not words:
            return None
        rooms_of_file = self._validated(rooms_file(head), documents["rooms.yaml"])
        nouns_of_file = self._validated(nouns_file(head), documents["nouns.yaml"])
        places_of_file = self._validated(PlacesFile, documents["places.yaml"])
        groups_of_file = self._validated(GroupsFile, documents["groups.yaml"])
        grammar = read_grammar(documents["grammar.yaml"], head, _load_rules(folder / "grammar.py"), problems)
        check_units(documents["values.yaml"], problems)
        if problems or not rooms_of_file or not nouns_of_file or not places_of_file or not groups_of_file:
            return None
        groups = read_groups(documents["groups.yaml"], groups_of_file.root, grammar, problems)
        timers = read_timers(documents["grammar.yaml"], head.timers, problems)
        rooms = read_rooms(documents["rooms.yaml"], rooms_of_file.root, head.room_forms)
        places = read_places(documents["places.yaml"], places_of_file, head, grammar.rules, rooms, problems)
        nouns = read_nouns(documents["nouns.yaml"], nouns_of_file.root, head.noun_forms, rooms, problems)
        if problems:
            return None
        references = [forms for style in (*grammar.styles, grammar.unknown) for forms in style.references]
        placeholders = Placeholders(
            set.intersection(*map(set, references)) | set(head.agreement),
            {"base", *head.room_forms},
            set.intersection(*(set(forms) for references in timers.values() for forms in references)),
            set.intersection(*(set(group.forms) for group in groups.values())) | set(head.agreement),
            set.intersection(*(set(forms) for group in groups.values() for forms in group.states.values())),
            set.intersection(*(set(group.there) for group in groups.values() if group.there)),
            values,
            head.temperature_units,
        )
        return Language(
            code=head.code,
            name=folder.name,
            labels=head.labels.model_dump(),
            units=head.temperature_units,
            grammar=grammar,
            unknown_class=head.unknown_class,
            nouns=nouns,
            rooms=rooms,
            places=places,
            groups=groups,
            timers=timers,
            names=make_names(grammar, nouns, rooms, str(folder / "nouns.yaml"), problems),
            values=Values(values, grammar),
            sections=self._templates(sections, placeholders, nouns, set(groups)),
            prompts=self._prompts(sections),
            joins=head.joins,
            fillers=head.fillers,
            keeps_question_mark=head.keeps_question_mark,
            misheard=head.misheard,
            alike=alike_nouns(nouns, nouns_of_file.root),
            words=words,
        )

    def _validated(self, model: type[M], document: Document) -> M | None:
        try:
            return validate(model, document)
        except BadInput as error:
            self._problems += error.problems
            return None

    def _sections(self) -> dict[str, tuple[Section, ...]]:
        answers = [f"answers/{path.name}" for path in sorted((self._folder / "answers").glob("*.txt"))]
        sections = {}
        for file in (*PHRASE_FILES, *answers):
            try:
                sections[file] = read_sections(self._folder / file)
            except BadInput as error:
                self._problems += error.problems
        return sections

    def _templates(
        self,
        sections: Mapping[str, tuple[Section, ...]],
        placeholders: Placeholders,
        nouns: tuple[Noun, ...],
        groups: set[str],
    ) -> tuple[TemplateSection, ...]:
        kinds = {noun.base for noun in nouns} | {noun.kind for noun in nouns}
        found = [
            read_templates(file, section, placeholders, kinds, groups, self._problems)
            for file, of_file in sections.items()
            for section in of_file
            if section.keys != ("system",)
        ]
        templates = tuple(section for section in found if section)
        gaps = find_gaps(templates, {noun.domain for noun in nouns})
        self._problems += [f"{self._folder}/{gap}" for gap in gaps]
        return templates

    def _prompts(self, sections: Mapping[str, tuple[Section, ...]]) -> dict[str, tuple[str, ...]]:
        prompts = {}
        for file, of_file in sections.items():
            system = [section for section in of_file if section.keys == ("system",)]
            openings = tuple(phrase.text for section in system for phrase in section.phrases)
            if file.startswith("answers/") and openings:
                prompts[Path(file).stem] = openings
        if not prompts:
            self._problems.append(f"{self._folder}/answers: no [system] section; one persona needs one")
        return prompts


def _load_rules(path: Path) -> Rules:
    spec = importlib.util.spec_from_file_location(f"hatrain_language_{path.parent.name}", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise BadInput(f"{path}: cannot be imported: {error!r}") from None
    if missing := [name for name in _FUNCTIONS if not callable(getattr(module, name, None))]:
        raise BadInput(f"{path}: {name}: no such function; add it" for name in missing)
    return cast(Rules, module)
