"""From rows to requests: what a model is asked, as its own chat template renders it, and what should be done.
It asks no model and judges nothing."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from jinja2.exceptions import TemplateError

from hatrain.data.rows import Row, shortened
from hatrain.errors import BadInput
from hatrain.home.devices import domain_of
from hatrain.home.judge import Answer, Known
from hatrain.home.reading import FORMS, read_answer, read_message, read_prompt

UNNAMED = "unnamed"
"""Stands for a language, kind or device type that a row does not tell."""

AFTER_A_CALL = "word after a call"
"""The kind of a turn that follows a tool's result and calls nothing: the model says how it went."""

_MARK = "q9z7x"
"""Stands for a text while a template is asked what it puts around one."""


@dataclass(frozen=True)
class Request:
    """One turn that a model has to answer, with the true history before it."""

    where: str
    """`file:line` of its row."""
    turn: int
    """0-based index of the turn in its row; of the reply, for raw text."""
    said: str
    """The last words of the user before it."""
    prompt: str
    """All that stands before the reply, as the template renders it."""
    reply: str
    """The expected reply, as the template renders it, without its end."""
    expected: Answer
    known: Known
    language: str
    kind: str
    device_types: tuple[str, ...]


class Template:
    """What a tokenizer's chat template puts around a reply. Raises BadInput where there is no template."""

    def __init__(self, tokenizer: Any):
        if tokenizer.chat_template is None:
            raise BadInput(
                "the model has no chat template, so it cannot be asked; "
                "give its tokenizer one, or add_chatml_tokens when it is trained"
            )
        self._tokenizer = tokenizer
        probe = self.render([{"role": "user", "content": _MARK}, {"role": "assistant", "content": _MARK}])
        _, between, after = probe.split(_MARK)
        self.end = next(iter(after.split()), "")
        """What follows a reply, up to white space; empty where the template puts nothing there."""
        self.header = between.strip().removeprefix(self.end).strip()
        """What opens a reply, such as `<|assistant|>` or `[/INST]`."""

    def render(self, messages: list[dict[str, Any]], tools: list[Any] | None = None) -> str:
        """Return the text of a conversation."""
        return str(self._tokenizer.apply_chat_template(messages, tools=tools, tokenize=False))

    def before_reply(self, history: list[dict[str, Any]], tools: list[Any] | None = None) -> str:
        """Return what stands before the first word of a reply, as it did when the model was trained.

        A blank before a reply belongs to its first token in most vocabularies, so it is left to the model.
        """
        rendered = self.render([*history, {"role": "assistant", "content": _MARK}], tools)
        return rendered.rpartition(_MARK)[0].rstrip(" ")

    def reply_in(self, whole: str, prompt: str) -> str:
        """Return the reply of a rendered conversation that begins with `prompt`, without its end."""
        tail = whole.removeprefix(prompt) if whole.startswith(prompt) else ""
        return (tail.rpartition(self.end)[0] or tail if self.end else tail).strip()


def read_requests(rows: Iterable[Row], tokenizer: Any) -> list[Request]:
    """Return a request for each assistant turn that is trained on.

    Raises BadInput, a line for each row that could not be judged: its own calls are no JSON, or the chat
    template refuses it or writes its tool calls in a form that is not read.
    """
    template = Template(tokenizer)
    requests: list[Request] = []
    problems: list[str] = []
    for row in rows:
        read = _turns if row.text is None else _raw_turns
        try:
            requests += read(row, template)
        except TemplateError as error:
            problems.append(f"{row.where}: the model's chat template refuses this row: {error}")
        except BadInput as bad:
            problems += bad.problems
    if problems:
        raise BadInput(shortened(problems))
    return requests


def _turns(row: Row, template: Template) -> Iterator[Request]:
    tools = list(row.tools) or None
    for turn, message in enumerate(row.messages):
        if not message.train:
            continue
        history = row.messages[:turn]
        before = [past.for_template() for past in history]
        prompt = template.before_reply(before, tools)
        reply = template.reply_in(template.render([*before, message.for_template()], tools), prompt)
        expected = read_message(message.content, message.tool_calls)
        if message.tool_calls and read_answer(reply).calls != expected.calls:
            raise BadInput(
                f"{row.where}: the model's chat template writes these tool calls as {reply!r}, "
                f"which is not read; read are {'; '.join(FORMS)}"
            )
        yield _request(
            row,
            turn=turn,
            said=next((past.content for past in reversed(history) if past.role == "user"), ""),
            prompt=prompt,
            reply=reply,
            expected=expected,
            known=read_prompt((past.content for past in history if past.role != "assistant"), row.tools),
            after_a_call=bool(history) and history[-1].role == "tool" and not expected.calls,
        )


def _raw_turns(row: Row, template: Template) -> Iterator[Request]:
    """Cut raw text at the model's own header. A user who imitates that header cannot be told apart."""
    pieces = (row.text or "").split(template.header) if template.header else []
    if len(pieces) < 2:
        raise BadInput(f"{row.where}: no reply found; looked for the model's own header {template.header!r}")
    for number, piece in enumerate(pieces[1:]):
        reply = (piece.partition(template.end)[0] if template.end else piece).strip()
        blank = piece[: len(piece) - len(piece.lstrip())].rstrip(" ")
        prompt = template.header.join([*pieces[: number + 1], blank])
        yield _request(
            row,
            turn=number,
            said=pieces[number].strip(),
            prompt=prompt,
            reply=reply,
            expected=read_answer(reply),
            known=read_prompt(pieces[:1]),
        )


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
    """Return the types of the devices that a request is about: those it must act on, else those the row names."""
    acted_on = dict.fromkeys(domain_of(target) for call in expected.calls for target in call.targets())
    named = row.meta.get("device_types")
    told = [str(name) for name in named] if isinstance(named, list) else []
    return tuple(acted_on) or tuple(told) or (UNNAMED,)
