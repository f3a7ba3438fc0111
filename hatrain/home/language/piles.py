"""Reads the files of a language folder strictly, remembering lines. It knows their syntax, never their meaning."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from hatrain.errors import BadInput

_Loader: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)


class Text(str):
    """A scalar of a YAML file that knows its line. Scalars are never guessed at: `on` and `no` are words."""

    line: int


@dataclass(frozen=True)
class Phrase:
    """One line of a pile: its text, where it stands, and whether a leading `&` called it a plain imperative."""

    text: str
    file: str
    line: int
    plain: bool = False

    @property
    def place(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True)
class Section:
    """The phrases under one `[key, key: noun, noun]` header."""

    keys: tuple[str, ...]
    nouns: tuple[str, ...]
    phrases: tuple[Phrase, ...]
    file: str
    line: int

    @property
    def place(self) -> str:
        return f"{self.file}:{self.line}"


def _plain(node: yaml.Node, file: str, problems: list[str]) -> Any:
    if isinstance(node, yaml.ScalarNode):
        text = Text(node.value)
        text.line = node.start_mark.line + 1
        return text
    if isinstance(node, yaml.SequenceNode):
        return [_plain(child, file, problems) for child in node.value]
    mapping: dict[Any, Any] = {}
    for key_node, value_node in node.value:
        key = _plain(key_node, file, problems)
        if not isinstance(key, Text):
            problems.append(f"{file}:{key_node.start_mark.line + 1}: a key must be one word or phrase")
        elif key in mapping:
            problems.append(f"{file}:{key.line}: {key}: given twice")
        else:
            mapping[key] = _plain(value_node, file, problems)
    return mapping


def read_records(path: Path, *, file: str | None = None) -> Any:
    """Read a YAML file as dicts, lists and `Text`. Raises BadInput for bad syntax and for keys given twice."""
    file = file or path.name
    try:
        node = yaml.compose(path.read_text(encoding="utf-8"), Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{file}:{mark.line + 1}" if mark else file
        raise BadInput(f"{where}: not YAML: {getattr(error, 'problem', error)}") from None
    problems: list[str] = []
    records = {} if node is None else _plain(node, file, problems)
    if problems:
        raise BadInput(problems)
    return records


_HEADER = re.compile(r"\[([^:\]]+)(?::([^\]]+))?\]")


def _listed(text: str | None) -> tuple[str, ...]:
    return tuple(" ".join(part.split()) for part in (text or "").split(",") if part.strip())


def read_sections(path: Path, *, file: str | None = None) -> tuple[Section, ...]:
    """Read a pile: `[header]` lines, one phrase a line under each, `#` comments, blank lines.

    Raises BadInput for a phrase before any header and for a header that is not one.
    """
    file = file or path.name
    problems: list[str] = []
    found: list[tuple[re.Match[str], int, list[Phrase]]] = []
    for number, raw in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        text = raw.strip()
        if not text or text.startswith("#"):
            continue
        if text.startswith("["):
            header = _HEADER.fullmatch(text)
            if header:
                found.append((header, number, []))
            else:
                problems.append(f"{file}:{number}: {text}: not a header (accepted: [key, key: noun, noun])")
        elif not found:
            problems.append(f"{file}:{number}: {text}: stands before the first [header]")
        else:
            plain = text.startswith("&")
            found[-1][2].append(Phrase(text.removeprefix("&").strip(), file, number, plain))
    if problems:
        raise BadInput(problems)
    return tuple(
        Section(_listed(header[1]), _listed(header[2]), tuple(phrases), file, number)
        for header, number, phrases in found
    )
