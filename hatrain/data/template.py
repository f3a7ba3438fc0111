"""A tokenizer's chat template as a function from messages to text, and the markers that it puts around replies. They
are found by rendering, so no family of models is known by name."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jinja2
from transformers import PreTrainedTokenizerBase
from transformers.utils.chat_template_utils import render_jinja_template

from hatrain.data.rows import Message
from hatrain.errors import BadInput

Tools = Sequence[Mapping[str, Any]]
Span = tuple[int, int]

_GENERATION_TAG = re.compile(r"\{%-?\s*generation\s*-?%\}")
# Annotated as returning text, it returns the texts and, for each, the ranges in generation tags.
_render_jinja: Callable[..., tuple[list[str], list[list[Span]]]] = render_jinja_template  # type: ignore[assignment]

_DATE = "26 Jul 2024"
"""The default date of Llama 3's template. With today's date a resumed run would get other tokens."""

_PROBE_TURNS = ("hatrainuserone", "hatrainreplyone", "hatrainusertwo", "hatrainreplytwo")


class TemplateRefusal(Exception):
    """The chat template raises an error on a conversation; the message is the template's."""


class ChatTemplate:
    """Renders conversations as `tokenizer.apply_chat_template(…, tokenize=False)` does, with a fixed date."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        self._tokenizer = tokenizer
        self._variables = tokenizer.special_tokens_map

    def render(self, messages: Sequence[Message], tools: Tools = (), *, prompt: bool = False) -> str:
        """Return the text of a conversation, with the header of the next reply if `prompt`.

        Raises TemplateRefusal.
        """
        return self._render(messages, tools, add_generation_prompt=prompt)[0]

    def render_tagged(self, messages: Sequence[Message], tools: Tools = ()) -> tuple[str, list[Span]]:
        """Return the text and the half-open ranges of characters inside `{% generation %}` tags, none without tags.

        Raises TemplateRefusal.
        """
        return self._render(messages, tools, return_assistant_tokens_mask=self.is_tagged(tools))

    def is_tagged(self, tools: Tools = ()) -> bool:
        """Whether the template marks replies itself, with `{% generation %}`."""
        return _GENERATION_TAG.search(self._source(tools)) is not None

    def _source(self, tools: Tools) -> str:
        return self._tokenizer.get_chat_template(None, [dict(tool) for tool in tools] or None)

    def _render(self, messages: Sequence[Message], tools: Tools, **options: bool) -> tuple[str, list[Span]]:
        # As apply_chat_template does: the tokenizer's special tokens, and the options.
        variables: dict[str, Any] = {"date_string": _DATE, **self._variables, **options}
        try:
            rendered, tagged = _render_jinja(
                [[message.for_template() for message in messages]],
                tools=[dict(tool) for tool in tools] or None,
                chat_template=self._source(tools),
                **variables,
            )
        except (jinja2.TemplateError, TypeError, ValueError, LookupError, AttributeError) as error:
            raise TemplateRefusal(str(error) or type(error).__name__) from error
        return rendered[0], tagged[0] if tagged else []


@dataclass(frozen=True, slots=True)
class Markers:
    """The text that a template puts around replies."""

    header: str
    """Before a reply, after a user's turn: `<|im_start|>assistant\\n`."""
    end: str
    """After a reply that another turn follows, up to its end-of-turn token; may be empty."""
    last_end: str
    """The same for the conversation's last reply."""
    user_header: str
    """Before a user's turn, after a reply."""

    @property
    def ends(self) -> tuple[str, ...]:
        """The ends that are not empty, the longest first."""
        return tuple(sorted({self.end, self.last_end} - {""}, key=len, reverse=True))


def find_markers(template: ChatTemplate, tokenizer: PreTrainedTokenizerBase) -> Markers:
    """Find a template's markers by rendering a conversation of two rounds, without a system role if possible.

    Raises BadInput when the template renders no plain conversation.
    """
    lead, header, between, _, tail, prompt = _probe(template, tokenizer.eos_token or "")
    added = added_tokens(tokenizer)
    last_end = end_of_turn(tail, added)
    if last_end and between.startswith(last_end):
        end = last_end
    else:
        end = _middle_end(between, tail, lead, added, tokenizer.eos_token)
    return Markers(_reply_header(header, prompt), end, last_end, user_header=between[len(end) :])


def _probe(template: ChatTemplate, eos: str) -> tuple[str, ...]:
    """Return the literal text before, between and after four turns, and the reply prompt.

    Some templates, such as Phi-3's, end a conversation with the eos unless a reply is prompted.
    """
    user, reply, question, answer = _PROBE_TURNS
    turns = [
        Message("user", user),
        Message("assistant", reply),
        Message("user", question),
        Message("assistant", answer),
    ]
    refusal: TemplateRefusal | None = None
    for opening in ([], [Message("system", "hatrainsystem")]):
        try:
            text = template.render([*opening, *turns])
            unprompted = template.render([*opening, turns[0]])
            prompted = template.render([*opening, turns[0]], prompt=True)
        except TemplateRefusal as error:
            refusal = refusal or error
            continue
        pieces = split_at(text, _PROBE_TURNS)
        if pieces is not None:
            shared = unprompted if prompted.startswith(unprompted) else unprompted.removesuffix(eos)
            return (*pieces, prompted[len(_shared_start(shared, prompted)) :])
    reason = refusal or "it leaves out or repeats a turn"
    raise BadInput(f"the chat template renders no plain conversation of two rounds: {reason}")


def split_at(text: str, marks: Sequence[str]) -> list[str] | None:
    """Return the text before, between and after marks; None unless each occurs once, in order."""
    pieces, position = [], 0
    for mark in marks:
        start = text.find(mark, position)
        if start < 0 or text.count(mark) != 1:
            return None
        pieces.append(text[position:start])
        position = start + len(mark)
    return [*pieces, text[position:]]


def _shared_start(one: str, other: str) -> str:
    unequal = (index for index, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
    return one[: next(unequal, min(len(one), len(other)))]


def _reply_header(header: str, prompt: str) -> str:
    """Return the part of the reply prompt that a reply in the history has too, else all after the user's turn.

    Some prompts go on after the header: they open a thought.
    """
    shared = (prompt[:length] for length in range(len(prompt), 0, -1) if header.endswith(prompt[:length]))
    return next((part for part in shared if part.strip()), header)


def end_of_turn(literal: str, added: re.Pattern[str] | None) -> str:
    """Return the end of turn at the start of the text after a reply: up to and with its first added token, for the
    model has to write all of that; without an added token, all but trailing space."""
    first = added.search(literal) if added else None
    return literal[: first.end()] if first else literal.rstrip()


def _middle_end(between: str, tail: str, lead: str, added: re.Pattern[str] | None, eos: str | None) -> str:
    """Return the end of a reply that another turn follows, where the last reply ends differently.

    A token that also begins the first user's turn is a header, unless it is the eos.
    """
    first = added.search(between) if added else None
    if added is None or first is None:
        return _shared_start(between, tail).rstrip()
    headers = added.findall(lead)
    is_header = headers and headers[-1] == first.group() and first.group() != eos
    return "" if is_header else between[: first.end()]


def added_tokens(tokenizer: PreTrainedTokenizerBase) -> re.Pattern[str] | None:
    """Return a pattern of all added and special tokens, except runs of spaces, which some vocabularies add."""
    contents = {token.content for token in tokenizer.added_tokens_decoder.values()}
    contents |= set(tokenizer.all_special_tokens)
    visible = sorted((content for content in contents if content.strip()), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, visible))) if visible else None
