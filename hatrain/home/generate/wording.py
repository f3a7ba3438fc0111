"""Puts templates into words: fillers, capitals, marks, and the ways in which people speak of a device."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hatrain.home.homes.home import Device, Draw, pick
from hatrain.home.language.grammar import Name, Said, several
from hatrain.home.language.load import Language
from hatrain.home.language.templates import Template

_FILLED, _IN_FULL, _IN_HASTE = 0.25, 0.25, 0.2  # shares of requests
_USUAL = 0.75  # share of devices that are spoken of in the usual way
_END = ".?!"
_NO_BREAK = "\u00a0"  # French sets one before its marks
_START = re.compile(r"(?:^|(?<=[.?!] ))[¿¡]?\w")


@dataclass(frozen=True)
class Wording:
    """The words of one language."""

    language: Language

    def said(self, draw: Draw, names: Sequence[Name]) -> Said:
        """Draw a way of speaking of each device; several are named together."""
        said = [_way(draw, name) for name in names]
        return said[0] if len(said) == 1 else several(self.language.grammar, said)

    def device(self, draw: Draw, device: Device) -> dict[str, Any]:
        """Return the fillers that a device has for a template: itself, and its room."""
        return self.name(draw, device.name)

    def name(self, draw: Draw, name: Name) -> dict[str, Any]:
        """Return the fillers that a device's name has for a template: itself, and its room."""
        return {"device": self.said(draw, (name,)), "room": name.room.forms if name.room else {}}

    def request(self, draw: Draw, text: str, plain: bool = False) -> str:
        """Put a request as people do: with a filler now and then, as dictated, typed in haste, or in full."""
        if plain and draw() < _FILLED:
            text = pick(draw, self.language.fillers).replace("{request}", text)
        text = self.language.grammar.rules.finish(text)
        look = draw()
        if look < _IN_FULL:
            text = _capital(text)
            return text if text[-1] in _END else f"{text}."
        if look < _IN_FULL + _IN_HASTE:
            return text.lower().strip(f"{_END}¿¡{_NO_BREAK}")
        return text

    def sentence(self, draw: Draw, templates: Sequence[Template], fillers: Mapping[str, Any]) -> str:
        """Draw an answer and put it as a sentence."""
        return _capital(self.language.grammar.rules.finish(pick(draw, templates).text.format_map(fillers)))


def _capital(text: str) -> str:
    """Return text with the first letter of each of its sentences made a capital, behind a mark that opens one."""
    return _START.sub(lambda match: match[0].upper(), text)


def _way(draw: Draw, name: Name) -> Said:
    ways = name.said
    return ways[0] if len(ways) == 1 or draw() < _USUAL else ways[1 + int(draw() * (len(ways) - 1))]
