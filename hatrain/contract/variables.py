"""$VARIABLES in the values of a cluster file: they stand for the environment of the machine that runs the job."""

import re
import shlex
from collections.abc import Iterator, Mapping

from hatrain.errors import BadInput

_REFERENCE = re.compile(r"\$(?:(?P<dollar>\$)|\{(?P<braced>[A-Za-z_]\w*)\}|(?P<name>[A-Za-z_]\w*))", re.ASCII)


def _parts(value: str) -> Iterator[tuple[str, bool]]:
    """Yields (text, False) and (name of a variable, True). `$$` is a dollar; so is any `$` without a name behind it."""
    end = 0
    for found in _REFERENCE.finditer(value):
        yield value[end : found.start()], False
        name = found["braced"] or found["name"]
        yield (name, True) if name else ("$", False)
        end = found.end()
    yield value[end:], False


def names(value: str) -> list[str]:
    """The variables that a value refers to, each once."""
    return list(dict.fromkeys(text for text, is_name in _parts(value) if is_name))


def expand(key: str, value: str, environment: Mapping[str, str]) -> str:
    """Replace the variables. Raises BadInput, with the key of the cluster file, for one that is not set or empty."""
    if absent := [name for name in names(value) if not environment.get(name)]:
        raise BadInput(f"{key}: found {value}; {absent[0]} is not set on this machine")
    return "".join(environment[text] if is_name else text for text, is_name in _parts(value))


def literal(text: str) -> str:
    """The value that stands for this very text."""
    return text.replace("$", "$$")


def quoted(value: str) -> str:
    """Quote a value for bash, which then expands its variables and nothing else."""
    words = (f'"${{{text}}}"' if is_name else shlex.quote(text) for text, is_name in _parts(value) if text)
    return "".join(words) or "''"
