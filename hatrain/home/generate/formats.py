"""Writes conversations as dataset rows: ShareGPT, messages with tools, raw ChatML text, preference pairs.

Rows are plain dicts in a fixed order of keys, so that their JSON is the same everywhere.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal, cast

from hatrain.home.clients.client import Client, TextClient, ToolClient
from hatrain.home.clients.guide_tools import tools_for
from hatrain.home.devices.entity import Entity
from hatrain.home.generate.conversation import Conversation, Step, Turn, read_call
from hatrain.home.homes.home import Draw
from hatrain.home.judge.asked import write_asked

__all__ = ["opening", "tools_for"]

SystemRole = Literal["system", "merged", "none"]
Row = dict[str, Any]

_TRAINED_CALL = 0.7
"""Share of rows that train the call, of a client whose rows train one message; the others train the words after it."""

_encode = json.JSONEncoder(ensure_ascii=False).encode


@dataclass(frozen=True)
class Layout:
    """What all rows of a file share. `with_home`: each carries, for the judge, its devices and what is asked."""

    client: Client
    language: str
    role: SystemRole
    instruction: str
    single_calls: bool = False
    with_home: bool = False


def dump(row: Row, client: Client) -> str:
    """Return a row as one line of JSON, with its newline. Tools are encoded once for each set of domains."""
    tools = row.pop("tools", None)
    line = _encode(row)
    if tools is not None:
        line = f'{line[:-1]}, "tools": {_tools_json(*tools, client)}}}'
    return line + "\n"


@cache
def _tools_json(domains: frozenset[str], satellite: bool, client: Client) -> str:
    return _encode(list(client.tools(domains, satellite)))


def _tools_of(conversation: Conversation) -> tuple[frozenset[str], bool]:
    """Return what the tools depend on: the home's domains, and whether the request comes through a satellite."""
    home = conversation.home
    return frozenset(home.by_domain), home.scene.satellite is not None


def opening(prompt: str, user: str, role: SystemRole, instruction: str) -> tuple[str | None, str]:
    """Return the system message, if the model's family has one, and the first user message.

    `none`: the user's first message holds the prompt. `merged`: the chat template puts the system message before
    the user's text, so the prompt ends with a label that separates them.
    """
    if role == "system":
        return prompt, user
    prompt = f"{prompt}\n{instruction}"
    return (prompt, user) if role == "merged" else (None, f"{prompt}\n{user}")


def _meta(conversation: Conversation, layout: Layout, home: str | None) -> Row:
    meta: Row = {
        "language": layout.language,
        "kind": conversation.kind,
        "device_types": list(conversation.device_types),
        "client": layout.client.name,
    }
    if home is not None:
        meta["home"] = home
    if layout.with_home and conversation.asked:
        meta["asked"] = list(map(write_asked, conversation.asked))
    if layout.with_home:
        meta["devices"] = list(map(entity_json, conversation.home.entities))
    return meta


def entity_json(entity: Entity) -> Row:
    """Return an entity as JSON, without what is empty."""
    optional = {
        "attributes": entity.attributes,
        "aliases": list(entity.aliases),
        "area": entity.area,
        "floor": entity.floor,
    }
    required = {"entity_id": entity.entity_id, "name": entity.name, "state": entity.state}
    return {**required, **{key: value for key, value in optional.items() if value}}


def _texts(conversation: Conversation, layout: Layout) -> Iterator[tuple[str, str, bool]]:
    """Yield (role, text, whether it is trained) for each message, with the calls in the text."""
    client = cast(TextClient, layout.client)
    system, first = opening(conversation.home.prompt, conversation.turns[0].user, layout.role, layout.instruction)
    if system is not None:
        yield "system", system, False
    for index, turn in enumerate(conversation.turns):
        yield "user", turn.user if index else first, False
        last = index == len(conversation.turns) - 1
        for step in turn.steps:
            if client.history == "words" and not last:
                yield "assistant", step.text, False
            else:
                yield "assistant", client.answer(step.text, step.calls), True


def sharegpt_row(conversation: Conversation, layout: Layout, home: str | None) -> Row:
    """Return `{"conversations": [{"from", "value"}], "language", "kind", "device_types", "client"}`."""
    turns = []
    for role, text, trained in _texts(conversation, layout):
        turn: Row = {"from": _SHAREGPT_ROLES[role], "value": text}
        if role == "assistant" and not trained:
            turn["train_on_turn"] = False
        turns.append(turn)
    return {"conversations": turns, **_meta(conversation, layout, home)}


_SHAREGPT_ROLES = {"system": "system", "user": "human", "assistant": "gpt"}


def raw_row(conversation: Conversation, layout: Layout, home: str | None) -> Row:
    """Return `{"text", …}`, in ChatML."""
    messages = _texts(conversation, layout)
    text = "".join(f"<|im_start|>{role}\n{text}<|im_end|>\n" for role, text, _ in messages)
    return {"text": text, **_meta(conversation, layout, home)}


def messages_row(draw: Draw, conversation: Conversation, layout: Layout, home: str | None) -> Row:
    """Return `{"messages", "tools", …}`: text as parts, calls with their arguments as a JSON string, tool results.

    With `single_calls` a turn holds one call and no words, which every template with tools can say; the words
    come after the result. A call that must fail has `train_on_turn: false`. `dump` replaces `tools` by the
    tools themselves.
    """
    system, first = opening(conversation.home.prompt, conversation.turns[0].user, layout.role, layout.instruction)
    messages: list[Row] = [] if system is None else [{"role": "system", "content": _parts(system)}]
    together = conversation.kind == "implied"
    for index, turn in enumerate(conversation.turns):
        messages.append({"role": "user", "content": _parts(turn.user if index else first)})
        steps = _single_calls(turn.steps) if layout.single_calls else turn.steps
        for step in steps:
            messages += _exchange(layout, turn, step, together, len(messages))
    if layout.client.history == "calls":
        messages = _one_trained(draw, messages)
    return {
        "messages": messages,
        **_meta(conversation, layout, home),
        "tools": _tools_of(conversation),
    }


def _exchange(layout: Layout, turn: Turn, step: Step, together: bool, number: int) -> list[Row]:
    """Return a message of the assistant, and the results of its calls. `number` makes their ids unique."""
    client, entities = cast(ToolClient, layout.client), turn.home.entities
    message: Row = {"role": "assistant", "content": _parts(step.text)}
    if step.error:
        message["train_on_turn"] = False
    written = client.tool_calls(step.calls, entities, together) if step.calls else []
    results = []
    for count, call in enumerate(written):
        call_id = f"call_{number + count}"
        function = {"name": call.service, "arguments": _encode(call.arguments)}
        message.setdefault("tool_calls", []).append({"id": call_id, "type": "function", "function": function})
        result = step.told or client.result(call, entities, step.error, turn.home.scene.satellite)
        content = _parts(_encode(result))
        results.append({"role": "tool", "tool_call_id": call_id, "name": call.service, "content": content})
    return [message, *results]


def _one_trained(draw: Draw, messages: Sequence[Row]) -> list[Row]:
    """Return the messages up to the one that is trained, as home-llm shows what came before it.

    It leaves out the assistant's messages without calls, and writes `None` where one has a call and no words.
    """
    trained = [
        index
        for index, message in enumerate(messages)
        if message["role"] == "assistant" and "train_on_turn" not in message
    ]
    start = max(index for index, message in enumerate(messages) if message["role"] == "user")
    in_last_turn = [index for index in trained if index > start]
    calls = [index for index in in_last_turn if "tool_calls" in messages[index]]
    chosen = calls[int(draw() * len(calls))] if calls and draw() < _TRAINED_CALL else in_last_turn[-1]
    shown: list[Row] = []
    for message in messages[:chosen]:
        if message["role"] != "assistant":
            shown.append(message)
        elif "tool_calls" in message:
            shown.append(_earlier(message))
    return [*shown, messages[chosen]]


def _earlier(message: Row) -> Row:
    """Return a message with calls as home-llm shows it later."""
    return {**message, "content": message["content"] or _parts("None"), "train_on_turn": False}


def _single_calls(steps: Sequence[Step]) -> Iterable[Step]:
    """Yield a step for each call, without words, and the words of a turn's last step after them."""
    for number, step in enumerate(steps, start=1):
        if not step.calls:
            yield step
            continue
        yield from (replace(step, text="", calls=type(step.calls)([call])) for call in step.calls)
        if number == len(steps) and step.text:
            yield replace(step, calls=type(step.calls)(), error="")


def _parts(text: str) -> list[Row]:
    return [{"type": "text", "text": text}] if text else []


def preference_row(conversation: Conversation, rejected: Step, layout: Layout) -> Row:
    """Return a conversation of one turn as `{"system", "question", "chosen", "rejected", …}`.

    Where calls are messages of their own: `{"prompt", "chosen", "rejected", "tools", …}`. Then answers that call the
    same are compared by the words after the calls, and an answer to a question comes after the state has been read.
    """
    (turn,) = conversation.turns
    (step,) = turn.steps
    meta = _meta(conversation, layout, None)
    client, prompt = layout.client, conversation.home.prompt
    if client.row_format != "messages":
        chosen, wrong = (cast(TextClient, client).answer(side.text, side.calls) for side in (step, rejected))
        return {"system": prompt, "question": turn.user, "chosen": chosen, "rejected": wrong, **meta}
    asked: list[Row] = [{"role": "system", "content": _parts(prompt)}, {"role": "user", "content": _parts(turn.user)}]
    together = conversation.kind == "implied"
    if not client.states_in_prompt:
        for one in conversation.asked:
            asked += _exchange(layout, turn, Step("", (read_call(one.about),)), False, len(asked))
    sides = [replace(side, text="" if side.calls else side.text) for side in (step, rejected)]
    if step.calls and step.calls == rejected.calls:
        called, *results = _exchange(layout, turn, sides[0], together, len(asked))
        asked += [_earlier(called) if client.history == "calls" else called, *results]
        sides = [Step(step.text), Step(rejected.text)]
    answers = [_exchange(layout, turn, side, together, len(asked))[:1] for side in sides]
    tools = _tools_of(conversation)
    return {"prompt": asked, "chosen": answers[0], "rejected": answers[1], **meta, "tools": tools}
