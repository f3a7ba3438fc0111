"""Completion for fish."""

from collections.abc import Sequence
from pathlib import Path

from hatrain.cli.shells.verbs import Verb, named

_BODY = Path(__file__).with_name("candidates.fish")


def fish(verbs: Sequence[Verb]) -> str:
    """Return the static functions first, then a `complete` for each verb, option and argument."""
    lines = ["# Completion of hatrain for fish, which `hatrain completion fish` printed.", ""]
    lines += ["function _hatrain_named", "    switch $argv[1]"]
    for kind, words in named().items():
        lines += [f"        case {kind}", f"            printf '%s\\n' {' '.join(map(_quoted, words))}"]
    lines += ["    end", "end", "", _BODY.read_text(encoding="utf-8"), "complete -c hatrain -f"]
    lines += [f"complete -c hatrain -n _hatrain_no_verb -a {verb.name} -d {_quoted(verb.help)}" for verb in verbs]
    for verb in verbs:
        begin = f"complete -c hatrain -n '_hatrain_verb {verb.name}'"
        for option in verb.options:
            flags = " ".join(f"-l {flag.removeprefix('--')}" for flag in option.flags)
            value = "" if option.kind is None else f" {_value(option.kind, option.words)}"
            lines.append(f"{begin} {flags}{value} -d {_quoted(option.help)}")
        if verb.kind:
            lines.append(f"{begin} {_value(verb.kind, verb.words)}".replace(" -x", "").replace(" -r", ""))
    return "\n".join(lines) + "\n"


def _value(what: str, words: Sequence[str]) -> str:
    """The flags of `complete` for a value: -x and -r want one, -F offers files, and -a offers words."""
    match what:
        case "":
            return "-x"
        case "words":
            return f"-x -a {_quoted(' '.join(words))}"
        case "file":
            return "-r -F"
        case "folder":
            return "-x -a '(__fish_complete_directories)'"
    return f"-x -a '(_hatrain_candidates {what})'"


def _quoted(text: str) -> str:
    """Quote for fish: in single quotes only the backslash and the quote itself are special."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
