"""Completion for bash and zsh, which share the generated head."""

import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

from hatrain.cli.shells.verbs import Verb, named

_FOLDER = Path(__file__).parent


def bash(verbs: Sequence[Verb]) -> str:
    return _script("bash", verbs)


def zsh(verbs: Sequence[Verb]) -> str:
    return "#compdef hatrain\n" + _script("zsh", verbs)


def _script(shell: str, verbs: Sequence[Verb]) -> str:
    body = "".join((_FOLDER / name).read_text(encoding="utf-8") for name in ("candidates.sh", f"body.{shell}"))
    return f"# Completion of hatrain for {shell}, which `hatrain completion {shell}` printed.\n\n{head(verbs)}\n{body}"


def head(verbs: Sequence[Verb]) -> str:
    """Return functions that print what a verb takes: its options as `option:help`, the kind of an option's value, and
    the kind of its arguments."""
    options = {
        verb.name: _lines(f"{flag}:{each.help}" for each in verb.options for flag in each.flags) for verb in verbs
    }
    values = {
        f"{verb.name} {flag}": _lines([" ".join([each.kind, *each.words])])
        for verb in verbs
        for each in verb.options
        for flag in each.flags
        if each.kind is not None
    }
    arguments = {verb.name: _lines([" ".join([verb.kind, *verb.words])]) for verb in verbs if verb.kind}
    return "\n".join(
        [
            f"_hatrain_verbs() {{\n  {_lines(f'{verb.name}:{verb.help}' for verb in verbs)}\n}}\n",
            _switch("_hatrain_options", options),
            _switch("_hatrain_value", values, otherwise="return 1"),
            _switch("_hatrain_argument", arguments),
            _switch("_hatrain_named", {kind: _lines(words) for kind, words in named().items()}),
        ]
    )


def _lines(lines: Iterable[str]) -> str:
    return f"printf '%s\\n' {' '.join(map(shlex.quote, lines))}"


def _switch(name: str, cases: dict[str, str], otherwise: str = "") -> str:
    """A function that does what belongs to its arguments."""
    lines = [f"    {shlex.quote(case)}) {command} ;;" for case, command in cases.items()]
    default = [f"    *) {otherwise} ;;"] if otherwise else []
    return "\n".join([f"{name}() {{", '  case "$*" in', *lines, *default, "  esac", "}", ""])
