"""From rows to requests: the prompt as the model's chat template renders it, and the expected answer."""

import json
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from hatrain.data.replies import Disagrees, LeftOut, NotFound, ReplyFinder
from hatrain.data.rows import Row, shortened
from hatrain.data.template import TemplateRefusal
from hatrain.errors import BadInput
from hatrain.home.calls.judge import Answer, PromptContents
from hatrain.home.calls.parse import FORMS, read_answer, read_message, read_prompt
from hatrain.home.devices.services import domain_of

UNNAMED = "unnamed"
"""The language, kind or device type of a row that does not name it."""

AFTER_A_CALL = "word after a call"
"""The kind of a turn that follows a tool's result and calls nothing: the model reports the outcome."""


@dataclass(frozen=True)
class Request:
    """One turn that a model has to answer, with the row's history before it."""

    where: str
    """`file:line` of its row."""
    turn: int
    """0-based index of the turn in its row; of the reply, for raw text."""
    user_text: str
    """The last user turn before it."""
    prompt: str
    """Everything before the reply, as the template renders it."""
    reply: str
    """The expected reply, as the template renders it, without its end."""
    expected: Answer
    known: PromptContents
    language: str
    kind: str
    device_types: tuple[str, ...]


def read_requests(rows: Iterable[Row], finder: ReplyFinder) -> list[Request]:
    """Return a request for each assistant turn that is trained on.

    Raises BadInput, with a line for each row that cannot be judged: its calls are not JSON, or the chat template
    refuses it or writes its tool calls in a format that the judge does not read.
    """
    requests: list[Request] = []
    problems: list[str] = []
    for row in rows:
        read_turns = _turns if row.text is None else _raw_turns
        try:
            requests += read_turns(row, finder)
        except TemplateRefusal as refusal:
            problems.append(f"{row.where}: the model's chat template refuses this row: {refusal}")
        except (LeftOut, Disagrees) as reason:
            problems.append(f"{row.where}: {reason}")
        except NotFound as reason:
            problems.append(f"{row.where}: no reply found: {reason}")
        except BadInput as bad:
            problems += bad.problems
    if problems:
        raise BadInput(shortened(problems))
    return requests


def _turns(row: Row, finder: ReplyFinder) -> Iterator[Request]:
    for turn, message in enumerate(row.messages):
        if not message.train:
            continue
        history = row.messages[:turn]
        expected = read_message(message.content, message.tool_calls)
        # Exactly what the reply is trained after, and what a server asks with.
        prompt = finder.template.render(history, row.tools, prompt=True) if history else ""
        try:
            reply = finder.turn(row.messages, turn, row.tools).reply.strip()
        except NotFound:
            calls = (json.dumps(call["function"], ensure_ascii=False) for call in message.tool_calls)
            reply = "\n".join([message.content, *calls]).strip()
        else:
            if message.tool_calls and read_answer(reply).calls != expected.calls:
                raise BadInput(
                    f"{row.where}: the model's chat template writes these tool calls as {reply!r}, "
                    f"which cannot be judged; accepted: {'; '.join(FORMS)}"
                )
        yield _request(
            row,
            turn=turn,
            user_text=next((past.content for past in reversed(history) if past.role == "user"), ""),
            prompt=prompt,
            reply=reply,
            expected=expected,
            known=read_prompt((past.content for past in history if past.role != "assistant"), row.tools),
            after_a_call=bool(history) and history[-1].role == "tool" and not expected.calls,
        )


def _raw_turns(row: Row, finder: ReplyFinder) -> Iterator[Request]:
    text = row.text or ""
    replies = finder.in_raw_text(text).replies
    if not replies:
        raise NotFound(f"looked for the model's own header {finder.markers.header.strip()!r}")
    user_start = 0
    for number, (start, end) in enumerate(replies):
        prompt, reply = _split(finder, text, start, end)
        yield _request(
            row,
            turn=number,
            user_text=text[user_start:start].strip(),
            prompt=prompt,
            reply=reply,
            expected=read_answer(reply),
            known=read_prompt([text[: replies[0][0]]]),
        )
        user_start = end


def _split(finder: ReplyFinder, text: str, start: int, end: int) -> tuple[str, str]:
    """Return the text before a reply, and the reply without its end of turn.

    A space before a reply belongs to its first token in most vocabularies, so the model has to write it.
    """
    reply = text[start:end]
    ending = next((mark for mark in finder.markers.stops if reply.endswith(mark)), "")
    return text[:start].rstrip(" "), reply.removesuffix(ending).strip()


def _request(row: Row, *, turn: int, expected: Answer, after_a_call: bool = False, **parts: Any) -> Request:
    if expected.bad_lines or expected.unclosed:
        found = next(iter(expected.bad_lines), "an open fence")
        raise BadInput(f"{row.where}: turn {turn}: the expected calls cannot be read: found {found!r}")
    kind = AFTER_A_CALL if after_a_call else str(row.meta.get("kind", UNNAMED))
    return Request(
        where=row.where,
        turn=turn,
        expected=expected,
        language=str(row.meta.get("language", UNNAMED)),
        kind=kind,
        device_types=_device_types(row, expected),
        **parts,
    )


def _device_types(row: Row, expected: Answer) -> tuple[str, ...]:
    """Return the device types that a request acts on, else those that the row names."""
    acted_on = dict.fromkeys(domain_of(target) for call in expected.calls for target in call.targets())
    named = row.meta.get("device_types")
    names = [str(name) for name in named] if isinstance(named, list) else []
    return tuple(acted_on) or tuple(names) or (UNNAMED,)


def sample(rows: Sequence[Row], limit: int, seed: int) -> list[Row]:
    """Draw `limit` rows at random, all if there are fewer, and return them in the file's order."""
    chosen = sorted(random.Random(seed).sample(range(len(rows)), min(limit, len(rows))))
    return [rows[index] for index in chosen]
