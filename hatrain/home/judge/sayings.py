"""Does an answer say what is asked, and does it claim that something has been done? In the words of its language."""

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any, Literal

from hatrain.errors import BadInput
from hatrain.home.calls.colors import CSS_COLORS, color_value
from hatrain.home.calls.compare import duration_seconds, to_number
from hatrain.home.devices.entity import Entity
from hatrain.home.judge.asked import RESPONSE, STATE, Asked
from hatrain.home.judge.numbers import Number, Numbers, Unit
from hatrain.home.judge.phrases import Mention, Phrases, Sentences, fold, without
from hatrain.home.judge.response import Response
from hatrain.home.language.load import Language, find_language, load_language

_PERCENT_OF = {"brightness": 1 / 2.55, "volume_level": 100}
"""Attributes that are said in percent, and by how much they are multiplied for it."""
_PERCENT = (
    "brightness_pct", "percentage", "current_position", "current_tilt_position", "position", "battery_level",
    "battery", "current_humidity", "humidity",
)  # fmt: skip
_DEGREES = ("temperature", "current_temperature", "target_temp_high", "target_temp_low")
_DURATIONS = ("remaining", "duration")
_COLORS = ("rgb_color", "color", "color_name", "hs_color")
_MODES = ("hvac_mode", "fan_mode")

STATES: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("light", "switch", "fan", "input_boolean", "siren", "humidifier", "remote"), ("on", "off")),
    **dict.fromkeys(("cover", "valve"), ("open", "closed", "opening", "closing")),
    "lock": ("locked", "unlocked"),
    "media_player": ("playing", "paused", "idle", "standby", "on", "off"),
    "vacuum": ("cleaning", "docked", "returning", "paused", "idle"),
    "lawn_mower": ("mowing", "docked", "returning", "paused"),
    "timer": ("active", "paused", "idle"),
    "person": ("home", "not_home"),
    "device_tracker": ("home", "not_home"),
}
"""The states that an entity of a domain is either in or not."""

_SWITCHED = {"climate": "switch", "water_heater": "switch"}
"""Domains whose states are modes, and of which one may still say that they are on or off."""

_ALSO: Mapping[str, tuple[str, ...]] = {
    "playing": ("on",),
    "paused": ("on",),
    "idle": ("on",),
    "standby": ("off",),
    "opening": ("open",),
    "closing": ("closed",),
}
"""What may be said of a state besides itself."""


class Sayings:
    """What answers in one language say."""

    def __init__(self, language: Language):
        self._language, self._words = language, language.words
        self._numbers = Numbers(language.values.units())
        self._yes_no = Phrases({"yes": language.words.affirm, "no": language.words.deny})
        self._responses = Response(language.words, self._numbers)
        self._done = Phrases({"done": language.words.done})
        self._undone = Phrases({"undone": language.words.undone})
        self._colors = Phrases(language.values.names("color"), language.words.negations)
        self._durations = Phrases(language.values.durations())
        self._actions = self._sentences("action", None)
        self._refusals = Sentences(
            [*self._templates("already", None), *self._templates("missing", None)],
            language.grammar.agreement,
            language.words.negations,
        )
        self._states, self._modes = cache(self._state_phrases), cache(self._mode_phrases)
        self._sentences_of = cache(self._sentences)

    def problem(self, text: str, asked: Asked, everything: Sequence[Asked], home: Iterable[Entity]) -> str | None:
        """Return why an answer does not say what is asked, in one line; None if it does.

        `everything` is all that the question asks: the values of its other parts may be said too.
        """
        home = tuple(home)
        entity = next((each for each in home if each.entity_id == asked.about), None)
        if asked.key == RESPONSE:
            names = [each.name for each in home if each.domain == asked.about.partition(".")[0]]
            wrong = self._responses.wrong(text, str(asked.value), names)
        else:
            wrong = self._wrong(text, asked, everything, entity)
        if wrong is None:
            return None
        return f"{asked.about}: {asked.key} is {json.dumps(asked.value, ensure_ascii=False)}, the answer {wrong}"

    def claims_done(self, text: str) -> bool:
        """Whether an answer says that something has been done, or is being done."""
        if self._refusals.include(text):
            return False
        return self._actions.include(text) or bool(self._done.mentions(text) and not self._undone.mentions(text))

    def contradicts(self, text: str, expected: str, domain: str) -> str | None:
        """Return the state that an answer claims where the expected one names another state of the same device."""
        domain = _SWITCHED.get(domain, domain)
        if domain not in STATES:
            return None
        right, not_right = self._states_said(expected, domain)
        said, _ = self._states_said(text, domain)
        wrong = {state for state in said if right.isdisjoint((state, *_ALSO.get(state, ())))} if right else set()
        wrong = (wrong | (said & not_right)) - right
        return _listed(sorted(wrong)) if wrong and not said & right else None

    def _states_said(self, text: str, domain: str) -> tuple[set[str], set[str]]:
        """Return the states that a text claims, and those that it denies; to deny one of two is to claim the other."""
        mentions = self._states(domain).mentions(text)
        said = {mention.meaning for mention in mentions if not mention.negated}
        denied = {mention.meaning for mention in mentions if mention.negated}
        left = set(STATES[domain]) - denied
        return said or (left if denied and len(left) == 1 else set()), denied

    def _wrong(self, text: str, asked: Asked, everything: Sequence[Asked], entity: Entity | None) -> str | None:
        if asked.supposed is not None and (wrong := self._yes_or_no(text, asked)) is not None:
            return wrong or None
        key, value, domain = asked.key, asked.value, asked.about.partition(".")[0]
        names = [entity.name, *entity.aliases] if entity else []
        if key in _DURATIONS:
            return self._wrong_duration(without(text, names), value)
        if key in _COLORS:
            return self._wrong_word(self._colors.mentions(text, names), self._color_names(value))
        is_off = (domain, key, value) == ("climate", STATE, "off")
        if is_off and self._sentences_of("status", "climate.state off").include(text):
            return None
        if key in _MODES or (key == STATE and domain == "climate"):
            slot = "fan_mode" if key == "fan_mode" else "hvac_mode"
            return self._wrong_word(self._modes(slot, str(value)).mentions(text, names), {str(value)})
        if asked.said:
            phrases = Phrases(asked.said, self._words.negations)
            return self._wrong_mentions(phrases.mentions(text, names), set(asked.said), str(value))
        if key == STATE and domain in STATES:
            return self._wrong_state(text, domain, str(value), names)
        number = to_number(value)
        if number is None:
            return None if fold(str(value)) in fold(text) else "does not say it"
        unit = _unit(key, entity)
        others = [_in_unit(each.key, to_number(each.value)) for each in everything if _unit(each.key, entity) == unit]
        return self._wrong_number(
            without(text, names), key, number, unit, [each for each in others if each is not None]
        )

    def _yes_or_no(self, text: str, asked: Asked) -> str | None:
        """Return "" for the right yes or no, what is wrong for the other one, None where there is neither."""
        said = {mention.meaning for mention in self._yes_no.mentions(text)}
        if len(said) != 1:
            return None
        right = "yes" if asked.supposed == asked.value else "no"
        return "" if said == {right} else f"says {next(iter(said))}"

    def _wrong_number(self, text: str, key: str, value: float, unit: Unit, others: Sequence[float]) -> str | None:
        due = _in_unit(key, value)
        assert due is not None
        found = [number for number in self._numbers.numbers(text) if number.unit in (unit, "")]
        if not any(_is(number, due, key) for number in found):
            return f"says {_listed(f'{number.value:g}' for number in found)}" if found else "does not say it"
        wrong = [
            number for number in found if number.unit and not any(_is(number, other, key) for other in (due, *others))
        ]
        return f"also says {_listed(f'{number.value:g}' for number in wrong)}" if wrong else None

    def _wrong_duration(self, text: str, value: Any) -> str | None:
        due = duration_seconds(value)
        found = self._numbers.seconds(text)
        if due is None:
            return None if fold(str(value)) in fold(text) else "does not say it"
        found += [duration_seconds(mention.meaning) or 0 for mention in self._durations.mentions(text)]
        if any(abs(seconds - due) < 1 for seconds in found):
            return None
        return f"says {_listed(f'{seconds:g} s' for seconds in found)}" if found else "does not say it"

    def _mode_phrases(self, slot: Literal["hvac_mode", "fan_mode"], value: str) -> Phrases:
        names: dict[str, Iterable[str]] = {value: (value,), **self._language.values.names(slot)}
        if slot == "hvac_mode":
            names["off"] = [*names.get("off", ()), *self._words.states["off"]]
        return Phrases(names, self._words.negations)

    def _wrong_word(self, mentions: Sequence[Mention], right: set[str]) -> str | None:
        said = {mention.meaning for mention in mentions if not mention.negated}
        if said & right and not (said - right):
            return None
        # One word may stand for several values; it then says each of them.
        return f"says {_listed(sorted(said - right) or said)}" if said else "does not say it"

    def _wrong_state(self, text: str, domain: str, value: str, names: Sequence[str]) -> str | None:
        if value not in STATES[domain]:
            return None if fold(value.replace("_", " ")) in fold(text) else "does not say it"
        told = {
            state for state in STATES[domain] if self._sentences_of("status", f"{domain}.state {state}").include(text)
        }
        if told == {value}:
            return None
        if told and value not in told:
            return f"says {_listed(sorted(told))}"
        return self._wrong_mentions(self._states(domain).mentions(text, names), set(STATES[domain]), value)

    def _wrong_mentions(self, mentions: Sequence[Mention], states: set[str], value: str) -> str | None:
        """Return what is wrong with the states that a text mentions; one that is denied leaves the others."""
        said = {mention.meaning for mention in mentions if not mention.negated}
        denied = {mention.meaning for mention in mentions if mention.negated}
        left = states - denied
        if not said and denied and left == {value}:
            return None
        wrong = said - {value, *_ALSO.get(value, ())}
        if wrong:
            return f"says {_listed(sorted(wrong))}"
        if value in denied:
            return f"says not {value}"
        return None if value in said else "does not say it"

    def _state_phrases(self, domain: str) -> Phrases:
        states = self._words.states
        named = {state: states.get(f"{domain}.{state}", states.get(state, ())) for state in STATES[domain]}
        return Phrases(named, self._words.negations)

    def _color_names(self, value: Any) -> set[str]:
        names = self._language.values.names("color")
        color = color_value("rgb_color" if isinstance(value, list | tuple) else "color_name", value)
        if color is None:
            return {str(value)}
        distances = {
            name: sum((a - b) ** 2 for a, b in zip(CSS_COLORS[name], color, strict=True))
            for name in names
            if name in CSS_COLORS
        }
        nearest = min(distances.values())
        return {name for name, distance in distances.items() if distance <= nearest + 12}

    def _sentences(self, scope: str, key: str | None) -> Sentences:
        return Sentences(self._templates(scope, key), self._language.grammar.agreement, self._words.negations)

    def _templates(self, scope: str, key: str | None) -> list[str]:
        return [
            template.text
            for section in self._language.sections
            if section.scope == scope
            and (section.persona or scope in ("already", "missing"))
            and (key is None or key in section.keys)
            for template in section.templates
        ]


@cache
def sayings_of(language: str) -> Sayings | None:
    """Return the sayings of a language by its name or code; None for a language that has no folder."""
    try:
        return Sayings(load_language(find_language(language)))
    except BadInput:
        return None


def _unit(key: str, entity: Entity | None) -> Unit:
    if key in _PERCENT or key in _PERCENT_OF:
        return "percent"
    if key in _DEGREES:
        return "degree"
    unit = str(entity.attributes.get("unit_of_measurement", "")) if entity is not None and key == STATE else ""
    return "percent" if unit == "%" else "degree" if unit.startswith("°") else ""


def _in_unit(key: str, value: float | None) -> float | None:
    return None if value is None else value * _PERCENT_OF.get(key, 1)


def _is(number: Number, value: float, key: str) -> bool:
    """Whether a number says a value: rounded where Home Assistant stores another scale, else to the last decimal."""
    reach = number.half if key in _PERCENT_OF else min(number.half, 0.05)
    return abs(number.value - value) <= reach + 1e-9 if key in _PERCENT_OF else abs(number.value - value) < reach


def _listed(words: Iterable[str]) -> str:
    return ", ".join(words)
