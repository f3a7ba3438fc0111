"""Puts into a request what speech recognition mishears and fingers mistype, so that its meaning stays clear."""

import re
from collections.abc import Mapping

from hatrain.home.homes.home import Draw, pick

_WORD = re.compile(r"\{[^}]*\}|[^\W\d_]+")
_SHORTEST = 5
"""Letters of a word that may be mistyped: a shorter one could become another word."""


def mistaken(draw: Draw, text: str, misheard: Mapping[str, str]) -> str:
    """Return a template's text with one mistake in a word of its own, or as it is where no word invites one.

    Placeholders stay, and so do words that touch one, which may be the end of another word.
    """
    words = [match for match in _WORD.finditer(text) if not match[0].startswith("{") and _stands_alone(match, text)]
    heard = [match for match in words if match[0] in misheard]
    if heard and draw() < 0.5:
        match = pick(draw, heard)
        return text[: match.start()] + misheard[match[0]] + text[match.end() :]
    long = [match for match in words if len(match[0]) >= _SHORTEST]
    if not long:
        return text
    match = pick(draw, long)
    return text[: match.start()] + _mistyped(draw, match[0]) + text[match.end() :]


def _stands_alone(match: re.Match[str], text: str) -> bool:
    return not text[: match.start()].endswith("}") and not text[match.end() :].startswith("{")


def _mistyped(draw: Draw, word: str) -> str:
    """Swap, drop or double a letter inside a word."""
    at = 1 + int(draw() * (len(word) - 2))
    kind = draw()
    if kind < 0.4:
        return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    if kind < 0.7:
        return word[:at] + word[at + 1 :]
    return word[:at] + word[at] + word[at:]
