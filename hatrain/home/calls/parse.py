"""Parses answers and prompts: the calls of an answer; the services and devices of a prompt.

It relies on their format alone, since labels are in the user's language, and needs no tokenizer.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from hatrain.home.calls.compare import Call
from hatrain.home.calls.judge import Answer, PromptContents

FORMS = (
    "```homeassistant fences with one JSON object a line",
    "<tool_call>{…}</tool_call> (Hermes, ChatML, Qwen)",
    "[TOOL_CALLS][{…}] (Mistral)",
    "<|python_tag|>{…} or an answer that is one JSON object (Llama 3)",
)
"""The formats of calls that can be parsed."""

_FENCE = re.compile(r"```homeassistant[ \t]*\n(.*?)```", re.DOTALL)
_OPEN_FENCE = re.compile(r"```homeassistant.*\Z", re.DOTALL)
_TOOL_CALL = re.compile(r"<tool_call>(.*?)</tool_call>", re.DOTALL)
_OPEN_TOOL_CALL = re.compile(r"<tool_call>.*\Z", re.DOTALL)
_TOOL_LIST = re.compile(r"(?:\[TOOL_CALLS\]|<\|python_tag\|>)(.*)\Z", re.DOTALL)

_MOST_BRACKETS = 200
"""In one call. A degenerate answer may nest JSON deeper than Python's parser can go."""

_DEVICE = re.compile(r"^\s*([a-z_]+\.[a-z0-9_]+)\s+'(.*?)'\s*=", re.MULTILINE)
_SERVICE = r"[a-z_]+\.[a-z_0-9]+(?:\([^()\n]*\))?"
_SERVICES = re.compile(rf"^[^:：\n]*[:：]\s*({_SERVICE}(?:,\s*{_SERVICE})*)\s*$", re.MULTILINE)
_SIGNATURE = re.compile(r"\b([a-z_]+\.[a-z_0-9]+)\([^()\n]*\)")


def read_answer(text: str, *, ended: bool = True) -> Answer:
    """Parse an answer. It accepts any text, at worst as an answer without calls.

    `ended` is whether the model ended its turn. `FORMS` lists the formats of calls.
    """
    calls: list[Call] = []
    bad_lines: list[str] = []
    blocks = 0
    for block in _blocks(text):
        blocks += 1
        for part in block:
            found = _calls(part)
            calls.extend(found)
            if not found:
                bad_lines.append(part)
    rest = _TOOL_CALL.sub("", _FENCE.sub("", text))
    unclosed = bool(_OPEN_FENCE.search(rest) or _OPEN_TOOL_CALL.search(rest))
    rest = _OPEN_TOOL_CALL.sub("", _OPEN_FENCE.sub("", rest))
    if listed := _TOOL_LIST.search(rest):
        found = _calls(listed[1])
        rest, blocks, calls = rest[: listed.start()], blocks + 1, calls + found
        bad_lines += [] if found else [listed[1].strip()]
    elif not blocks and not unclosed and rest.lstrip().startswith("{") and (found := _calls(rest)):
        rest, blocks, calls = "", 1, found
    return Answer(rest.strip(), tuple(calls), tuple(bad_lines), blocks + unclosed, unclosed, ended)


def read_message(content: str, tool_calls: Iterable[Mapping[str, Any]]) -> Answer:
    """Parse a message of a dataset: the calls in its text, and its `tool_calls`, whose arguments are objects."""
    answer = read_answer(content)
    calls = tuple(Call(call["function"]["name"], call["function"]["arguments"]) for call in tool_calls)
    return Answer(
        answer.text,
        answer.calls + calls,
        answer.bad_lines,
        answer.blocks + len(calls),
        answer.unclosed,
    )


def read_prompt(texts: Iterable[str], tools: Iterable[Mapping[str, Any]] = ()) -> PromptContents:
    """Parse a prompt.

    A device is a line `entity_id 'Friendly name' = state…`. A service is `domain.service(arguments)` anywhere, or
    without parentheses in a list after a label and a colon. Tools are JSON schema functions.
    """
    entities: dict[str, str] = {}
    services: set[str] = set()
    for text in texts:
        entities.update(_DEVICE.findall(text))
        for line in _SERVICES.findall(text):
            services.update(name.partition("(")[0] for name in re.findall(_SERVICE, line))
        services.update(_SIGNATURE.findall(text))
    services.update(name for name in map(_tool_name, tools) if name)
    return PromptContents(entities, frozenset(services))


def _blocks(text: str) -> Iterator[list[str]]:
    """Yield for each closed block what should be calls: the lines of a fence, the inside of a tool call."""
    for block in sorted([*_FENCE.finditer(text), *_TOOL_CALL.finditer(text)], key=lambda match: match.start()):
        inside = block[1].strip()
        yield [inside] if block.re is _TOOL_CALL else [line for line in inside.splitlines() if line.strip()]


def _calls(part: str) -> list[Call]:
    """Parse the calls in a JSON object, or a list of them; none if a part of it is not a call."""
    if part.count("[") + part.count("{") > _MOST_BRACKETS:
        return []
    try:
        value = json.loads(part, parse_constant=_no_constant)
    except ValueError:
        return []
    found = [_call(item) for item in (value if isinstance(value, list) else [value])]
    return [call for call in found if call is not None] if None not in found else []


def _call(value: Any) -> Call | None:
    """Parse `{"service", arguments…}`, or a tool's name with its arguments."""
    if not isinstance(value, dict):
        return None
    if isinstance(value.get("service"), str):
        return Call(value["service"], {key: item for key, item in value.items() if key != "service"})
    name, arguments = value.get("name"), value.get("arguments", value.get("parameters", {}))
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments, parse_constant=_no_constant)
        except ValueError:
            return None
    return Call(name, arguments) if isinstance(name, str) and isinstance(arguments, dict) else None


def _tool_name(tool: Mapping[str, Any]) -> str | None:
    function = tool.get("function", tool)
    name = function.get("name") if isinstance(function, Mapping) else None
    return name if isinstance(name, str) else None


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
