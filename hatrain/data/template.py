"""A tokenizer's chat template as a function from messages to text, and the markers that it puts around replies. They
are found by rendering, so no family of models is known by name."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, time
from functools import cached_property
from typing import Any

import jinja2
from transformers import PreTrainedTokenizerBase
from transformers.utils import chat_template_utils

from hatrain.cpu_time import cpu_seconds
from hatrain.data.rows import Message
from hatrain.errors import BadInput

Tools = Sequence[Mapping[str, Any]]
Span = tuple[int, int]

# Without the cache around it, so that what a template gets from us is not handed to others.
_compile: Callable[[str], jinja2.Template] = chat_template_utils._compile_jinja_template.__wrapped__

_PROBE_TURNS = ("hatrainuserone", "hatrainreplyone", "hatrainusertwo", "hatrainreplytwo")
_PROBE_CALL: Mapping[str, Any] = {
    "type": "function",
    "id": "hatrain001",
    "function": {"name": "hatrain_tool", "arguments": {"hatrain_key": "hatrainvalue"}},
}
_PROBE_TOOL: Mapping[str, Any] = {
    "type": "function",
    "function": {
        "name": "hatrain_tool",
        "description": "hatraindescription",
        "parameters": {"type": "object", "properties": {"hatrain_key": {"type": "string"}}},
    },
}


_MOST_JSON = 1024
"""Objects whose JSON is kept: the tools of rows, and what else the last rows had."""
RENDER_SECONDS = 10
"""Processor time for one conversation; templates take milliseconds."""
_TEMPLATE_FAULTS = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError)


class TemplateRefusal(Exception):
    """The chat template raises an error on a conversation; the message is the template's."""


class EndlessTemplate(BadInput):
    """The chat template does not come to an end on a conversation."""


@dataclass(frozen=True, slots=True)
class Spelling:
    """How a template wants its messages."""

    parts: bool = False
    """Content as a list of parts, as vision models' templates do."""
    text_arguments: bool = False
    """Call arguments as JSON text, as DeepSeek V3's template does."""
    null_content: bool = False
    """No content, instead of an empty text, beside calls."""

    def message(self, message: Message) -> dict[str, Any]:
        """Return a message as `apply_chat_template` takes it."""
        rendered = message.for_template()
        if self.parts:
            rendered["content"] = [{"type": "text", "text": message.content}]
        if message.tool_calls and self.null_content and not message.content:
            rendered["content"] = None
        if message.tool_calls and self.text_arguments:
            rendered["tool_calls"] = [_with_text_arguments(call) for call in message.tool_calls]
        return rendered


def _with_text_arguments(call: Mapping[str, Any]) -> dict[str, Any]:
    function = call["function"]
    text = json.dumps(function.get("arguments", {}), ensure_ascii=False)
    return {**call, "function": {**function, "arguments": text}}


class ChatTemplate:
    """Renders conversations as `tokenizer.apply_chat_template(…, tokenize=False)` does on the day `today`.

    A template that asks for the date gets that day's, so that it renders the same on every day of a run.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, today: date | None = None):
        self._tokenizer = tokenizer
        self._variables = {"documents": None, **tokenizer.special_tokens_map}
        self.today = today or date.today()
        self._mentioned: dict[str, bool] = {}
        self._compiled: dict[str, jinja2.Template] = {}
        self._json: dict[tuple[Any, ...], tuple[Any, str]] = {}

    def render(self, messages: Sequence[Message], tools: Tools = (), *, prompt: bool = False) -> str:
        """Return the text of a conversation, with the generation prompt of the next reply if `prompt`.

        Raises TemplateRefusal.
        """
        has_calls = any(message.tool_calls for message in messages)
        return self._render(messages, tools, self._spelling_of_calls if has_calls else self._spelling, prompt)

    def mentions(self, name: str) -> bool:
        """Whether the template's source contains a name, such as a key of its messages."""
        if name not in self._mentioned:
            self._mentioned[name] = any(name in self._source(tools) for tools in ((), (_PROBE_TOOL,)))
        return self._mentioned[name]

    @cached_property
    def writes_tools(self) -> bool:
        """Whether the tools that a conversation offers are in its text."""
        try:
            return "hatraindescription" in self.render([Message("user", "hatrainuserone")], (_PROBE_TOOL,))
        except TemplateRefusal:
            return True

    @cached_property
    def _spelling(self) -> Spelling:
        turns = [Message("user", "hatrainuserone"), Message("assistant", "hatrainreplyone")]
        for spelling in (Spelling(), Spelling(parts=True)):
            for messages in (turns, [Message("system", "hatrainsystem"), *turns]):
                try:
                    text = self._render(messages, (), spelling)
                except TemplateRefusal:
                    continue
                if all(turn.content in text for turn in turns):
                    return spelling
        return Spelling()

    @cached_property
    def _spelling_of_calls(self) -> Spelling:
        """The first spelling with which a call is in the text, its arguments not as Python writes them."""
        plain = self._spelling
        call = [Message("user", "hatrainuserone"), Message("assistant", "", tool_calls=(_PROBE_CALL,))]
        for null_content in (False, True):
            for text_arguments in (False, True):
                spelling = replace(plain, text_arguments=text_arguments, null_content=null_content)
                try:
                    text = self._render(call, (_PROBE_TOOL,), spelling)
                except TemplateRefusal:
                    continue
                if text.rfind("hatrainvalue") > text.find("hatrainuserone") and "{'hatrain_key'" not in text:
                    return spelling
        return plain

    def _source(self, tools: Tools) -> str:
        if self._tokenizer.chat_template is None:
            raise TemplateRefusal("the tokenizer has no chat template")
        return self._tokenizer.get_chat_template(None, [dict(tool) for tool in tools] or None)

    def _render(self, messages: Sequence[Message], tools: Tools, spelling: Spelling, prompt: bool = False) -> str:
        # As apply_chat_template does: the tokenizer's special tokens, and the options. It also copies all messages and
        # tools for each call, lest a template gets objects other than those of JSON. Ours have no others.
        source = self._source(tools)
        try:
            with cpu_seconds(RENDER_SECONDS):
                return self._template(source).render(
                    messages=chat_template_utils._alias_reasoning_fields([spelling.message(each) for each in messages]),
                    tools=list(tools) or None,
                    add_generation_prompt=prompt,
                    **self._variables,
                )
        except TimeoutError:
            raise EndlessTemplate(
                f"the chat template has not rendered this conversation after {RENDER_SECONDS} s of processor time: "
                "it loops"
            ) from None
        except (jinja2.TemplateError, *_TEMPLATE_FAULTS) as error:
            raise TemplateRefusal(str(error) or type(error).__name__) from error

    def _template(self, source: str) -> jinja2.Template:
        if source not in self._compiled:
            compiled = _compile(source)
            compiled.globals["strftime_now"] = datetime.combine(self.today, time(12)).strftime
            compiled.environment.filters["tojson"] = self._as_json
            self._compiled[source] = compiled
        return self._compiled[source]

    def _as_json(
        self,
        value: Any,
        ensure_ascii: bool = False,
        indent: Any = None,
        separators: Any = None,
        sort_keys: bool = False,
    ) -> str:
        """The filter `tojson` of transformers, once for each object: rows are rendered several times, and share tools.

        A template changes no object: it runs in a sandbox that does not let it.
        """
        key = (id(value), ensure_ascii, indent, separators and tuple(separators), sort_keys)
        if key not in self._json:
            if len(self._json) >= _MOST_JSON:
                self._json.clear()
            text = json.dumps(
                value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
            )
            # Kept with its text: else another object could get its id.
            self._json[key] = value, text
        return self._json[key][1]


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
    prompt: str
    """The generation prompt after a user's turn: the header, and what the template adds to it, such as an empty
    thought."""
    next_header: str = ""
    """Where the template ends no reply: the token that begins the next turn, which ends the reply."""
    next_tool_header: str = ""
    """The same after a call."""
    call_end: str = ""
    """The token that ends a reply with a call, where it is another than `last_end`, such as gpt-oss's <|call|>."""

    @property
    def ends(self) -> tuple[str, ...]:
        """The ends that are not empty, the longest first."""
        return tuple(sorted({self.end, self.last_end} - {""}, key=len, reverse=True))

    @property
    def stops(self) -> tuple[str, ...]:
        """The texts that end a reply when a model writes it; empty where only the eos token does."""
        # Not `end` where a last reply ends otherwise: gpt-oss's <|end|> also ends a thought.
        found = (self.last_end or self.end, self.next_header, self.next_tool_header, self.call_end)
        return tuple(dict.fromkeys(filter(None, found)))

    def open_end(self, message: Message) -> str:
        """The token that ends a reply which the template leaves open; empty for the eos token."""
        return self.end or (self.next_tool_header if message.tool_calls else self.next_header)


def find_markers(template: ChatTemplate, tokenizer: PreTrainedTokenizerBase) -> Markers:
    """Find a template's markers by rendering a conversation of two rounds, without a system role if possible.

    Raises BadInput when the template renders no plain conversation.
    """
    lead, header, between, _, tail, prompt = _probe(template, tokenizer.eos_token or "")
    added = added_tokens(tokenizer)
    last_end = _last_end(tail, between, added)
    if last_end and between.startswith(last_end):
        end = last_end
    else:
        end = _middle_end(between, tail, lead, added, tokenizer.eos_token)
    open_end = "" if last_end or end else _first_token(between, added)
    call, result = _call_and_result(template)
    return Markers(
        _reply_header(header, prompt),
        end,
        last_end,
        user_header=between[len(end) :],
        prompt=prompt,
        next_header=open_end,
        next_tool_header=_first_token(result, added) or open_end if open_end else "",
        call_end=_call_end(call, {end, last_end}, added) if last_end else "",
    )


def _last_end(tail: str, between: str, added: re.Pattern[str] | None) -> str:
    """Return the end of the last reply: up to its first added token, and the tokens directly after it that earlier
    replies end with too, as Cohere's do."""
    end = end_of_turn(tail, added)
    while added and (following := added.match(tail, len(end))) and between.startswith(tail[: following.end()]):
        end = tail[: following.end()]
    return end


def _first_token(text: str, added: re.Pattern[str] | None) -> str:
    """Return the added token that a text begins with, and the white space before it; empty without one."""
    first = added.search(text) if added else None
    return text[: first.end()] if first and not text[: first.start()].strip() else ""


def _call_and_result(template: ChatTemplate) -> tuple[str, str]:
    """Return how a template renders a last turn that calls a tool, after the call's arguments, and what it adds to
    that for the result. Empty where it refuses either, or renders the call otherwise then."""
    call = [Message("user", "hatrainuserone"), Message("assistant", "", tool_calls=(_PROBE_CALL,))]
    result = Message("tool", "hatrainresult", extra={"name": "hatrain_tool", "tool_call_id": "hatrain001"})
    try:
        before = template.render(call, (_PROBE_TOOL,))
        whole = template.render([*call, result], (_PROBE_TOOL,))
    except TemplateRefusal:
        return "", ""
    written = before.rpartition("hatrainvalue")
    after = written[2] if written[0].find("hatrainuserone") >= 0 else ""
    return after, whole[len(before) :] if whole.startswith(before) else ""


def _call_end(call: str, ends: set[str], added: re.Pattern[str] | None) -> str:
    """Return the token that ends a call, unless it is in `ends`."""
    tokens = list(added.finditer(call)) if added else []
    if not tokens or call[tokens[-1].end() :].strip() or call.rstrip().endswith(tuple(ends - {""})):
        return ""
    return tokens[-1].group()


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
    """Return a pattern of all added tokens."""
    contents = added_contents(tokenizer)
    return re.compile("|".join(map(re.escape, contents))) if contents else None


def added_contents(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Return all added and special tokens, the longest first, except runs of spaces, which some vocabularies add."""
    contents = {token.content for token in tokenizer.added_tokens_decoder.values()} | set(tokenizer.all_special_tokens)
    return sorted((content for content in contents if content.strip()), key=len, reverse=True)


def stop_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the tokens that end a reply in the chat template; none where the template renders no conversation."""
    if not tokenizer.chat_template:
        return []
    try:
        stops = find_markers(ChatTemplate(tokenizer), tokenizer).stops
    except BadInput:
        return []
    added = added_tokens(tokenizer)
    last = [tokens[-1] for stop in stops if (tokens := added.findall(stop) if added else [])]
    return list(dict.fromkeys(tokenizer.get_vocab()[token] for token in last))
