"""Reads what was pasted from a shell: finds the one command that is meant among prompts, comments, redirections, pipes
and wrappers, and keeps what it left out. It runs nothing, and expands only variables that the text itself sets."""

import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath

from hatrain.errors import BadInput

# A line that begins with a flag continues the line before: a comment in between hides its backslash.
_TOKEN = re.compile(
    r"""
    (?P<space>(?:[ \t\r]|\\[ \t\r]*\n|\n(?=[ \t]*--?\w))+)
    | (?P<comment>\#[^\n]*)
    | (?P<redirection>(?:\d+|&)?(?:>>|>\||>|<<<|<)(?:&(?:\d+|-))?)
    | (?P<operator>&&|\|\||\|&|[|;&()\n])
    | (?P<word>(?:'[^']*'|"(?:\\.|[^"\\])*"|\$\([^)]*\)|\\.|[^\s'"\\|;&()<>])+)
    """,
    re.VERBOSE | re.DOTALL,
)
_PROMPT = re.compile(r"^[ \t]*(?:\([\w.-]+\)[ \t]*)?(?:[\w.-]+@[^\s$#]*)?[$>][ \t]+", re.MULTILINE)
_FENCE = re.compile(r"^[ \t]*```.*$", re.MULTILINE)
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")
_EXPANSION = re.compile(r"'[^']*'|\\.|\$\{(\w+)\}|\$(\w+)|\$\([^)]*\)|`[^`]*`", re.DOTALL)


@dataclass
class _Simple:
    """One command, its words as they were written, and what stands before it: nothing, `|`, `&&`, …"""

    operator: str = ""
    words: list[str] = field(default_factory=list)
    redirections: list[str] = field(default_factory=list)

    def written(self) -> str:
        pipe = f"{self.operator} " if self.operator in ("|", "|&") else ""
        return pipe + " ".join(self.words)


@dataclass(frozen=True)
class Pasted:
    words: list[str]
    """The command, from its first word that is no wrapper."""
    environment: list[str]
    """Assignments before it, and those exported earlier."""
    left_out: list[str]
    """What was pasted around it, as it was written."""


def find_command(arguments: Sequence[str], start: Callable[[Sequence[str]], int | None]) -> Pasted:
    """Return the one command that is meant. `arguments` are those that a shell has split, or one with all that was
    pasted; `start` says with which of its words a command begins, behind `nohup` and the like; None where it is not
    meant. Without one that is, the first command is returned as it is.

    Raises BadInput for several, for text that is no command line, and for a value that only a shell can compute.
    """
    assigned: dict[str, str] = {}
    exported: dict[str, str] = {}
    found: list[tuple[list[str], list[str]]] = []
    left_out: list[str] = []
    commands = [*_commands(_text(arguments))]
    for command in commands:
        environment, rest = _assignments(command, assigned, exported)
        if (first := start(rest)) is None:
            left_out += [command.written()] if rest else []
        else:
            more = [word for word in rest[:first] if _ASSIGNMENT.match(word)]
            wrappers = [word for word in rest[:first] if word not in more and PurePath(word).name != "env"]
            left_out += [" ".join(wrappers)] if wrappers else []
            found.append((rest[first:], [*environment, *more]))
        left_out += command.redirections
    if len(found) > 1:
        names = ", ".join(" ".join(words[:2]) for words, _ in found)
        raise BadInput(f"found {len(found)} commands: {names}; accepted: one at a time")
    if not found:
        words = [word for command in commands[:1] for word in command.words]
        return Pasted([_unquoted(word) for word in words], [], [])
    words, environment = found[0]
    earlier = [f"{name}={value}" for name, value in exported.items()]
    return Pasted([_unquoted(_expanded(word, assigned)) for word in words], earlier + environment, left_out)


def _text(arguments: Sequence[str]) -> str:
    if len(arguments) == 1:
        return _PROMPT.sub("", _FENCE.sub("", arguments[0]))
    # A backslash with a space behind it becomes an argument of white space.
    kept = [argument for argument in arguments if argument == "" or argument.strip(" \t\r\n\\")]
    kept = kept[1:] if kept and kept[0] in ("--", "$") else kept
    return " ".join(map(shlex.quote, kept))


def _commands(text: str) -> Iterator[_Simple]:
    at, current, redirected = 0, _Simple(), False
    while at < len(text):
        token = _TOKEN.match(text, at)
        if token is None:
            raise BadInput(f"{text.strip()}: not a command line: no closing quotation")
        at = token.end()
        written = token.group()
        match token.lastgroup:
            case "redirection":
                current.redirections.append(written)
                redirected = "&" not in written[1:]
            case "word" if redirected:
                current.redirections[-1] += f" {written}"
                redirected = False
            case "word":
                current.words.append(written)
            case "operator":
                current.redirections += ["&"] if written == "&" else []
                yield current
                current, redirected = _Simple("" if written == "\n" else written), False
    yield current


def _assignments(command: _Simple, assigned: dict[str, str], exported: dict[str, str]) -> tuple[list[str], list[str]]:
    """Split the assignments before a command from its words. Those without a command, and those of `export`, hold from
    here on, and go to the dictionaries."""
    is_export = command.words[:1] == ["export"]
    words = command.words[is_export:]
    count = next((i for i, word in enumerate(words) if not _ASSIGNMENT.match(word)), len(words))
    values = [_unquoted(_expanded(word, assigned)) for word in words[:count]]
    if count < len(words) and not is_export:
        return values, words[count:]
    new = {name: value for name, _, value in (text.partition("=") for text in values)}
    assigned |= new
    exported |= new if is_export else {}
    return [], [] if count else command.words


def _unquoted(word: str) -> str:
    return "".join(shlex.split(word)) if word else word


def _expanded(word: str, assigned: Mapping[str, str]) -> str:
    """Put in the values of variables that were set in the text."""

    def value(match: re.Match[str]) -> str:
        found, name = match.group(), match[1] or match[2]
        if found[0] in "'\\":
            return found
        if name not in assigned:
            raise BadInput(f"{word}: only the shell knows what {found} stands for; write its value")
        return assigned[name]

    return _EXPANSION.sub(value, word)
