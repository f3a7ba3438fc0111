"""How much of Home Assistant's own test sentences the generator can draw: shapes, bigrams, verbatim matches."""

import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from hatrain.home.clients.client import Client
from hatrain.home.clients.guide_tools import intent_of
from hatrain.home.generate.conversations import Conversation, ConversationGenerator, Topic
from hatrain.home.homes.random_homes import RandomHomes
from hatrain.home.intents.clone import read_sentences
from hatrain.home.intents.shape import Shape, make_shape, shape_of
from hatrain.home.language.load import Language
from hatrain.home.language.split import Side, split_names, split_templates

ROWS = 20_000
"""Rows that are drawn in a language. One in eight is of the test side, as in a dataset of this size."""

_TEST_EVERY = 8
_STEP = 256  # rows between two reports of progress
_EDGE = ""  # stands for the start and the end of a sentence

Progress = Callable[[str, int, int], None]  # what is drawn, rows so far, rows in all


@dataclass(frozen=True)
class Drawn:
    """What the generator drew: shapes, requests as their words, and the bigrams in them."""

    shapes: frozenset[Shape]
    requests: frozenset[tuple[str, ...]]
    bigrams: frozenset[tuple[str, str]]


@dataclass(frozen=True)
class Coverage:
    """The test sentences of a language with their shapes, against what was drawn in so many rows."""

    language: str
    client: str
    rows: int
    sentences: tuple[tuple[str, Shape], ...]
    drawn: Drawn

    def covered(self, shape: Shape) -> bool:
        return shape in self.drawn.shapes

    @property
    def verbatim(self) -> tuple[str, ...]:
        """The sentences that were drawn word by word. Tests must not be in the tables."""
        return tuple(text for text, _ in self.sentences if words(text) in self.drawn.requests)

    @property
    def known_bigrams(self) -> float:
        """The share of the test sentences' bigrams that occur in drawn requests.

        Every occurrence counts, so that what people say often weighs more; the start and the end of a sentence count
        as words, case and punctuation do not.
        """
        said = [pair for text, _ in self.sentences for pair in bigrams(words(text))]
        return sum(pair in self.drawn.bigrams for pair in said) / (len(said) or 1)


def coverage(
    folder: Path, language: Language, client: Client, rows: int, seed: int, progress: Progress | None = None
) -> Coverage:
    """Compare a clone's sentences with drawn rows. Raises BadInput for a folder or a language without tests."""
    tests = read_sentences(folder, language.code)
    sentences = tuple((text, shape) for block in tests.blocks for shape in (shape_of(block, tests),)
                      for text in block.sentences)  # fmt: skip
    return Coverage(language.name, client.name, rows, sentences, _drawn(language, client, rows, seed, progress))


def words(text: str) -> tuple[str, ...]:
    """Return the words of a text in lower case, without punctuation."""
    return tuple(re.findall(r"[^\W_]+", text.lower()))


def bigrams(sentence: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    return pairwise((_EDGE, *sentence, _EDGE))


def _drawn(language: Language, client: Client, rows: int, seed: int, progress: Progress | None) -> Drawn:
    shapes: set[Shape] = set()
    requests: set[tuple[str, ...]] = set()
    for number, conversation in enumerate(_conversations(language, client, rows, seed), 1):
        if shape := conversation.shape or _shape_of_topic(conversation):
            shapes.add(shape)
        requests.update(words(turn.user) for turn in conversation.turns)
        if progress and (number % _STEP == 0 or number == rows):
            progress(language.name, number, rows)
    pairs = frozenset(pair for request in requests for pair in bigrams(request))
    return Drawn(frozenset(shapes), frozenset(requests), pairs)


def _conversations(language: Language, client: Client, rows: int, seed: int) -> Iterator[Conversation]:
    draw = random.Random(f"{seed}/{language.code}/coverage").random
    sides: dict[Side, tuple[RandomHomes, ConversationGenerator]] = {}
    both: tuple[Side, ...] = ("train", "test")
    for side in both:
        homes = RandomHomes(language, split_names(language.names, side), client)
        templates, apart = split_templates(language, side), client.row_format == "messages"
        sides[side] = homes, ConversationGenerator(language, templates, homes, client, apart=apart)
    for number in range(1, rows + 1):
        homes, generator = sides["train" if number % _TEST_EVERY else "test"]
        yield generator.draw(draw, homes.draw(draw))


def _shape_of_topic(conversation: Conversation) -> Shape | None:
    """Return the shape of a conversation that does not state its own, or None for one that tells too little."""
    topic = conversation.topic
    if topic is None or conversation.kind == "missing":
        return None
    domain = topic.name.domain
    if topic.action:
        tool = intent_of(topic.action.service, topic.action.arguments)
        if tool is None:
            return None
        intent, said = tool.name, {*topic.action.slots, *tool.fixed}
        if "title" in said:
            said = (said - {"title"}) | {"search_query"}
    else:
        intent = _ASKS.get(topic.question, "HassGetState" if topic.question.endswith(".state") else "")
        said = set()
        if not intent:
            return None
    said |= _place(topic, conversation.turns[0].user) if conversation.kind == "implied" else {"name"}
    attributes = (topic.state or {}).get("attributes", {})
    device_class = str(attributes.get("device_class") or "") if domain == "cover" else ""
    return make_shape(intent, said, domain, device_class)


_ASKS = {"climate.temperature": "HassClimateGetTemperature", "timer.remaining": "HassTimerStatus"}


def _place(topic: Topic, request: str) -> set[str]:
    """Return `area` if a request says the room of its device."""
    room, text = topic.name.room, request.lower()
    return {"area"} if room and any(form and form.lower() in text for form in room.forms.values()) else set()
