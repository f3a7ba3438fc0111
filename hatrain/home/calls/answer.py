"""Parses answers: what the user hears, and the calls, in the forms that the reader of the answer accepts.

It relies on the format alone and needs no tokenizer.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hatrain.home.calls.compare import Call
from hatrain.home.calls.gemma import gemma_calls

FENCE = "fence"
"""A `homeassistant` fence with one JSON object a line."""
SINGLE_FENCE = "single-fence"
"""A `homeassistant` fence that holds one JSON object; several calls take several fences."""
TOOL_CALL = "tool_call"
"""`<tool_call>{"name", "arguments"}</tool_call>` in the text of an answer, whatever the chat template writes."""
UNCLOSED = "unclosed"
"""Added to the others: the last call of an answer counts although its end is missing."""
TOOL_LIST, PYTHON_TAG, OBJECT, GEMMA = "tool-list", "python-tag", "object", "gemma"
"""Forms that chat templates write besides `<tool_call>`."""
OPEN_TOOL_CALL = "unclosed-tool_call"
"""Added to the others: a last `<tool_call>` counts although its end is missing."""
ACTION = "action"
"""Added to the others: `action` may stand for `service`, as in Home Assistant's automations."""

TEMPLATE_FORMS = frozenset({TOOL_CALL, TOOL_LIST, PYTHON_TAG, OBJECT, GEMMA})
KNOWN_FORMS = frozenset({FENCE, TOOL_CALL, TOOL_LIST, PYTHON_TAG, GEMMA, OPEN_TOOL_CALL, ACTION})
"""The forms of a dataset that names no client. `OBJECT` is added where a row has tools."""
ALL_FORMS = KNOWN_FORMS | {OBJECT}

FORMS = (
    "```homeassistant fences with one JSON object a line",
    "<tool_call>{…}</tool_call> (Hermes, ChatML, Qwen)",
    "[TOOL_CALLS][{…}] (Mistral)",
    "<|python_tag|>{…} or an answer that is one JSON object (Llama 3)",
    "<start_function_call>call:NAME{…}<end_function_call> (FunctionGemma)",
)
"""The formats of calls that can be parsed, in words."""


@dataclass(frozen=True)
class Answer:
    """A parsed answer.

    `text` is what the user hears, `calls` the calls of all blocks, `bad_lines` what a block contains besides calls.
    `blocks` counts blocks of calls, closed or not. `ended` is false for an answer that reached the token limit.
    `foreign` are calls in a form that nobody reads here, `forms` the forms that were read.
    """

    text: str
    calls: tuple[Call, ...] = ()
    bad_lines: tuple[str, ...] = ()
    blocks: int = 0
    unclosed: bool = False
    ended: bool = True
    foreign: tuple[str, ...] = ()
    forms: frozenset[str] = frozenset()


_THINKING = (
    (re.compile(r"<(think|thinking|thought|reasoning)>.*?</\1>", re.DOTALL), ""),
    (re.compile(r"\[THINK\].*?\[/THINK\]", re.DOTALL), ""),
    # The chat template may have opened the block in the prompt.
    (re.compile(r"\A.*?(?:</(?:think|thinking|thought|reasoning)>|\[/THINK\])", re.DOTALL), ""),
    (re.compile(r"(?:<(?:think|thinking|thought|reasoning)>|\[THINK\]).*\Z", re.DOTALL), ""),
)
_BLOCK = re.compile(
    r"```(?P<language>[\w-]*)(?P<fence>[ \t]*\n.*?|[ \t]*)(?P<fence_end>```|\Z)"
    r"|<tool_call>(?P<tool_call>.*?)(?P<tool_call_end></tool_call>|\Z)"
    r"|\[TOOL_CALLS\](?P<tool_list>.*)\Z"
    r"|<\|python_tag\|>(?P<python_tag>.*)\Z"
    r"|<start_function_call>(?P<gemma>.*?)(?P<gemma_end><end_function_call>|\Z)",
    re.DOTALL,
)
_CALL_LIKE = re.compile(r'\{\s*"(?:service|action|name|function|tool)"\s*:\s*"')
_DECODER = json.JSONDecoder(parse_constant=lambda name: _refuse(name))


def read_answer(text: str, *, ended: bool = True, forms: frozenset[str] = ALL_FORMS) -> Answer:
    """Parse an answer. It accepts any text, at worst as an answer without calls.

    `ended` is whether the model ended its turn; `forms` are the forms in which a call is carried out. Calls inside
    thinking are not calls.
    """
    text = _spoken(text.replace("\r\n", "\n"))
    reading = _Reading(forms, ended)
    said, position = [], 0
    for block in _BLOCK.finditer(text):
        said.append(text[position : block.start()])
        said.append(reading.block(block))
        position = block.end()
    said.append(text[position:])
    rest = "".join(said)
    if OBJECT in forms and not reading.blocks and rest.lstrip().startswith("{"):
        calls, bad = _objects(rest, forms)
        if calls and not bad:
            reading.add(OBJECT, calls, [])
            rest = ""
    return Answer(
        rest.strip(),
        tuple(reading.calls),
        tuple(reading.bad_lines),
        reading.blocks,
        reading.unclosed,
        ended,
        (*reading.foreign, *_call_like(rest)),
        frozenset(reading.used),
    )


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
        forms=answer.forms,
    )


class _Reading:
    """The blocks of an answer, read one after another."""

    def __init__(self, forms: frozenset[str], ended: bool):
        self._forms, self._ended = forms, ended
        self.calls: list[Call] = []
        self.bad_lines: list[str] = []
        self.foreign: list[str] = []
        self.used: set[str] = set()
        self.blocks = 0
        self.unclosed = False

    def block(self, match: re.Match[str]) -> str:
        """Read a block. Return what of it is said to the user: all, if it holds nothing like a call."""
        form = str(match.lastgroup).removesuffix("_end").replace("_", "-")
        form = {"tool-call": TOOL_CALL}.get(form, form)
        inside = match[str(match.lastgroup).removesuffix("_end")] or ""
        closed = form in (TOOL_LIST, PYTHON_TAG) or bool(match[f"{form.replace('-', '_')}_end"])
        if form == FENCE and match["language"] != "homeassistant":
            found = _call_like(inside)
            self.foreign += found
            return "" if found else match[0]
        if form == FENCE and SINGLE_FENCE in self._forms and FENCE not in self._forms:
            form = SINGLE_FENCE
        if form not in self._forms:
            self.foreign.append(match[0].strip())
            return ""
        calls, bad = gemma_calls(inside) if form == GEMMA else _objects(inside, self._forms)
        if form == SINGLE_FENCE and len(calls) + len(bad) > 1:
            calls, bad = [], [inside.strip()]
        if closed:
            self.add(form, calls, bad)
        elif self._may_stay_open(form) and calls and not bad:
            self.add(form, calls, [])
        else:
            self.blocks += 1
            self.unclosed = True
        return ""

    def add(self, form: str, calls: list[Call], bad: list[str]) -> None:
        self.blocks += 1
        self.used.add(form)
        self.calls += calls
        self.bad_lines += bad

    def _may_stay_open(self, form: str) -> bool:
        allowed = UNCLOSED in self._forms or (form == TOOL_CALL and OPEN_TOOL_CALL in self._forms)
        return self._ended and allowed


def _spoken(text: str) -> str:
    for pattern, replacement in _THINKING:
        text = pattern.sub(replacement, text)
    return text


def _objects(text: str, forms: frozenset[str]) -> tuple[list[Call], list[str]]:
    """Return the calls in a sequence of JSON values, on one line or several, and each line that begins no call."""
    calls: list[Call] = []
    bad: list[str] = []
    for value, source in _values(text):
        items = value if isinstance(value, list) else [value]
        found = [_call(item, forms) for item in items] if value is not None else []
        if found and None not in found:
            calls += [call for call in found if call is not None]
        else:
            bad.append(source)
    return calls, bad


def _values(text: str) -> Iterator[tuple[Any, str]]:
    """Yield each JSON value of a text with its source; None for a line that is not JSON."""
    position = 0
    while True:
        while position < len(text) and text[position] in " \t\n\r,;":
            position += 1
        if position >= len(text):
            return
        value, end = _decoded(text, position)
        if end == position:
            end = text.find("\n", position)
            end = len(text) if end < 0 else end
        yield value, text[position:end].strip()
        position = end


def _decoded(text: str, position: int) -> tuple[Any, int]:
    """Return the JSON value at a position and its end; (None, position) where there is none."""
    try:
        return _DECODER.raw_decode(text, position)
    except (ValueError, RecursionError):
        return None, position


def _call(value: Any, forms: frozenset[str]) -> Call | None:
    """Read `{"service", arguments…}`, or a tool's name with its arguments."""
    if not isinstance(value, dict):
        return None
    for key in ("service", "action") if ACTION in forms else ("service",):
        if isinstance(value.get(key), str):
            return Call(value[key], {name: item for name, item in value.items() if name != key})
    if isinstance(value.get("function"), dict):
        value = value["function"]
    name, arguments = value.get("name"), value.get("arguments", value.get("parameters", {}))
    if isinstance(arguments, str):
        arguments = _decoded(arguments, 0)[0] if arguments.strip() else {}
    return Call(name, arguments) if isinstance(name, str) and isinstance(arguments, dict) else None


def _call_like(text: str) -> list[str]:
    """Return the JSON objects in a text that would be calls if they stood in an accepted form."""
    found: list[str] = []
    end = 0
    for match in _CALL_LIKE.finditer(text):
        if match.start() < end or len(found) == 20:
            continue
        value, end = _decoded(text, match.start())
        if value is not None and _call(value, ALL_FORMS) is not None:
            found.append(text[match.start() : end])
    return found


def _refuse(name: str) -> Callable[[], Any]:
    raise ValueError(f"{name} is not JSON")
