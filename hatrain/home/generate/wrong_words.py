"""Words answers that are not so: lies about a state, claims that something was done, refusals, another language."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from hatrain.home.devices.actions import QUESTIONS, STATUS_SLOTS, Action
from hatrain.home.generate.conversation import Conversation, Topic
from hatrain.home.generate.questions import status_value
from hatrain.home.generate.wording import Wording
from hatrain.home.homes.home import Draw, pick
from hatrain.home.judge.asked import Asked
from hatrain.home.judge.sayings import Sayings, sayings_of
from hatrain.home.language.grammar import Name, name_known_device
from hatrain.home.language.load import Language, find_language, load_language
from hatrain.home.language.split import Side, Templates, split_templates
from hatrain.home.language.templates import NEUTRAL

FOREIGN = ("english", "german", "french")
"""Languages of wrong answers; one that is the row's own is left out."""

_OPPOSITES = (("turn_on", "turn_off"), ("open_cover", "close_cover"), ("lock", "unlock"), ("media_play", "media_pause"))


@dataclass(frozen=True)
class Voice:
    """Words answers in one language."""

    language: Language
    templates: Templates

    def action(self, draw: Draw, persona: str, action: Action, name: Name, unit: Any) -> str:
        """Say that an action is carried out."""
        wording = Wording(self.language)
        values = {slot: pick(draw, self.language.values.choices(slot, unit, name.noun)) for slot in action.slots}
        return self._sentence(draw, (persona, "action", action.key), name, values, unit, wording)

    def status(self, draw: Draw, persona: str, key: str, name: Name, values: Mapping[str, Any], unit: Any) -> str:
        return self._sentence(draw, (persona, "status", key), name, values, unit, Wording(self.language))

    def refusal(self, draw: Draw, topic: Topic, missing: bool) -> str | None:
        """Say that a device is not there, or that there is nothing left to do."""
        templates = self.templates.missing if missing else self.templates.already.get(_key(topic), ())
        wording = Wording(self.language)
        return wording.sentence(draw, templates, wording.name(draw, topic.name)) if templates else None

    def _sentence(
        self, draw: Draw, key: tuple[str, str, str], name: Name, values: Mapping[str, Any], unit: Any, wording: Wording
    ) -> str:
        fillers = wording.name(draw, name)
        for slot, value in values.items():
            fillers[slot] = pick(draw, self.language.values.wordings(slot, value, unit))
        return wording.sentence(draw, self.templates.answers[key], fillers)


class WrongWords:
    """Words wrong answers to a conversation; each method returns None where the error does not fit."""

    def __init__(self, language: Language, templates: Templates, side: Side):
        self._voice, self._side = Voice(language, templates), side
        sayings = sayings_of(language.code)
        assert sayings is not None, f"{language.name} has no folder"
        self._sayings: Sayings = sayings
        self._others = [name for name in FOREIGN if name != language.name]

    def false_claim(self, draw: Draw, conversation: Conversation) -> str | None:
        """Say that what cannot be done is done."""
        topic, home = conversation.topic, conversation.home
        if topic is None or topic.action is None:
            return None
        text = self._voice.action(draw, home.persona, topic.action, topic.name, home.unit)
        return text if self._sayings.claims_done(text) else None

    def lie(self, draw: Draw, conversation: Conversation) -> str | None:
        """Say another state or value than the device has."""
        topic, home = conversation.topic, conversation.home
        if topic is None or topic.state is None:
            return None
        if not topic.question:
            return self._opposite_already(draw, topic)
        if topic.question in _OPEN:
            return None
        (asked,) = conversation.asked
        key = pick(draw, list(QUESTIONS[topic.question]))
        values = {}
        for slot in STATUS_SLOTS.get(key, ()):
            choices = self._voice.language.values.choices(_SLOTS.get(slot, slot), home.unit, topic.name.noun)
            values[slot] = pick(draw, choices)
        text = self._voice.status(draw, home.persona, key, topic.name, values, home.unit)
        return text if self._is_wrong(text, asked, conversation) else None

    def false_refusal(self, draw: Draw, conversation: Conversation) -> str | None:
        """Say that a device that is there is not, or that what is open is done."""
        topic = conversation.topic
        return None if topic is None else self._voice.refusal(draw, topic, missing=draw() < 0.7)

    def foreign(self, draw: Draw, conversation: Conversation) -> str | None:
        """Answer rightly, in another language."""
        topic, home = conversation.topic, conversation.home
        if topic is None:
            return None
        voice = _voice_of(pick(draw, self._others), self._side)
        language = voice.language
        name = name_known_device(
            language.grammar, topic.name.entity_id, topic.name.friendly, None, None, language.unknown_class
        )
        if topic.action is not None:
            return voice.refusal(draw, topic._replace(name=name), missing=conversation.kind == "missing")
        if topic.state is None or topic.question in _OPEN:
            return None
        key = next(key for key, answers in QUESTIONS[topic.question].items() if answers(topic.state))
        values = {slot: status_value(key, slot, topic.state) for slot in STATUS_SLOTS.get(key, ())}
        return voice.status(draw, NEUTRAL, key, name, values, home.unit)

    def _opposite_already(self, draw: Draw, topic: Topic) -> str | None:
        service = topic.action.service if topic.action else ""
        domain, _, name = service.partition(".")
        for pair in _OPPOSITES:
            if name in pair:
                other = f"{domain}.{pair[1 - pair.index(name)]}"
                templates = self._voice.templates.already.get(other, ())
                wording = Wording(self._voice.language)
                return wording.sentence(draw, templates, wording.name(draw, topic.name)) if templates else None
        return None

    def _is_wrong(self, text: str, asked: Asked, conversation: Conversation) -> bool:
        return self._sayings.problem(text, asked, [asked], conversation.home.entities) is not None


_OPEN = ("binary_sensor.state", "sensor.value", "weather.state", "calendar.event")
"""Questions whose answers are drawn from no list of values."""

_SLOTS = {"remaining": "duration", "battery": "brightness", "count": "brightness"}
"""Placeholders of answers whose values are drawn as those of another."""


def _key(topic: Topic) -> str:
    return topic.action.key if topic.action else ""


@cache
def _voice_of(name: str, side: Side) -> Voice:
    language = load_language(find_language(name))
    return Voice(language, split_templates(language, side))
