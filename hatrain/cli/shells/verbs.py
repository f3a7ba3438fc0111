"""What completion needs of the parsers: the options of each verb, and what each value is."""

import argparse
from dataclasses import dataclass
from pathlib import Path

KINDS = {
    "JOB": "job",
    "RUN": "run",
    "A": "run",
    "B": "run",
    "MODEL": "model",
    "RUN|MODEL": "model",
    "NAME|PATH": "cluster",
    "FILE": "file",
    "A B": "file",
    "DIR": "folder",
    "NAME,NAME": "gpu",
    "VERB": "verb",
    "CLIENT": "client",
    "LANGUAGE": "language",
}
"""What a metavar of the parsers stands for."""


@dataclass(frozen=True)
class Option:
    """One option of a verb. `kind` is what follows it: one of `KINDS`, or `words`; None for a flag without a value, and
    an empty string for a value that cannot be completed."""

    flags: tuple[str, ...]
    help: str
    kind: str | None
    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class Verb:
    """A verb: its options, and what its positional arguments are."""

    name: str
    help: str
    options: tuple[Option, ...]
    kind: str
    words: tuple[str, ...]


def described(name: str, help_line: str, parser: argparse.ArgumentParser) -> Verb:
    """Return what completion needs of a parser."""
    options, kind, words = [], "", tuple[str, ...]()
    for action in parser._actions:
        help_text = (action.help or "").partition(";")[0].partition("(")[0].strip()
        if action.option_strings:
            flags = tuple(flag for flag in action.option_strings if flag.startswith("--"))
            follows = None if action.nargs == 0 else _kind(action)
            options.append(Option(flags, help_text, follows, tuple(map(str, action.choices or ()))))
        elif action.nargs != argparse.REMAINDER and not kind:
            kind, words = _kind(action), tuple(map(str, action.choices or ()))
    return Verb(name, help_line, tuple(options), kind, words)


def _kind(action: argparse.Action) -> str:
    if action.choices:
        return "words"
    metavar = action.metavar if isinstance(action.metavar, str) else ""
    if metavar in KINDS:
        return KINDS[metavar]
    return "file" if action.type is Path else ""


def named() -> dict[str, list[str]]:
    """Return the values of each kind that are the same in every folder."""
    from hatrain.cli import VERBS
    from hatrain.contract import shipped
    from hatrain.contract.gpus import GPUS
    from hatrain.home.clients import CLIENTS
    from hatrain.home.language.load import language_folders
    from launch import cluster_files

    return {
        "verb": [*VERBS],
        "job": sorted(path.stem for path in shipped.jobs().glob("*.yaml")),
        "cluster": sorted(path.stem for path in cluster_files.SHIPPED.glob("*.yaml")),
        "gpu": [*GPUS],
        "client": [*CLIENTS],
        "language": [*language_folders()],
    }
