"""Writes conversations as dataset rows: ShareGPT, messages with tools, raw ChatML text, preference pairs.

Rows are plain dicts in a fixed order of keys, so that their JSON is the same everywhere.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any, Literal

from hatrain.home.devices.services import DOMAINS, SERVICES, Argument, Intent, Kind
from hatrain.home.generate.conversations import Conversation, Step
from hatrain.home.generate.drafts import Call

Format = Literal["sharegpt", "messages", "raw"]
Tools = Literal["service", "hass"]
SystemRole = Literal["system", "merged", "none"]
Row = dict[str, Any]

_encode = json.JSONEncoder(ensure_ascii=False).encode


def dump(row: Row) -> str:
    """Return a row as one line of JSON, with its newline. Tools are encoded once for each set of domains."""
    tools = row.pop("tools", None)
    line = _encode(row)
    if tools is not None:
        line = f'{line[:-1]}, "tools": {_tools_json(*tools)}}}'
    return line + "\n"


def answer_text(step: Step) -> str:
    """Return the text and, if there are calls, a `homeassistant` fence with one JSON object a line."""
    if not step.calls:
        return step.text
    calls = "\n".join(map(_encode, step.calls))
    return f"{step.text}\n```homeassistant\n{calls}\n```"


def opening(prompt: str, user: str, role: SystemRole, instruction: str) -> tuple[str | None, str]:
    """Return the system message, if the model's family has one, and the first user message.

    `none`: the user's first message holds the prompt. `merged`: the chat template puts the system message before
    the user's text, so the prompt ends with a label that separates them.
    """
    if role == "system":
        return prompt, user
    prompt = f"{prompt}\n{instruction}"
    return (prompt, user) if role == "merged" else (None, f"{prompt}\n{user}")


def _meta(conversation: Conversation, language: str, home: str | None) -> Row:
    meta = {"language": language, "kind": conversation.kind, "device_types": list(conversation.device_types)}
    return meta if home is None else {**meta, "home": home}


def _texts(conversation: Conversation, role: SystemRole, instruction: str) -> Iterable[tuple[str, str]]:
    """Yield (role, text) for each message, with the calls in the text."""
    system, first = opening(conversation.home.prompt, conversation.turns[0].user, role, instruction)
    if system is not None:
        yield "system", system
    for index, turn in enumerate(conversation.turns):
        yield "user", turn.user if index else first
        for step in turn.steps:
            yield "assistant", answer_text(step)


def sharegpt_row(
    conversation: Conversation, *, language: str, home: str | None, role: SystemRole, instruction: str
) -> Row:
    """Return `{"conversations": [{"from", "value"}], "language", "kind", "device_types"}`."""
    turns = [{"from": _SHAREGPT_ROLES[name], "value": text} for name, text in _texts(conversation, role, instruction)]
    return {"conversations": turns, **_meta(conversation, language, home)}


_SHAREGPT_ROLES = {"system": "system", "user": "human", "assistant": "gpt"}


def raw_row(conversation: Conversation, *, language: str, home: str | None, role: SystemRole, instruction: str) -> Row:
    """Return `{"text", …}`, in ChatML."""
    text = "".join(f"<|im_start|>{name}\n{text}<|im_end|>\n" for name, text in _texts(conversation, role, instruction))
    return {"text": text, **_meta(conversation, language, home)}


_SCHEMAS: dict[Kind, Row] = {
    "percent": {"type": "integer", "minimum": 0, "maximum": 100},
    "humidity": {"type": "integer", "minimum": 0, "maximum": 100},
    "fraction": {"type": "number", "minimum": 0, "maximum": 1},
    "color": {"type": "string"},
    "temperature": {"type": "number"},
    "duration": {"type": "string", "description": "HH:MM:SS"},
    "hvac_mode": {"type": "string", "enum": ["off", "heat", "cool", "heat_cool", "auto", "dry", "fan_only"]},
    "fan_mode": {"type": "string", "enum": ["auto", "low", "medium", "high"]},
    "text": {"type": "string"},
    "flag": {"type": "boolean"},
}
_CLOCK = ("hours", "minutes", "seconds")


def _function(name: str, description: str, properties: Row, required: Sequence[str]) -> Row:
    parameters = {"type": "object", "properties": properties, "required": list(required)}
    return {
        "type": "function",
        "function": {"name": name, "description": description, "parameters": parameters},
    }


def _service_tool(name: str) -> Row:
    service = SERVICES[name]
    properties = {"entity_id": {"type": "string"}}
    properties |= {argument.name: _SCHEMAS[argument.kind] for argument in service.arguments}
    required = ["entity_id", *(argument.name for argument in service.arguments if argument.required)]
    return _function(name, f"Home Assistant's action {name}", properties, required)


def _intent_arguments(intent: Intent, argument: Argument) -> Row:
    if argument.kind == "duration":
        return {unit: {"type": "integer", "minimum": 0} for unit in _CLOCK}
    # The intent takes volume in percent, the service as a fraction.
    kind: Kind = "percent" if argument.kind == "fraction" else argument.kind
    return {intent.renamed.get(argument.name, argument.name): _SCHEMAS[kind]}


def intent_of(service: str, arguments: Iterable[str]) -> Intent | None:
    """Return the intent for a service; it depends on whether there are arguments, as in `light.turn_on`."""
    given = set(arguments)
    if service == "light.turn_on" and not given:
        return Intent("HassTurnOn")
    if service == "timer.start" and not given:
        return Intent("HassUnpauseTimer")
    return SERVICES[service].intent


@cache
def _intent_tools() -> Mapping[str, dict[str, Row]]:
    """Return {domain: {intent: tool}}."""
    by_domain: dict[str, dict[str, Row]] = {}
    for domain, services in DOMAINS.items():
        tools = by_domain.setdefault(domain, {})
        for service in services.values():
            names = [argument.name for argument in service.arguments]
            for given in ([], names) if names else ([],):
                intent = intent_of(service.name, given)
                if intent is None or (names and not given and intent is service.intent):
                    continue
                properties: Row = {"name": {"type": "string"}}
                for argument in service.arguments if given else ():
                    if argument.name != "media_content_type":
                        properties |= _intent_arguments(intent, argument)
                properties |= {name: {"type": "string", "enum": ["up", "down"]} for name in intent.fixed}
                description = f"Home Assistant's intent {intent.name}"
                tools[intent.name] = _function(intent.name, description, properties, ["name"])
    return by_domain


@cache
def _tools_json(domains: frozenset[str], tools: Tools) -> str:
    return _encode(tools_for(domains, tools))


def tools_for(domains: frozenset[str], tools: Tools) -> tuple[Row, ...]:
    """Return the tools of a home with devices of these domains, sorted by name."""
    if tools == "service":
        return tuple(_service_tool(name) for domain in sorted(domains) for name in DOMAINS[domain])
    intents = {name: tool for domain in sorted(domains) for name, tool in _intent_tools()[domain].items()}
    return tuple(intents[name] for name in sorted(intents))


def tool_call(call: Call, tools: Tools, names: Mapping[str, str]) -> tuple[str, Row]:
    """Return a call as (tool name, arguments). Intents take devices by friendly name (`names`: by entity id)."""
    target = call["target_device"]
    arguments = {key: value for key, value in call.items() if key not in ("service", "target_device")}
    if tools == "service":
        return call["service"], {"entity_id": target, **arguments}
    intent = intent_of(call["service"], arguments)
    assert intent, f"{call['service']} has no intent"
    kinds = {argument.name: argument.kind for argument in SERVICES[call["service"]].arguments}
    # An id that is wrong on purpose has no friendly name: derive one from the id.
    renamed: Row = {"name": names.get(target, target.partition(".")[2].replace("_", " "))}
    for key, value in arguments.items():
        if kinds[key] == "duration":
            renamed |= {unit: int(part) for unit, part in zip(_CLOCK, value.split(":"), strict=True) if int(part)}
        elif key != "media_content_type":
            renamed[intent.renamed.get(key, key)] = round(value * 100) if kinds[key] == "fraction" else value
    return intent.name, {**renamed, **intent.fixed}


def messages_row(
    conversation: Conversation,
    *,
    language: str,
    home: str | None,
    role: SystemRole,
    instruction: str,
    tools: Tools,
    single_calls: bool = False,
) -> Row:
    """Return `{"messages", "tools", …}`: text as parts, calls with their arguments as a JSON string, tool results.

    With `single_calls` a turn holds one call and no words, which every template with tools can say; the words
    come after the result. A call that must fail has `train_on_turn: false`. `dump` replaces `tools` by the
    tools themselves.
    """
    names = {device.name.entity_id: device.name.friendly for device in conversation.home.devices}
    system, first = opening(conversation.home.prompt, conversation.turns[0].user, role, instruction)
    messages: list[Row] = [] if system is None else [{"role": "system", "content": _parts(system)}]
    count = 0
    for index, turn in enumerate(conversation.turns):
        messages.append({"role": "user", "content": _parts(turn.user if index else first)})
        steps = _single_calls(turn.steps) if single_calls else turn.steps
        for step in steps:
            message: Row = {"role": "assistant", "content": _parts(step.text)}
            messages.append(message)
            if step.error:
                message["train_on_turn"] = False
            result = _parts(_encode({"error": step.error} if step.error else {"result": "ok"}))
            calls = []
            for call in step.calls:
                name, arguments = tool_call(call, tools, names)
                count += 1
                function = {"name": name, "arguments": _encode(arguments)}
                calls.append({"id": f"call_{count}", "type": "function", "function": function})
                messages.append({"role": "tool", "tool_call_id": f"call_{count}", "name": name, "content": result})
            if calls:
                message["tool_calls"] = calls
    return {
        "messages": messages,
        **_meta(conversation, language, home),
        "tools": (frozenset(conversation.home.by_domain), tools),
    }


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


def preference_row(conversation: Conversation, rejected: Step) -> Row:
    """Return `{"system", "question", "chosen", "rejected"}` of a conversation of one turn."""
    (turn,) = conversation.turns
    (step,) = turn.steps
    return {
        "system": conversation.home.prompt,
        "question": turn.user,
        "chosen": answer_text(step),
        "rejected": answer_text(rejected),
    }
