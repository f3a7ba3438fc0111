"""Says what a language folder lacks: mistakes in its files, gaps in what it can say, piles below their minima."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from hatrain.errors import BadInput
from hatrain.home.devices.services import DOMAINS
from hatrain.home.language.load import Language, inspect_language
from hatrain.home.language.split import Side, split_names
from hatrain.home.language.templates import Template

# What one language needs before the split, so that there is enough to learn from.
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
    """What is wrong with a language folder, and how much there is of each thing."""

    folder: Path
    problems: tuple[str, ...]
    counts: dict[str, int]

    @property
    def short(self) -> dict[str, int]:
        """Return what is below its minimum, and by how much."""
        return {
            what: least - self.counts.get(what, 0)
            for what, least in MINIMA.items()
            if self.counts.get(what, 0) < least
        }

    @property
    def good(self) -> bool:
        return not self.problems and bool(self.counts) and not self.short

    def lines(self) -> list[str]:
        lines = list(self.problems)
        for what, count in self.counts.items():
            least = MINIMA.get(what)
            lacks = f", {least - count} too few" if least and count < least else ""
            lines.append(f"{what}: {count}" + (f" (at least {least}{lacks})" if least else ""))
        verdict = (
            "complete" if self.good else f"{len(self.problems)} problems, {len(self.short)} piles too small"
        )
        return [*lines, f"{self.folder.name}: {verdict}"]


def check_language(folder: Path) -> Report:
    """Check a language folder. Raises BadInput where there is no such folder."""
    if not folder.is_dir():
        raise BadInput(f"{folder}: no such folder")
    language, problems = inspect_language(folder)
    if language is None:
        return Report(folder, tuple(problems), {})
    found = [*problems, *_repeated(language), *_one_sided(language)]
    return Report(folder, tuple(found), _counts(language))


def _one_sided(language: Language) -> Iterable[str]:
    """Yield a line for each domain that one side of the split has too few names of."""
    sides: tuple[Side, Side] = ("train", "test")
    for side in sides:
        names = Counter(name.domain for name in split_names(language.names, side))
        for domain in DOMAINS:
            if names[domain] < 2:
                yield f"nouns.yaml: {domain}: the {side} side needs 2 names, has {names[domain]}; add nouns or rooms"


def _repeated(language: Language) -> Iterable[str]:
    """Yield a line for each phrase that is said twice in one section, or that two files both have."""
    for pile in language.piles:
        seen: dict[str, Template] = {}
        for template in pile.templates:
            words = _words(template.text)
            if words in seen:
                yield f"{template.phrase.place}: {template.phrase.text}: stands at {seen[words].phrase.place} already"
            seen.setdefault(words, template)


def _words(text: str) -> str:
    return " ".join(re.sub(r"[^\w{}\[\]]+", " ", text.casefold()).split())


def _distinct(language: Language, files: Iterable[str]) -> int:
    wanted = tuple(files)
    return len(
        {
            _words(template.text)
            for pile in language.piles
            if pile.kind.startswith(wanted)
            for template in pile.templates
        }
    )


def _counts(language: Language) -> dict[str, int]:
    return {
        "nouns": len({noun.base for noun in language.nouns}),
        "rooms": len(language.rooms),
        "device names": len({name.friendly.casefold() for name in language.names}),
        "templated requests": _distinct(language, ["requests.txt"]),
        "fixed requests": _distinct(language, ["fixed.txt"]),
        "status questions": _distinct(language, ["status.txt"]),
        "follow-ups": _distinct(language, ["followups.txt"]),
        "answers": _distinct(language, ["answers/"]),
        "refusals": _distinct(language, ["refusals.txt"]),
        "failures": _distinct(language, ["failures.txt"]),
        "personas": len(language.prompts),
        **{f"names of {domain}": sum(name.domain == domain for name in language.names) for domain in DOMAINS},
    }
