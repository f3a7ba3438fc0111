"""Estimates the prefix and suffix ids of a model's replies, and tries them on a sample conversation. Nearly every
model's replies are found without them; this is for the rest."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from hatrain.data.labels import Example, Labeller
from hatrain.data.replies import ReplyFinder
from hatrain.data.rows import Message, Row
from hatrain.data.template import TemplateRefusal
from hatrain.errors import BadInput

LEADING = {"no leading whitespace": "", "leading space": " ", "leading newline": "\n"}
IN_PLACE = "as in the sample"
"""Take the ids from the tokenized sample, where none of LEADING fits."""

_SYSTEM = Message(
    "system",
    "You are Al, a helpful assistant that controls a house.\n"
    "Services: light.turn_on(), light.turn_off()\n"
    "Devices:\nlight.kitchen 'Kitchen Light' = off\nlight.porch 'Porch Light' = on",
)
_ROUNDS = (
    Message("user", "Turn on the kitchen light."),
    Message(
        "assistant",
        "Turning on the kitchen light.\n"
        '```homeassistant\n{"service": "light.turn_on", "target_device": "light.kitchen"}\n```',
        train=True,
    ),
    Message("user", "Is the porch light on?"),
    Message("assistant", "Yes, it is on.", train=True),
)


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to tokenize the prefix or the suffix."""

    how: str
    """A key of LEADING, or IN_PLACE."""
    ids: tuple[int, ...]
    finds_all: bool
    """Whether it finds every reply of the sample, together with some candidate for the other marker."""


@dataclass(frozen=True, slots=True)
class Split:
    """The text around replies, and the candidates for its ids."""

    prefix: str
    suffix: str
    prefixes: tuple[Candidate, ...]
    suffixes: tuple[Candidate, ...]
    sample: Example | None
    """The sample conversation as labelled with the best ids; None when no candidate finds every reply."""
    is_needless: bool
    """Whether the chat template alone finds every reply."""

    @property
    def prefix_ids(self) -> tuple[int, ...]:
        """The first prefix that finds every reply; empty when none does."""
        return _first(self.prefixes)

    @property
    def suffix_ids(self) -> tuple[int, ...]:
        """The first suffix that ends every reply; empty when none does."""
        return _first(self.suffixes)


def find_split(tokenizer: PreTrainedTokenizerBase) -> Split:
    """Return the estimated prefix and suffix of a tokenizer's replies, tried on a sample of two rounds.

    Raises BadInput when the chat template renders no plain conversation, or puts nothing before a reply.
    """
    finder = ReplyFinder(tokenizer)
    # All of the generation prompt: a reply is trained after exactly that.
    prefix = finder.markers.prompt.lstrip() or finder.markers.header.strip()
    suffix = (finder.markers.stops or (str(tokenizer.eos_token),))[0].strip()
    if not prefix:
        raise BadInput("the chat template puts nothing before a reply, so there is no prefix to find")
    row = _sample(finder)
    prefixes = _tokenized(tokenizer, prefix)
    suffixes = _tokenized(tokenizer, suffix)
    in_place = _ids_in_place(tokenizer, finder, row, prefix)
    if in_place and in_place not in prefixes.values():
        prefixes[IN_PLACE] = in_place
    (by_template,) = Labeller(tokenizer).label([row])
    known = by_template if isinstance(by_template, Example) else None
    labelled = {
        (before, after): _label_sample(tokenizer, row, known, prefixes[before], suffixes[after])
        for before in prefixes
        for after in suffixes
    }
    return Split(
        prefix,
        suffix,
        tuple(Candidate(how, ids, any(labelled[how, after] for after in suffixes)) for how, ids in prefixes.items()),
        tuple(Candidate(how, ids, any(labelled[before, how] for before in prefixes)) for how, ids in suffixes.items()),
        next((example for example in labelled.values() if example), None),
        known is not None,
    )


def _first(candidates: Sequence[Candidate]) -> tuple[int, ...]:
    return next((candidate.ids for candidate in candidates if candidate.finds_all), ())


def _sample(finder: ReplyFinder) -> Row:
    """The sample conversation, without its system turn if the template refuses one."""
    messages: tuple[Message, ...] = (_SYSTEM, *_ROUNDS)
    try:
        finder.template.render(messages)
    except TemplateRefusal:
        messages = _ROUNDS
    return Row(Path("sample"), 0, 1, messages)


def _tokenized(tokenizer: PreTrainedTokenizerBase, text: str) -> dict[str, tuple[int, ...]]:
    """Return a text's ids after different white space, without tokens of that white space alone."""
    ids = {}
    for how, leading in LEADING.items():
        encoded = tokenizer(leading + text, add_special_tokens=False, return_offsets_mapping=True)
        tokens = zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
        ids[how] = tuple(token for token, (_, end) in tokens if end > len(leading))
    return ids


def _ids_in_place(tokenizer: PreTrainedTokenizerBase, finder: ReplyFinder, row: Row, prefix: str) -> tuple[int, ...]:
    """Return the ids of the prefix before the sample's last reply."""
    text = finder.template.render(row.messages)
    start = text.rfind(prefix)
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    tokens = zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
    stop = start + len(prefix)
    return tuple(token for token, (first, end) in tokens if first >= start and end <= stop and end > start)


def _label_sample(
    tokenizer: PreTrainedTokenizerBase, row: Row, known: Example | None, prefix: Sequence[int], suffix: Sequence[int]
) -> Example | None:
    """Return the labelled sample if these ids find each reply's text and nothing else; or what the chat template finds,
    `known`."""
    (example,) = Labeller(tokenizer, prefix, suffix).label([row])
    if not isinstance(example, Example):
        return None
    texts = [message.content for message in row.messages if message.train]
    # A template may write more into a reply than its text, such as an empty thought.
    by_template = _replies(tokenizer, known) if known else texts
    return example if _replies(tokenizer, example) in (texts, by_template) else None


def _replies(tokenizer: PreTrainedTokenizerBase, example: Example) -> list[str]:
    """The text of each reply, without the token that ends it."""
    return [
        str(tokenizer.decode(sequence.input_ids[start : end - 1])).strip()
        for sequence in example.sequences
        for start, end in sequence.replies
    ]
