"""Compares an answer with a response of Home Assistant: its yes or no, its number, the devices that it names."""

import re
from collections.abc import Iterable, Sequence

from hatrain.home.judge.numbers import Numbers
from hatrain.home.judge.phrases import Phrases, fold
from hatrain.home.language.schema import WordsFile

_CLOCK = re.compile(r"(?<!\d)(\d{1,2}) ?[:h] ?(\d{2})(?!\d)")
"""A time of day: 18:30, 18 h 30, 6:30 PM."""


class Response:
    """Answers to questions about several devices, in one language."""

    def __init__(self, words: WordsFile, numbers: Numbers):
        self._yes_no = Phrases({"yes": words.affirm, "no": words.deny})
        self._none = Phrases({"none": [*words.deny, *words.negations]})
        self._numbers = numbers

    def wrong(self, text: str, response: str, names: Sequence[str]) -> str | None:
        """Return what is wrong with an answer; `names` are the devices that the question may be about."""
        if times := _times(response):
            said_times = _times(text)
            return None if times == said_times else f"says {', '.join(sorted(said_times)) or 'no time'}"
        listed, told = _named(response, names), _named(text, names)
        due, found = self._polarity(response), self._polarity(text)
        if due is not None and found is not None:
            return None if due == found else f"says {found}"
        if due is not None and not listed:
            return "says neither yes nor no"
        if listed:
            missing, extra = sorted(listed - told), sorted(told - listed)
            if missing:
                return f"does not name {', '.join(missing)}"
            return f"also names {', '.join(extra)}" if extra and due is None else None
        if numbers := {number.value for number in self._numbers.numbers(response)}:
            said = {number.value for number in self._numbers.numbers(text)}
            return (
                None
                if numbers <= said
                else f"says {', '.join(f'{number:g}' for number in sorted(said)) or 'no number'}"
            )
        if told:
            return f"names {', '.join(sorted(told))}"
        return None if self._none.mentions(text) else "does not say it"

    def _polarity(self, text: str) -> str | None:
        """Return the yes or no that a text opens with."""
        opening = fold(text).split(",")[0].split(".")[0]
        said = {mention.meaning for mention in self._yes_no.mentions(opening)} if len(opening.split()) <= 2 else set()
        return next(iter(said)) if len(said) == 1 else None


def _times(text: str) -> set[str]:
    """Return the times of day in a text, on a dial of twelve hours: 18:30 is 6:30 PM."""
    return {f"{int(hour) % 12}:{minute}" for hour, minute in _CLOCK.findall(text)}


def _named(text: str, names: Iterable[str]) -> set[str]:
    """Return the names in a text; one that is part of another name there does not count."""
    phrases = Phrases({name: [name] for name in names})
    return {mention.meaning for mention in phrases.mentions(text)}
