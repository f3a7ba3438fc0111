"""Words values in a language: numbers with their units, durations, colours, modes, titles, items."""

import re
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any, Literal

from hatrain.contract.load import Document
from hatrain.errors import nearest
from hatrain.home.devices.sensors import CONDITIONS
from hatrain.home.devices.services import COLORS, FAN_MODES
from hatrain.home.devices.states import DURATIONS, HUMIDITIES, PERCENTS, TEMPERATURES, WARMTHS, Unit
from hatrain.home.language.grammar import PLACEHOLDER, Forms, Grammar, Noun
from hatrain.home.language.schema import MODES, ValuesFile

# Placeholder → the key of `numbers` in values.yaml that words it.
_NUMBERS = {
    "brightness": "percent",
    "percentage": "percent",
    "position": "percent",
    "volume": "percent",
    "battery": "percent",
    "humidity": "humidity",
    "count": "count",
}
_DEGREES: dict[Unit, str] = {"C": "celsius", "F": "fahrenheit"}
_WORDS = {"color": COLORS, "hvac_mode": MODES, "fan_mode": FAN_MODES, "warmth": WARMTHS, "condition": CONDITIONS}
_BOILERS: dict[Unit, Sequence[float]] = {"C": range(40, 66, 5), "F": range(105, 151, 5)}
"""Temperatures that water heaters are set to."""
_DIMMED = (1, *PERCENTS)  # the least that is not off
_HEATING_MODES = ("heat", "auto")


class Values:
    """A language's values.yaml."""

    def __init__(self, file: ValuesFile, grammar: Grammar):
        self._file, self._grammar = file, grammar
        self.titles, self.events, self.labels, self.messages = file.title, file.event, file.label, file.message
        self._items = {kind: {forms["base"]: forms for forms in items} for kind, items in file.item.items()}
        self._item_names = {kind: tuple(items) for kind, items in self._items.items()}
        self._default_items = next(iter(self._item_names.values()))
        self.wordings = cache(self._wordings)

    def titles_of(self, domain: str) -> tuple[str, ...]:
        """Return what may be playing on a device, or stand in a calendar."""
        return self.events if domain == "calendar" else self.titles

    def choices(self, slot: str, unit: Unit, noun: Noun | None = None) -> Sequence[Any]:
        """Return the values that a request may name for a placeholder, for this noun where it matters."""
        if slot == "temperature":
            return (_BOILERS if noun is not None and noun.domain == "water_heater" else TEMPERATURES)[unit]
        if slot == "humidity":
            return HUMIDITIES
        if slot == "duration":
            return DURATIONS
        if slot == "title":
            return self.titles
        if slot == "item":
            return self._item_names.get(noun.kind if noun else "", self._default_items)
        if slot == "hvac_mode" and noun is not None and not noun.cools:
            return _HEATING_MODES
        return _DIMMED if slot in ("brightness", "volume") else _WORDS.get(slot, PERCENTS)

    def names(
        self, slot: Literal["color", "hvac_mode", "fan_mode", "warmth", "condition"]
    ) -> dict[str, tuple[str, ...]]:
        """Return what each value of a placeholder is called, in all forms."""
        return {value: tuple(forms.values()) for value, forms in getattr(self._file, slot).items()}

    def durations(self) -> dict[str, tuple[str, ...]]:
        """Return the durations that have words of their own, with these."""
        special = self._file.durations.special.items()
        return {value: tuple(word for words in forms.values() for word in words) for value, forms in special}

    def units(self) -> dict[str, tuple[str, ...]]:
        """Return the words of each unit."""
        return {unit: tuple(dict.fromkeys(words.values())) for unit, words in self._file.units.items()}

    def _wordings(self, slot: str, value: Any, unit: Unit) -> tuple[Forms, ...]:
        """Return the wordings of a value, each with every form that the language gives it."""
        if slot == "title":
            return ({"base": value},)
        if slot == "item":
            return (next(items[value] for items in self._items.values() if value in items),)
        if slot in _WORDS:
            return (getattr(self._file, slot)[str(value)],)
        if slot in ("duration", "remaining"):
            return self._duration(value)
        if slot == "value":
            return self._reading(*value)
        patterns = _patterns(self._file, slot, unit)
        if value not in _COUNTED:  # has no word
            patterns = {form: [text for text in texts if "{words}" not in text] for form, texts in patterns.items()}
        regular = _each(patterns, lambda pattern: self._number(pattern, value))
        special = self._file.extremes.get(str(value)) if _NUMBERS.get(slot) == "percent" else None
        return (*regular, *_each(special, str)) if special else regular

    def _reading(self, number: float, symbol: str) -> tuple[Forms, ...]:
        """Word what a sensor measures. Units without words of their own are said as they are written."""
        for slot, unit in (("percentage", "%"), ("temperature", "°C"), ("temperature", "°F")):
            if symbol == unit:
                return self.wordings(slot, number, "F" if unit == "°F" else "C")
        return ({"base": f"{self._grammar.number(number)} {symbol}".strip()},)

    def _number(self, pattern: str, value: float) -> str:
        category = self._grammar.rules.plural(value)
        number = self._grammar.number(value)

        def fill(match: re.Match[str]) -> str:
            if match[1] == "words":
                return self._file.words[int(value)]
            return number if match[1] == "n" else self._file.units[match[1]][category]

        return PLACEHOLDER.sub(fill, pattern)

    def _duration(self, value: str) -> tuple[Forms, ...]:
        amounts = list(map(int, value.split(":")))
        regular: dict[str, str] = {}
        for form, parts in self._file.durations.parts.items():
            patterns = zip((parts.hour, parts.minute, parts.second), amounts, strict=True)
            regular[form] = self._grammar.listed([self._number(p, amount) for p, amount in patterns if amount])
        special = self._file.durations.special.get(value)
        return (regular, *_each(special, str)) if special else (regular,)


_COUNTED = range(101)
"""The numbers that a language has words for."""


def _patterns(file: ValuesFile, slot: str, unit: Unit) -> dict[str, list[str]]:
    return getattr(file.numbers, _DEGREES[unit] if slot == "temperature" else _NUMBERS[slot])


def _each(wordings: dict[str, list[str]], fill: Callable[[str], str]) -> tuple[Forms, ...]:
    """Turn form → wordings into wordings with all forms; a form with fewer of them repeats its own."""
    count = max(map(len, wordings.values()))
    return tuple({form: fill(texts[index % len(texts)]) for form, texts in wordings.items()} for index in range(count))


def forms_of(file: ValuesFile, slot: str, units: Iterable[Unit]) -> set[str]:
    """Return the forms that every value of a placeholder has: those that a template may use."""
    if slot in ("title", "value"):
        return {"base"}
    if slot == "item":
        return set.intersection(*(set(forms) for items in file.item.values() for forms in items))
    if slot in _WORDS:
        return set.intersection(*map(set, getattr(file, slot).values()))
    if slot in ("duration", "remaining"):
        return set.intersection(set(file.durations.parts), *map(set, file.durations.special.values()))
    return set.intersection(*(set(_patterns(file, slot, unit)) for unit in units))


def check_units(document: Document, problems: list[str]) -> None:
    """Add a problem for each unit word that a pattern of values.yaml uses and its `units` lack."""
    units = document.data["units"]
    for keys in (("numbers",), ("durations", "parts")):
        for key, pattern in _texts(document.data, keys):
            for word, _ in PLACEHOLDER.findall(pattern):
                if word not in ("n", "words") and word not in units:
                    accepted = f"{{n}} or one of the units{nearest(word, units)}"
                    problems.append(f"{document.where(key)}: found {{{word}}}; accepted: {accepted}")


def _texts(data: Any, key: tuple[str | int, ...]) -> Iterable[tuple[tuple[str | int, ...], str]]:
    """Yield the texts below a key of a file, each with its own key."""
    value = data
    for part in key:
        value = value[part]
    if isinstance(value, str):
        yield key, value
    else:
        for part in value if isinstance(value, dict) else range(len(value)):
            yield from _texts(data, (*key, part))
