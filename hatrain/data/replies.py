"""Finds the assistant's replies: in a conversation, by rendering it up to each reply; in a raw text, by the template's
markers. A reply that cannot be told from the rest raises NotFound instead of guessing."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property
from itertools import count

from transformers import PreTrainedTokenizerBase

from hatrain.data.rows import Message
from hatrain.data.template import (
    ChatTemplate,
    Markers,
    Span,
    TemplateRefusal,
    Tools,
    added_tokens,
    end_of_turn,
    find_markers,
)

_LEAVE_OUT = "set train_on_turn: false on that turn"


class NotFound(Exception):  # a result, not an error: the caller completes the message
    """The replies cannot be distinguished from the rest of the text. The message is the reason."""


class LeftOut(Exception):
    """The template leaves out text of the assistant. The message names it and the remedy."""


class Disagrees(Exception):
    """The template asks for a reply in another way than it renders it. The message says how, and the remedy."""


@dataclass(frozen=True, slots=True)
class Located:
    """A text, and the half-open ranges of its supervised characters: each reply with its end of turn."""

    text: str
    replies: tuple[Span, ...]
    open_end: bool = False
    """The text ends with a supervised reply without an end of turn: append the eos token."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One reply, and the generation prompt that asks for it. All that the model sees and writes is their sum."""

    prompt: str
    """What `apply_chat_template(add_generation_prompt=True)` gives for the turns before the reply."""
    reply: str
    """What the template renders after that, without the end of turn."""
    end: str
    """The end of turn; empty where the eos token ends the reply."""
    rest: str = ""
    """What the template renders after the end of turn of a last reply, such as a line break."""

    @property
    def text(self) -> str:
        return self.prompt + self.reply + self.end


class ReplyFinder:
    """Finds replies for one tokenizer. `today` is the date for templates that ask for it."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, today: date | None = None):
        self.template = ChatTemplate(tokenizer, today)
        self._tokenizer = tokenizer
        self._added = added_tokens(tokenizer)

    @cached_property
    def markers(self) -> Markers:
        """The text around replies. Raises BadInput when the chat template renders no plain conversation."""
        return find_markers(self.template, self._tokenizer)

    def in_conversation(self, messages: Sequence[Message], tools: Tools = ()) -> tuple[Located, ...]:
        """Return the texts to train on, each with its replies: all that are supervised, each after its generation
        prompt.

        It is one text where the history renders every reply as it was asked for and trained. Otherwise a text ends
        with each reply that a later one does not continue. Raises as `turn` does.
        """
        sequences: list[Located] = []
        for index, message in enumerate(messages):
            if not message.train:
                continue
            turn = self.turn(messages, index, tools)
            is_last = index == len(messages) - 1
            text = turn.text + (turn.rest if is_last else "")
            span = (len(turn.prompt), len(turn.text))
            last = sequences[-1] if sequences else None
            if last and not last.open_end and turn.prompt.startswith(last.text):
                sequences[-1] = Located(text, (*last.replies, span), open_end=not turn.end)
            else:
                sequences.append(Located(text, (span,), open_end=not turn.end))
        return tuple(sequences)

    def turn(self, messages: Sequence[Message], index: int, tools: Tools = ()) -> Turn:
        """Return one reply of a conversation, as the template renders it when it is the last, and its generation
        prompt.

        Raises TemplateRefusal when the template does not render it, NotFound when the reply cannot be located, LeftOut
        when the template leaves out text of the assistant, Disagrees when it asks in another way than it renders.
        """
        message = messages[index]
        prompt = self.template.render(messages[:index], tools, prompt=True) if index else ""
        text = self.template.render(messages[: index + 1], tools)
        if text.startswith(prompt):
            region = text[len(prompt) :]
        else:
            region = self._after_header(prompt, text, messages[: index + 1], tools)
        stop, end = self._end(region, message)
        reply, rest = region[:stop], region[stop + len(end) :]
        if not end:
            reply, rest, end = reply.rstrip(), "", self.markers.open_end(message)
        self._check_complete(reply, messages[: index + 1], tools, may_change=text.startswith(prompt))
        return Turn(prompt, reply, end, rest)

    def in_raw_text(self, text: str) -> Located:
        """Find the replies of a raw text: from each reply header to the next end of turn.

        A header that is only quoted looks like a real one. Raises NotFound when the template has no reply header.
        """
        header = self.markers.header.strip()
        if not header:
            raise NotFound("the chat template puts nothing before a reply, so a raw text shows none")
        space = self.markers.header[len(self.markers.header.rstrip()) :]
        stop = self._raw_stop()
        replies: list[Span] = []
        open_end = False
        position = text.find(header)
        while position >= 0:
            start = position + len(header)
            for expected in space:
                start += text[start : start + 1] == expected
            end = stop.search(text, start)
            assert end is not None  # the end of the text always matches
            if text[start : end.start()].strip():
                replies.append((start, end.end()))
                open_end = not text[end.start() : end.end()].strip()
            position = text.find(header, end.end())
        if replies and open_end and not text[replies[-1][1] :].strip():
            # Cut the white space, so that what ends the reply comes directly after it.
            start, stop_at = replies[-1]
            text = text[:stop_at] + self.markers.next_header
            return Located(text, (*replies[:-1], (start, len(text))), open_end=not self.markers.next_header)
        return Located(text, tuple(replies))

    def _raw_stop(self) -> re.Pattern[str]:
        """What ends a reply in a raw text: an end of turn, a user's header, or the end of the text."""
        ends = [re.escape(end.strip()) for end in dict.fromkeys((*self.markers.ends, *self.markers.stops))]
        header = self.markers.user_header.strip()
        followed = [rf"(?=\s*{re.escape(header)})"] if header else []
        closed = [rf"\s*(?:{'|'.join(ends)})"] if ends else []
        return re.compile("|".join([*closed, *followed, r"(?=\s*\Z)"]))

    # --- a reply that is rendered after another header than it is asked with ---------------------------------

    def _after_header(self, prompt: str, text: str, messages: Sequence[Message], tools: Tools) -> str:
        """Return what the model has to write after `prompt`, where the rendered text does not begin with it."""
        asked, turn = self.markers.prompt, len(messages) - 1
        header, start = self._last_header(text, messages, tools) if prompt.endswith(asked) else ("", -1)
        if start < 0:
            raise Disagrees(
                f"the chat template renders what comes before the assistant's turn {turn} otherwise once the turn is "
                f"there, so it would be trained after another text than it is asked with; {_LEAVE_OUT}"
            )
        region = text[start + len(header) :]
        added = asked[len(header) :]
        if not added:
            return region
        opened = re.search(r"<(\w*think\w*)>\s*\Z", added)
        if opened:
            return _closed_thought(opened[1], messages[-1], region)
        if re.search(r"</\w*think\w*>", region):
            raise Disagrees(
                f"the reply of turn {turn} holds a thought, and the generation prompt {asked!r} asks for "
                "none; allow thinking with model.chat_template_kwargs: {enable_thinking: true}, or remove the thoughts"
            )
        if not re.search(r"</\w+>\s*\Z", added):
            raise Disagrees(
                f"the chat template asks for the reply of turn {turn} with {asked!r}, but renders it after {header!r}; "
                f"set chat_template to one that agrees with itself, or {_LEAVE_OUT}"
            )
        return region

    def _last_header(self, text: str, messages: Sequence[Message], tools: Tools) -> tuple[str, int]:
        """Return the longest beginning of the generation prompt that is before the last reply, and where; -1 without
        one. The turn before the reply, replaced by a mark, must come before it."""
        asked = self.markers.prompt
        first = self._added.search(asked) if self._added else None
        shortest = first.end() if first else len(asked.rstrip())
        mark = _unused_stem(text)
        marked = [*messages[:-2], replace(messages[-2], content=mark), messages[-1]]
        try:
            other = self.template.render(marked, tools)
        except TemplateRefusal:
            return "", -1
        for length in range(len(asked), max(shortest, 1) - 1, -1):
            header = asked[:length]
            if asked[length : length + 1] not in ("", "<") and header[-1] not in ">\n":
                continue  # in the middle of a word or a tag
            start, there = text.rfind(header), other.rfind(header)
            if start >= 0 and mark in other and there > other.rfind(mark) and text[start:] == other[there:]:
                return header, start
        return "", -1

    # --- the end of a turn ----------------------------------------------------------------------------------

    def _end(self, region: str, message: Message) -> tuple[int, str]:
        """Return where a reply's text ends, and its end of turn, in what the template renders after the prompt."""
        content = message.content.rstrip()
        start = region.rfind(content) if content and not message.tool_calls else -1
        if start >= 0:
            stop = start + len(content)
            tail = region[stop:]
            for end in self.markers.ends:
                if tail.startswith(end):
                    return stop, end
            return stop, end_of_turn(tail, self._added)
        closing = self._closing_tokens(region) if self.markers.ends else []
        if closing:
            known = (span for span in closing if region[: span[1]].endswith(self.markers.ends))
            first, last = next(known, closing[-1])
            return first, region[first:last]
        for end in self.markers.ends:
            if region.rstrip().endswith(end.rstrip()):
                stop = len(region.rstrip()) - len(end.rstrip())
                return stop, region.rstrip()[stop:]
        return len(region.rstrip()), ""

    def _closing_tokens(self, region: str) -> list[Span]:
        """Return the added tokens, separated by white space only, that end a region."""
        run: list[Span] = []
        for match in self._added.finditer(region) if self._added else ():
            if run and region[run[-1][1] : match.start()].strip():
                run = []
            run.append(match.span())
        return run if run and not region[run[-1][1] :].strip() else []

    def _check_complete(self, reply: str, messages: Sequence[Message], tools: Tools, *, may_change: bool) -> None:
        """Raise LeftOut when a rendered reply lacks a tool that it calls, or the assistant's words, unless the template
        may change words and does."""
        message, turn = messages[-1], len(messages) - 1
        missing = [call["function"]["name"] for call in message.tool_calls if call["function"]["name"] not in reply]
        if missing:
            raise LeftOut(
                f"the chat template leaves out that the assistant calls {missing[0]} in turn {turn}; set chat_template "
                "to one that writes tool calls, or use a dataset without tools"
            )
        if not reply.strip():
            raise LeftOut(f"the chat template leaves out the assistant's text in turn {turn}; {_LEAVE_OUT}")
        words = message.content.strip()
        thought, closed, answer = words.partition("</think>")
        if closed and thought.removeprefix("<think>").strip() not in reply:
            raise LeftOut(
                f"the chat template leaves out the assistant's thought in turn {turn}; remove it, or set chat_template "
                "to one that writes thoughts"
            )
        words = answer.strip() if closed else words
        if words and words not in reply and not (may_change and self._writes_words(messages, tools)):
            if message.tool_calls:
                raise LeftOut(
                    f"the chat template leaves out the assistant's words beside a call in turn {turn}; move them into "
                    f"the turn after its result (hatrain data --single-calls writes such rows), or {_LEAVE_OUT}"
                )
            raise LeftOut(f"the chat template leaves out the assistant's text in turn {turn}; {_LEAVE_OUT}")

    def _writes_words(self, messages: Sequence[Message], tools: Tools) -> bool:
        """Whether the template writes a reply's words, which it may change, such as dropping a thought."""
        mark = _unused_stem("".join(message.content for message in messages))
        words = mark if messages[-1].content.strip() else ""
        try:
            return mark in self.template.render([*messages[:-1], replace(messages[-1], content=words)], tools)
        except TemplateRefusal:
            return False


def _closed_thought(tag: str, message: Message, region: str) -> str:
    """Return a reply after a prompt that opens a thought: the reply's own thought or none, its end, and the region."""
    thought, closed, answer = message.content.lstrip().partition(f"</{tag}>")
    if closed and thought.startswith(f"<{tag}>"):
        space = answer[: len(answer) - len(answer.lstrip())]
        region = region.removeprefix(thought + closed).lstrip()
        return thought.removeprefix(f"<{tag}>").lstrip() + closed + space + region
    own = message.extra.get("reasoning_content") or ""
    return f"{own}\n</{tag}>\n\n{region.lstrip()}"


def _unused_stem(text: str) -> str:
    """A mark that no template changes and that does not occur in the text."""
    return next(stem for number in count() if (stem := f"hatrain{number}mark") not in text)
