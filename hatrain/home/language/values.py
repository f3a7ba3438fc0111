"""How a language says a value: numbers with their units, durations, colours, modes, titles, items."""

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from hatrain.home.devices.services import COLORS, FAN_MODES, HVAC_MODES
from hatrain.home.devices.states import DURATIONS, HUMIDITIES, PERCENTS, TEMPERATURES, Unit
from hatrain.home.language.grammar import PLACEHOLDER, Grammar, Noun
from hatrain.home.language.piles import Text

Forms = Mapping[str, str]  # form → text; `base` is always there

# Placeholder → the kind of number that says it (a key of `numbers` in values.yaml).
NUMBERS = {
    "brightness": "percent",
    "percentage": "percent",
    "position": "percent",
    "volume": "percent",
    "battery": "percent",
    "humidity": "humidity",
    "count": "count",
}
WORDS = {"color": tuple(COLORS), "hvac_mode": tuple(HVAC_MODES), "fan_mode": tuple(FAN_MODES)}
_MODES = tuple(mode for mode in HVAC_MODES if mode != "off")
_HEATING_MODES = ("heat", "auto")
UNITS = ("percent", "degree", "hour", "minute", "second", "thing")


class Values:
    """The values.yaml of a language. `say` gives a value's wordings, `choices` what may be drawn for a slot."""

    def __init__(self, records: Mapping[str, Any], grammar: Grammar):
        self._records, self._grammar = records, grammar
        self.titles = tuple(str(title) for title in records["title"])
        self._items = {
            str(kind): {record["base"]: record for record in map(as_forms, items)}
            for kind, items in records["item"].items()
        }
        self._item_names = {kind: tuple(items) for kind, items in self._items.items()}
        self._usual_items = next(iter(self._item_names.values()))
        self.say = cache(self._say)

    def choices(self, slot: str, unit: Unit, noun: Noun | None = None) -> Sequence[Any]:
        """Return the values that a request may name for a placeholder: those that suit the noun, where it matters."""
        if slot == "temperature":
            return TEMPERATURES[unit]
        if slot == "humidity":
            return HUMIDITIES
        if slot == "duration":
            return DURATIONS
        if slot == "title":
            return self.titles
        if slot == "item":
            return self._item_names.get(noun.kind if noun else "", self._usual_items)
        if slot == "hvac_mode":
            return _MODES if noun is None or noun.cools else _HEATING_MODES
        return WORDS.get(slot, PERCENTS)

    def _say(self, slot: str, value: Any, unit: Unit) -> tuple[Forms, ...]:
        """Return the wordings of a value, each with every form that the language gives it."""
        if slot == "title":
            return ({"base": value},)
        if slot == "item":
            return (next(items[value] for items in self._items.values() if value in items),)
        if slot in WORDS:
            return (as_forms(self._records[slot][value]),)
        if slot in ("duration", "remaining"):
            return self._duration(value)
        kind = {"C": "celsius", "F": "fahrenheit"}[unit] if slot == "temperature" else NUMBERS[slot]
        return _variants(self._records["numbers"][kind], lambda pattern: self._number(pattern, value))

    def _number(self, pattern: str, value: float) -> str:
        category = self._grammar.rules.plural(value)
        units = self._records["units"]
        number = self._grammar.number(value)
        return PLACEHOLDER.sub(
            lambda match: number if match[1] == "n" else units[match[1]][category], pattern
        )

    def _duration(self, value: str) -> tuple[Forms, ...]:
        amounts = dict(zip(("hour", "minute", "second"), map(int, value.split(":")), strict=True))
        durations = self._records["durations"]

        def long(form: str) -> str:
            patterns = durations["parts"][form]
            parts = [self._number(patterns[unit], amount) for unit, amount in amounts.items() if amount]
            return self._grammar.listed(parts)

        built: Forms = {form: long(form) for form in durations["parts"]}
        special = durations.get("special", {}).get(value)
        return (built, *_variants(special, str)) if special else (built,)


def as_forms(record: Any) -> Forms:
    """Return a record that may be one plain word as a mapping of forms."""
    return (
        {key: str(text) for key, text in record.items()}
        if isinstance(record, Mapping)
        else {"base": str(record)}
    )


def as_variants(record: Any) -> Mapping[str, Sequence[Text]]:
    """Return `form → wordings` of a record that may be a plain list (its base form alone)."""
    return record if isinstance(record, Mapping) else {"base": record}


def _variants(record: Any, make: Any) -> tuple[Forms, ...]:
    forms = as_variants(record)
    count = max(len(patterns) for patterns in forms.values())
    return tuple(
        {form: make(patterns[index % len(patterns)]) for form, patterns in forms.items()}
        for index in range(count)
    )


def forms_of(records: Mapping[str, Any], slot: str, units: Iterable[Unit]) -> set[str]:
    """Return the forms that every value of a slot has: those that a template may ask for."""
    if slot == "title":
        return {"base"}
    if slot == "item":
        return set.intersection(
            *(set(as_forms(record)) for items in records["item"].values() for record in items)
        )
    if slot in WORDS:
        return set.intersection(*(set(as_forms(record)) for record in records[slot].values()))
    if slot in ("duration", "remaining"):
        special = records["durations"].get("special", {}).values()
        return set.intersection(
            set(records["durations"]["parts"]), *(set(as_variants(record)) for record in special)
        )
    if slot == "temperature":
        kinds = [{"C": "celsius", "F": "fahrenheit"}[unit] for unit in units]
        return set.intersection(*(set(as_variants(records["numbers"][kind])) for kind in kinds))
    return set(as_variants(records["numbers"][NUMBERS[slot]]))
