"""Words requests and answers: fillers, capitals, punctuation, and which way to refer to a device."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hatrain.home.generate.mistakes import mistaken
from hatrain.home.homes.home import Device, Draw, pick
from hatrain.home.language.grammar import Name, Reference, several
from hatrain.home.language.load import Language
from hatrain.home.language.templates import Template

# Shares of requests: plain imperatives with a filler; whole sentences; all in lower case without punctuation.
_WITH_FILLER, _SENTENCE, _LOWER_CASE = 0.25, 0.25, 0.2
_MISTAKEN = 0.05  # share of requests with a word misheard or mistyped
_USUAL_REFERENCE = 0.75  # share of devices that are referred to in the usual way
_END = ".?!"
_NO_BREAK = "\u00a0"  # French puts a no-break space before its punctuation
_SENTENCE_START = re.compile(r"(?:^|(?<=[.?!] ))[¿¡]?\w")


@dataclass(frozen=True)
class Wording:
    language: Language

    def reference(self, draw: Draw, names: Sequence[Name]) -> Reference:
        """Draw a way to refer to each device, and name them together."""
        references = [_reference(draw, name) for name in names]
        return references[0] if len(references) == 1 else several(self.language.grammar, references)

    def device(self, draw: Draw, device: Device) -> dict[str, Any]:
        """Return what fills a template's `{device}` and `{room}`."""
        return self.name(draw, device.name)

    def name(self, draw: Draw, name: Name) -> dict[str, Any]:
        return {"device": self.reference(draw, (name,)), "room": name.room.forms if name.room else {}}

    def fill(self, draw: Draw, template: Template, fillers: Mapping[str, Any]) -> str:
        """Fill a request's template; now and then its own words are misheard or mistyped, never names and values."""
        text = template.text
        if draw() < _MISTAKEN:
            text = mistaken(draw, text, self.language.misheard)
        return text.format_map(fillers)

    def request(self, draw: Draw, text: str, plain: bool = False) -> str:
        """Write a request as users do: with a filler, as a sentence, as dictated or typed in haste."""
        if plain and draw() < _WITH_FILLER:
            text = pick(draw, self.language.fillers).replace("{request}", text)
        text = self.language.grammar.rules.finish(text)
        look = draw()
        if look < _SENTENCE:
            text = _capitalize(text)
            return text if text[-1] in _END else f"{text}."
        if look < _SENTENCE + _LOWER_CASE:
            keeps = self.language.keeps_question_mark and text.endswith("?")
            return text.lower().strip((".!" if keeps else _END) + f"¿¡{_NO_BREAK}")
        return text

    def sentence(self, draw: Draw, templates: Sequence[Template], values: Mapping[str, Any]) -> str:
        """Draw an answer and write it as a sentence."""
        return _capitalize(self.language.grammar.rules.finish(pick(draw, templates).text.format_map(values)))


def _capitalize(text: str) -> str:
    """Capitalize the first letter of each sentence, also after an opening `¿` or `¡`."""
    return _SENTENCE_START.sub(lambda match: match[0].upper(), text)


def _reference(draw: Draw, name: Name) -> Reference:
    usual, *others = name.references
    return usual if not others or draw() < _USUAL_REFERENCE else others[int(draw() * len(others))]
