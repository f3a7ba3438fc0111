"""Reads the phrase files (.txt) of a language folder into sections of phrases."""

import re
from dataclasses import dataclass
from pathlib import Path

from hatrain.contract.load import read_source
from hatrain.errors import BadInput


@dataclass(frozen=True)
class Phrase:
    """One line. `plain` marks a plain imperative, which the file writes with a leading `&`."""

    text: str
    where: str  # file:line
    plain: bool = False


@dataclass(frozen=True)
class Section:
    """The phrases under one `[key, key: noun, noun]` header."""

    keys: tuple[str, ...]
    nouns: tuple[str, ...]
    phrases: tuple[Phrase, ...]
    where: str


_HEADER = re.compile(r"\[([^:\]]+)(?::([^\]]+))?\]")


def read_sections(path: Path) -> tuple[Section, ...]:
    """Read a phrase file: `[header]` lines, one phrase a line under each, `#` comments, blank lines.

    Raises BadInput for a phrase before the first header and for a header that cannot be parsed.
    """
    problems: list[str] = []
    sections: list[tuple[re.Match[str], str, list[Phrase]]] = []
    for number, line in enumerate(read_source(path).splitlines(), 1):
        text, where = line.strip(), f"{path}:{number}"
        if not text or text.startswith("#"):
            continue
        if text.startswith("["):
            if header := _HEADER.fullmatch(text):
                sections.append((header, where, []))
            else:
                problems.append(f"{where}: found {text}; accepted: a header such as [key, key: noun, noun]")
        elif not sections:
            problems.append(f"{where}: {text}: found before the first [header]; move it below one")
        else:
            plain = text.startswith("&")
            sections[-1][2].append(Phrase(text.removeprefix("&").strip(), where, plain))
    if problems:
        raise BadInput(problems)
    return tuple(
        Section(_items(header[1]), _items(header[2]), tuple(phrases), where) for header, where, phrases in sections
    )


def _items(text: str | None) -> tuple[str, ...]:
    return tuple(" ".join(item.split()) for item in (text or "").split(",") if item.strip())
