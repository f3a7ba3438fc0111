"""From rows to requests: the prompt as the model's chat template renders it, and the expected answer."""

import json
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hatrain.data.replies import Disagrees, LeftOut, NotFound, ReplyFinder
from hatrain.data.rows import Row, shortened
from hatrain.data.template import TemplateRefusal
from hatrain.errors import BadInput
from hatrain.evaluate.forms import accepted_forms, resolved_forms
from hatrain.evaluate.history import calls_before
from hatrain.home.calls.answer import FORMS, Answer, read_answer, read_message
from hatrain.home.calls.compare import Call
from hatrain.home.calls.prompt import PromptContents, read_prompt
from hatrain.home.clients import CLIENTS, find_client
from hatrain.home.devices.entity import Entity
from hatrain.home.devices.services import domain_of
from hatrain.home.judge.asked import Asked, read_asked
from hatrain.home.judge.devices import read_devices
from hatrain.home.judge.effects import effects
from hatrain.home.judge.judge import AFTER_A_CALL, Case
from hatrain.home.simulation.house import differences, end_after

UNNAMED = "unnamed"
"""The language, kind or device type of a row that does not name it."""


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
    case: Case
    """What is expected, in which home, by which client."""
    forms: frozenset[str]
    """The forms in which a call of the answer is carried out."""
    device_types: tuple[str, ...]
    covered: bool | None = None
    """Whether generated data has requests of this kind, where the row says it."""

    @property
    def expected(self) -> Answer:
        return self.case.expected

    @property
    def known(self) -> PromptContents:
        return self.case.known

    @property
    def same_as(self) -> tuple[str, ...]:
        """What two requests share that come to the same: words, calls and answers, in whatever states the home is.

        The words are the last line, for a chat template without a system role has the home before it.
        """
        words = self.user_text.strip().rpartition("\n")[2]
        calls = sorted(map(str, self.case.expected.calls))
        return (" ".join(words.casefold().split()), *calls, *(f"{each.about} {each.value}" for each in self.case.asked))

    @property
    def language(self) -> str:
        return self.case.language

    @property
    def kind(self) -> str:
        return self.case.kind


def read_requests(rows: Iterable[Row], finder: ReplyFinder) -> list[Request]:
    """Return a request for each assistant turn that is trained on.

    Raises BadInput, with a line for each row that cannot be judged: its calls are not JSON, its client or devices
    cannot be used, or the chat template refuses it or writes its tool calls in a format that the judge does not read.
    """
    requests: list[Request] = []
    problems: list[str] = []
    for row in rows:
        try:
            requests += _turns(row, finder) if row.text is None else _raw_turns(row, finder)
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
    # The forms in which this chat template writes tool calls show in the replies.
    written = frozenset[str]().union(*(read_answer(request.reply).forms for request in requests))
    return [replace(request, forms=resolved_forms(request.forms, written)) for request in requests]


@dataclass(frozen=True)
class _RowFacts:
    """What a row says about itself for the judge."""

    client: str | None
    devices: tuple[Entity, ...] | None
    asked: tuple[Asked, ...]
    forms: frozenset[str]


def _facts(row: Row) -> _RowFacts:
    client = row.meta.get("client")
    if client is not None:
        client = find_client(str(client), f"{row.where}: client").name
    return _RowFacts(
        client,
        read_devices(row.meta.get("devices"), row.where),
        read_asked(row.meta.get("asked"), row.where),
        accepted_forms(client, tools=bool(row.tools)),
    )


def _turns(row: Row, finder: ReplyFinder) -> Iterator[Request]:
    facts = _facts(row)
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
        texts = (past.content for past in history if past.role != "assistant")
        yield _request(
            row,
            facts,
            turn=turn,
            user_text=next((past.content for past in reversed(history) if past.role == "user"), ""),
            prompt=prompt,
            reply=reply,
            expected=expected,
            known=read_prompt(texts, row.tools, facts.devices),
            before=calls_before(history),
            after_a_call=bool(history) and history[-1].role == "tool" and not expected.calls,
        )


def _raw_turns(row: Row, finder: ReplyFinder) -> Iterator[Request]:
    facts = _facts(row)
    text = row.text or ""
    replies = finder.in_raw_text(text).replies
    if not replies:
        raise NotFound(f"looked for the model's own header {finder.markers.header.strip()!r}")
    user_start = 0
    before: list[Call] = []
    for number, (start, end) in enumerate(replies):
        prompt, reply = _split(finder, text, start, end)
        expected = read_answer(reply)
        yield _request(
            row,
            facts,
            turn=number,
            user_text=text[user_start:start].strip().removesuffix(finder.markers.header.strip()).strip(),
            prompt=prompt,
            reply=reply,
            expected=expected,
            known=read_prompt([text[: replies[0][0]]], (), facts.devices),
            before=tuple(before),
        )
        before += expected.calls
        user_start = end


def _split(finder: ReplyFinder, text: str, start: int, end: int) -> tuple[str, str]:
    """Return the text before a reply, and the reply without its end of turn.

    A space before a reply belongs to its first token in most vocabularies, so the model has to write it.
    """
    reply = text[start:end]
    ending = next((mark for mark in finder.markers.stops if reply.endswith(mark)), "")
    return text[:start].rstrip(" "), reply.removesuffix(ending).strip()


def _request(
    row: Row,
    facts: _RowFacts,
    *,
    turn: int,
    expected: Answer,
    known: PromptContents,
    before: Sequence[Call],
    after_a_call: bool = False,
    **parts: Any,
) -> Request:
    if expected.bad_lines or expected.unclosed:
        found = next(iter(expected.bad_lines), "an open fence")
        raise BadInput(f"{row.where}: turn {turn}: the expected calls cannot be read: found {found!r}")
    after_a_call = after_a_call and not facts.asked
    case = Case(
        expected=expected,
        known=known,
        client=facts.client,
        language=str(row.meta.get("language", UNNAMED)),
        kind=AFTER_A_CALL if after_a_call else str(row.meta.get("kind", UNNAMED)),
        asked=facts.asked,
        domains=_named_types(row),
    )
    covered = row.meta.get("covered")
    return Request(
        where=row.where,
        turn=turn,
        case=_after(before, case),
        forms=facts.forms,
        device_types=_device_types(row, expected),
        covered=covered if isinstance(covered, bool) else None,
        **parts,
    )


def _after(before: Sequence[Call], case: Case) -> Case:
    """Return the case in the home that earlier calls of the conversation have left.

    Where the expected calls would then change nothing, the earlier ones had failed: the user asks again.
    """
    devices = case.known.devices
    shown_as_now = case.client is not None and CLIENTS[case.client].history != "whole"
    if not before or not devices or shown_as_now:
        return case
    home = effects(before, devices, case.understand).home
    later = replace(case, known=replace(case.known, devices=home))
    return later if not case.expected.calls or _changes(later) or not _changes(case) else case


def _changes(case: Case) -> bool:
    devices = case.known.devices
    return bool(differences(end_after(devices, ()), effects(case.expected.calls, devices, case.understand).end))


def _device_types(row: Row, expected: Answer) -> tuple[str, ...]:
    """Return the device types that a request acts on, else those that the row names."""
    acted_on = dict.fromkeys(domain_of(target) for call in expected.calls for target in call.targets())
    return tuple(acted_on) or _named_types(row) or (UNNAMED,)


def _named_types(row: Row) -> tuple[str, ...]:
    named = row.meta.get("device_types")
    return tuple(map(str, named)) if isinstance(named, list) else ()


def sample(rows: Sequence[Row], limit: int, seed: int) -> list[Row]:
    """Draw `limit` rows at random, all if there are fewer, and return them in the file's order."""
    chosen = sorted(random.Random(seed).sample(range(len(rows)), min(limit, len(rows))))
    return [rows[index] for index in chosen]
