"""Finds the assistant's replies in a rendered conversation or a raw text, as ranges of characters. Each method's result
is checked against the text; where none holds, NotFound is raised instead of guessing."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
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
    split_at,
)


class NotFound(Exception):  # a result, not an error: the caller completes the message
    """The replies cannot be distinguished from the rest of the text. The message is the reason."""


class LeftOut(Exception):
    """The template leaves out text of the assistant. The message names it and the remedy."""


@dataclass(frozen=True, slots=True)
class Located:
    """A text, and the half-open ranges of its supervised characters: each reply with its end of turn."""

    text: str
    replies: tuple[Span, ...]
    open_end: bool = False
    """The text ends with a supervised reply without an end of turn: append the eos token."""


@dataclass(frozen=True, slots=True)
class _Reply:
    start: int
    stop: int
    """Where the assistant's text ends and its end of turn begins."""
    end: int
    """After the end of turn; equal to `stop` without one."""


class ReplyFinder:
    """Finds replies for one tokenizer: by the template's generation tags, else by sentinels, else by prefixes."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        self.template = ChatTemplate(tokenizer)
        self._tokenizer = tokenizer
        self._added = added_tokens(tokenizer)
        self._confirmed: set[tuple[object, ...]] = set()

    @cached_property
    def markers(self) -> Markers:
        """The text around replies. Raises BadInput when the chat template renders no plain conversation."""
        return find_markers(self.template, self._tokenizer)

    def in_conversation(self, messages: Sequence[Message], tools: Tools = ()) -> Located:
        """Return the rendered conversation and its supervised replies.

        Raises TemplateRefusal when the template does not render it, NotFound when a reply cannot be located, LeftOut
        when the template leaves out text of the assistant.
        """
        text, tagged = self.template.render_tagged(messages, tools)
        turns = [index for index, message in enumerate(messages) if message.role == "assistant"]
        if len(tagged) == len(turns):
            replies = [
                self._in_region(text, start, end, messages[turn])
                for turn, (start, end) in zip(turns, tagged, strict=True)
            ]
        else:
            replies = self._by_sentinels(text, messages, turns, tools) or self._by_prefixes(
                text, messages, turns, tools
            )
        for turn, reply in zip(turns, replies, strict=True):
            if messages[turn].train:
                _check_complete(text[reply.start : reply.stop], messages[turn], turn)
        return _located(text, replies, [messages[turn].train for turn in turns])

    def in_raw_text(self, text: str) -> Located:
        """Find the replies of a raw text: from each reply header to the next end of turn.

        A header that is only quoted looks like a real one. Raises NotFound when the template has no reply header.
        """
        header = self.markers.header.strip()
        if not header:
            raise NotFound("the chat template puts nothing before a reply, so a raw text shows none")
        space = self.markers.header[len(self.markers.header.rstrip()) :]
        stop = self._raw_stop()
        replies = []
        position = text.find(header)
        while position >= 0:
            start = position + len(header)
            for expected in space:
                start += text[start : start + 1] == expected
            end = stop.search(text, start)
            assert end is not None  # the end of the text always matches
            if text[start : end.start()].strip():
                replies.append(_Reply(start, end.start(), end.end()))
            position = text.find(header, end.end())
        return _located(text, replies, [True] * len(replies))

    def _raw_stop(self) -> re.Pattern[str]:
        """What ends a reply in a raw text: an end of turn, a user's header, or the end of the text."""
        ends = [re.escape(end.strip()) for end in self.markers.ends]
        header = self.markers.user_header.strip()
        followed = [rf"(?=\s*{re.escape(header)})"] if header else []
        closed = [rf"\s*(?:{'|'.join(ends)})"] if ends else []
        return re.compile("|".join([*closed, *followed, r"(?=\s*\Z)"]))

    # --- three methods ------------------------------------------------------------------------------

    def _by_sentinels(
        self, text: str, messages: Sequence[Message], turns: Sequence[int], tools: Tools
    ) -> list[_Reply] | None:
        """Render with a mark in place of each reply; the pieces between marks must rebuild the text.

        Other turns stay in the pieces, so a user's text that contains a header is never taken for a reply.
        """
        stem = _unused_stem(text)
        marks = {turn: f"{stem}{turn}end" for turn in turns}
        marked = [
            Message("assistant", marks[index]) if index in marks else message for index, message in enumerate(messages)
        ]
        try:
            pieces = split_at(self.template.render(marked, tools), list(marks.values()))
        except TemplateRefusal:
            return None
        if pieces is None or not text.startswith(pieces[0]):
            return None
        replies = []
        position = len(pieces[0])
        for turn, following in zip(turns, pieces[1:], strict=True):
            is_last = turn == turns[-1]
            stop = _text_stop(text, position, messages[turn], following, is_last)
            if stop is None:
                return None
            replies.append(_Reply(position, stop, self._end(text, stop, turn == len(messages) - 1)))
            position = stop + len(following)
        self._confirm(replies, text, messages, turns, tools)
        return replies

    def _confirm(
        self,
        replies: Sequence[_Reply],
        text: str,
        messages: Sequence[Message],
        turns: Sequence[int],
        tools: Tools,
    ) -> None:
        """Cross-check with the rendered prefixes of the conversation, once per sequence of roles."""
        shape = (bool(tools), *((message.role, bool(message.tool_calls)) for message in messages))
        if shape in self._confirmed:
            return
        for turn, reply in zip(turns, replies, strict=True):
            before = self._prefix(text, messages[:turn], tools)
            through = self._prefix(text, messages[: turn + 1], tools)
            if (before or 0) > reply.start or (through is not None and through < reply.stop):
                raise NotFound(
                    f"two methods find the assistant's turn {turn} at different places in what the chat template "
                    "renders"
                )
        self._confirmed.add(shape)

    def _by_prefixes(self, text: str, messages: Sequence[Message], turns: Sequence[int], tools: Tools) -> list[_Reply]:
        """Render the conversation up to each reply and up to its end. The difference is the reply."""
        replies = []
        for turn in turns:
            start = self._prefix(text, messages[:turn], tools, prompt=True)
            if start is None:
                start = self._after_previous_turn(text, messages, turn, tools)
            if start is None:
                raise NotFound(
                    f"the chat template renders what comes before the assistant's turn {turn} differently "
                    "once the turn is there"
                )
            end = self._prefix(text, messages[: turn + 1], tools)
            if end is None:
                end = self._first_end(text, start, turn)
            replies.append(self._in_region(text, start, end, messages[turn]))
        return replies

    def _prefix(self, text: str, messages: Sequence[Message], tools: Tools, *, prompt: bool = False) -> int | None:
        """Return the length of the rendered first messages, or None if the text does not begin with them."""
        try:
            beginning = self.template.render(messages, tools, prompt=prompt) if messages else ""
        except TemplateRefusal:
            return None
        return len(beginning) if text.startswith(beginning) else None

    def _after_previous_turn(self, text: str, messages: Sequence[Message], turn: int, tools: Tools) -> int | None:
        """Return where a reply starts from what follows the message before it, which is replaced by a mark: for
        templates that move something, as Mistral's moves the tools, when the conversation goes on."""
        if turn == 0 or messages[turn - 1].role == "assistant":
            return None
        mark = _unused_stem(text)
        marked = [*messages[: turn - 1], replace(messages[turn - 1], content=mark), *messages[turn:]]
        try:
            whole = split_at(self.template.render(marked, tools), [mark])
            prompted = split_at(self.template.render(marked[:turn], tools, prompt=True), [mark])
        except TemplateRefusal:
            return None
        if whole is None or prompted is None or not whole[1].startswith(prompted[1]):
            return None
        if not text.startswith(whole[0]) or not text.endswith(whole[1]):
            return None
        return len(text) - len(whole[1]) + len(prompted[1])

    def _first_end(self, text: str, start: int, turn: int) -> int:
        ends = [text.find(end, start) + len(end) for end in self.markers.ends if end in text[start:]]
        if not ends:
            raise NotFound(f"nothing in what the chat template renders ends the assistant's turn {turn}")
        return min(ends)

    # --- the end of a turn ----------------------------------------------------------------------------------

    def _end(self, text: str, stop: int, is_last_message: bool) -> int:
        """Return the end of the end-of-turn text that begins at `stop`."""
        for end in self.markers.ends:
            if text.startswith(end, stop):
                return stop + len(end)
        return stop + len(end_of_turn(text[stop:], self._added)) if is_last_message else stop

    def _in_region(self, text: str, start: int, end: int, message: Message) -> _Reply:
        """Narrow a region that contains a reply, possibly with its header, its end of turn and the text after it."""
        if text.startswith(self.markers.header, start):
            start += len(self.markers.header)
        if not message.content[:1].isspace():
            start += len(text[start:end]) - len(text[start:end].lstrip())
        closing = self._closing_tokens(text[start:end])
        if closing:
            known = (span for span in closing if text[start : start + span[1]].endswith(self.markers.ends))
            first, last = next(known, closing[-1])
            return _Reply(start, start + first, start + last)
        stop = start + len(text[start:end].rstrip()) if not message.content[-1:].isspace() else end
        for mark in self.markers.ends:
            if text[start:stop].endswith(mark.rstrip()):
                return _Reply(start, stop - len(mark.rstrip()), stop)
        return _Reply(start, stop, self._end(text, stop, end == len(text)))

    def _closing_tokens(self, region: str) -> list[Span]:
        """Return the added tokens, separated by white space only, that end a region."""
        run: list[Span] = []
        for match in self._added.finditer(region) if self._added else ():
            if run and region[run[-1][1] : match.start()].strip():
                run = []
            run.append(match.span())
        return run if run and not region[run[-1][1] :].strip() else []


def _check_complete(rendered: str, message: Message, turn: int) -> None:
    """Raise LeftOut when a rendered turn is empty, or lacks a tool that it calls."""
    calls = [call["function"]["name"] for call in message.tool_calls]
    missing = next((name for name in calls if name not in rendered), None)
    if missing:
        raise LeftOut(
            f"the chat template leaves out that the assistant calls {missing} in turn {turn}; set chat_template to one "
            "that writes tool calls, or use a dataset without tools"
        )
    if not rendered.strip():
        raise LeftOut(
            f"the chat template leaves out the assistant's text in turn {turn}; set train_on_turn: false on that turn "
            "to leave it out of training too"
        )


def _unused_stem(text: str) -> str:
    """A mark that no template changes and that does not occur in the text."""
    return next(stem for number in count() if (stem := f"hatrain{number}mark") not in text)


def _text_stop(text: str, position: int, message: Message, following: str, is_last: bool) -> int | None:
    """Return where a reply's text ends: as written, trimmed, or where the piece after it must begin."""
    contents = (
        ()
        if message.tool_calls
        else (message.content, message.content.rstrip(), message.content.lstrip(), message.content.strip())
    )
    for content in contents:
        stop = position + len(content)
        fits = text[stop:] == following if is_last else text.startswith(following, stop)
        if fits and text.startswith(content, position):
            return stop
    if is_last:
        stop = len(text) - len(following)
        return stop if stop >= position and text.endswith(following) else None
    return text.find(following, position) if following and text.count(following, position) == 1 else None


def _located(text: str, replies: Sequence[_Reply], trained: Sequence[bool]) -> Located:
    """Keep the supervised replies. White space after a last reply without an end of turn is cut, so that the eos comes
    directly after the reply."""
    kept = tuple((reply.start, reply.end) for reply, train in zip(replies, trained, strict=True) if train)
    last = replies[-1] if replies else None
    if last and trained[-1] and last.end == last.stop and not text[last.stop :].strip():
        return Located(text[: last.stop], kept, open_end=True)
    return Located(text, kept)
