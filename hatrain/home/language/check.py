"""Checks a language folder: errors in its files, missing phrases, and whether there is enough of everything."""

from collections import Counter
from collections.abc import Container, Iterable
from dataclasses import dataclass
from pathlib import Path

from hatrain.errors import BadInput
from hatrain.home.devices.actions import ACTIONS, QUESTIONS
from hatrain.home.devices.services import DOMAINS
from hatrain.home.language.load import Language, inspect_language
from hatrain.home.language.phrase_groups import normalize
from hatrain.home.language.split import Side, split_names, split_templates
from hatrain.home.language.templates import Template
from hatrain.home.language.topics import GROUP_QUESTIONS, TOPICS

# What a language needs before the split, so that there is enough to learn from.
MINIMA = {
    "nouns": 120,
    "device names": 500,
    "templated requests": 250,
    "fixed requests": 400,
    "status questions": 200,
    "answers": 500,
    "refusals": 80,
    "failures": 80,
    "personas": 3,
}


@dataclass(frozen=True)
class Report:
    """The problems of a language folder, and its counts."""

    folder: Path
    problems: tuple[str, ...]
    counts: dict[str, int]

    @property
    def too_few(self) -> list[str]:
        return [what for what, minimum in MINIMA.items() if self.counts and self.counts[what] < minimum]

    @property
    def complete(self) -> bool:
        return not self.problems and not self.too_few

    def lines(self) -> list[str]:
        lines = list(self.problems)
        for what, count in self.counts.items():
            minimum = MINIMA.get(what, 0)
            lacking = f", {minimum - count} too few" if count < minimum else ""
            lines.append(f"{what}: {count}" + (f" (at least {minimum}{lacking})" if minimum else ""))
        if self.complete:
            return [*lines, f"{self.folder.name}: complete"]
        verdict = f"incomplete (problems: {len(self.problems)}, counts below their minimum: {len(self.too_few)})"
        return [*lines, f"{self.folder.name}: {verdict}"]


def check_language(folder: Path) -> Report:
    """Check a language folder. Raises BadInput where there is no such folder."""
    if not folder.is_dir():
        raise BadInput(f"{folder}: no such folder")
    language, problems = inspect_language(folder)
    if language is None:
        return Report(folder, tuple(problems), {})
    problems += [
        *_repeated_phrases(language),
        *_domains_without_names(language, folder),
        *_one_sided(language),
        *_for_nothing(language),
    ]
    return Report(folder, tuple(problems), _counts(language))


def _one_sided(language: Language) -> Iterable[str]:
    """Yield what a side has no phrase of, as other sections have decided where all its phrases go."""
    sides: tuple[Side, Side] = ("train", "test")
    for side in sides:
        try:
            found = split_templates(language, side)
        except BadInput as error:
            yield from error.problems
            continue
        requested = {key for scope, key in found.requests if scope == "device"}
        yield from _lacking(language, "requests.txt", side, requested, ACTIONS)
        yield from _lacking(language, "status.txt", side, {*found.status, *found.group}, (*QUESTIONS, *GROUP_QUESTIONS))
        for file, topics in TOPICS.items():
            for scope, has in (("ask", found.ask), ("say", found.say)):
                yield from _lacking(language, file, side, has, topics, f"{scope} ")


def _for_nothing(language: Language) -> Iterable[str]:
    """Yield the sections whose nouns are all of another domain."""
    for section in language.sections:
        domains = {key.partition(".")[0] for key in section.keys}
        if not section.nouns or section.scope == "group" or not section.templates:
            continue
        if not any(
            noun.domain in domains and not section.nouns.isdisjoint((noun.base, noun.kind)) for noun in language.nouns
        ):
            header = f"[{', '.join(section.keys)}: {', '.join(sorted(section.nouns))}]"
            yield f"{section.templates[0].phrase.where}: {header}: no noun of this domain is called so"


def _lacking(
    language: Language, file: str, side: Side, has: Container[str], needed: Iterable[str], scope: str = ""
) -> Iterable[str]:
    for key in needed:
        if key not in has:
            header = f"{language.name}: {file}: [{scope}{key}]"
            yield f"{header}: no phrase for the {side} side; add a phrase that no other section has"


def _domains_without_names(language: Language, folder: Path) -> Iterable[str]:
    sides: tuple[Side, Side] = ("train", "test")
    for side in sides:
        names = Counter(name.domain for name in split_names(language.names, side))
        for domain in DOMAINS:
            if names[domain] < 2:
                yield (
                    f"{folder / 'nouns.yaml'}: {domain}: the {side} side needs at least 2 names, has {names[domain]}; "
                    "add nouns or rooms"
                )


def _repeated_phrases(language: Language) -> Iterable[str]:
    for section in language.sections:
        first: dict[str, Template] = {}
        for template in section.templates:
            phrase, earlier = template.phrase, first.setdefault(normalize(template.text), template)
            if earlier is not template:
                yield f"{phrase.where}: {phrase.text}: already at {earlier.phrase.where}"


def _distinct(language: Language, files: str) -> int:
    sections = [section for section in language.sections if section.file.startswith(files)]
    return len({normalize(template.text) for section in sections for template in section.templates})


def _counts(language: Language) -> dict[str, int]:
    return {
        "nouns": len({noun.base for noun in language.nouns}),
        "rooms": len(language.rooms),
        "device names": len({name.friendly.casefold() for name in language.names}),
        "templated requests": _distinct(language, "requests.txt"),
        "fixed requests": _distinct(language, "fixed.txt"),
        "status questions": _distinct(language, "status.txt"),
        "follow-ups": _distinct(language, "followups.txt"),
        "answers": _distinct(language, "answers/"),
        "refusals": _distinct(language, "refusals.txt"),
        "failures": _distinct(language, "failures.txt"),
        "personas": len(language.prompts),
        **{f"names of {domain}": sum(name.domain == domain for name in language.names) for domain in DOMAINS},
    }
