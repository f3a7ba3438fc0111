"""How much of Home Assistant's own test sentences the generator can draw: shapes, bigrams, verbatim matches."""

import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from hatrain.home.clients.client import Client
from hatrain.home.generate.conversation import Conversation
from hatrain.home.generate.conversations import ConversationGenerator
from hatrain.home.homes.random_homes import RandomHomes
from hatrain.home.intents.clone import read_sentences
from hatrain.home.intents.shape import Shape, shape_of
from hatrain.home.language.load import Language
from hatrain.home.language.split import Side, split_names, split_templates

ROWS = 40_000
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
        if conversation.shape:
            shapes.add(conversation.shape)
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
