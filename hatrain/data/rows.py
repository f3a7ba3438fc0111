"""A dataset file as typed rows: ShareGPT, messages or raw text, in JSON or JSON Lines, gzipped or not. Every bad row is
reported with file and line; none is repaired."""

import hashlib
import json
import marshal
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol, TypeVar

from hatrain.data.jsonfile import NotJson, json_fault, parsed, raw_values, strict_json
from hatrain.errors import BadInput, nearest

R = TypeVar("R")

SHAREGPT_ROLES = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "tool": "tool",
}
ROLES = ("system", "developer", "user", "assistant", "tool")
FORMATS = {
    "conversations": '{"conversations": [{"from", "value"}]}',
    "messages": '{"messages": [{"role", "content"}]}',
    "text": '{"text"}',
}
ROW_FORMATS = " or ".join(FORMATS.values())
MOST_TURNS = 1024
"""Turns of a row. More fit into no context, and templates take time that grows with their square."""
_PRINTED = 20
"""Bad rows of a file that are printed one by one; the rest are counted."""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. `train` is true for assistant turns that are trained on, and false for all other roles."""

    role: str
    content: str
    train: bool = False
    tool_calls: tuple[Mapping[str, Any], ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Other keys of the message (`name`, `tool_call_id`, `reasoning_content`, …), passed to the template."""
    ignored: tuple[str, ...] = ()
    """Other keys of a ShareGPT turn, which no template gets."""

    def for_template(self) -> dict[str, Any]:
        """As chat templates expect it: content as text, call arguments as an object."""
        rendered = {"role": self.role, "content": self.content, **self.extra}
        if self.tool_calls:
            rendered["tool_calls"] = list(self.tool_calls)
        return rendered


@dataclass(frozen=True, slots=True)
class Row:
    """One row: either `messages`, possibly with `tools`, or raw `text`."""

    path: Path
    index: int
    """0-based, counting bad rows too."""
    line: int
    """1-based line on which the row begins."""
    messages: tuple[Message, ...] = ()
    tools: tuple[Mapping[str, Any], ...] = ()
    text: str | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)
    """All other keys of the row (`language`, `kind`, `home`, …), which training ignores."""
    nulls: int = 0
    """Keys without a value that were left out of call arguments and tools: Arrow adds them to rows that lack a key."""

    @property
    def where(self) -> str:
        """`file:line`."""
        return f"{self.path}:{self.line}"


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be used, with one complete line per problem."""

    path: Path
    index: int
    line: int
    problems: tuple[str, ...]
    detail: str = ""
    """The row itself, over several lines, where that helps to see the problem."""


class Wrong(Exception):
    """Carries a problem of a row to where problems are collected."""


def read_rows(path: str | Path) -> Iterator[Row]:
    """Yield the rows of a file in its order.

    Raises BadInput before the first row when the file cannot be read, and after the last row when any row was bad: one
    line for each of the first bad rows, and the number of others.
    """
    problems: list[str] = []
    for row in scan_rows(path):
        if isinstance(row, BadRow):
            problems.extend(row.problems)
        else:
            yield row
    if problems:
        raise BadInput(shortened(problems))


_LEAD = re.compile(r"(?P<file>.*?):(?P<line>\d+): (?:row \d+: )?")
_DETAILS = re.compile(r"'[^']*'|\"[^\"]*\"|\d+")
_EXAMPLES = 3


def grouped(problems: Iterable[str]) -> list[str]:
    """Return the problems, those of one kind as one line with their number and three examples. Two are of one kind
    when they differ in numbers and quoted text alone."""
    kinds: dict[str, list[str]] = {}
    for problem in problems:
        first = problem.partition("\n")[0]
        lead = _LEAD.match(first)
        kinds.setdefault(_DETAILS.sub("…", first[lead.end() :] if lead else first), []).append(problem)
    lines = []
    for alike in kinds.values():
        lines += alike if len(alike) <= _EXAMPLES else [_counted(alike)]
    return lines


def _counted(alike: list[str]) -> str:
    leads = [lead for problem in alike[:_EXAMPLES] if (lead := _LEAD.match(problem))]
    others = ", ".join(f"{lead['file']}:{lead['line']}" for lead in leads[1:])
    first, _, detail = alike[0].partition("\n")
    line = f"{first} (and {len(alike) - 1:,} more rows like this, such as {others})"
    return f"{line}\n{detail}" if detail else line


def shortened(problems: list[str]) -> list[str]:
    """Return the problems, those of one kind as one line; after the first lines, the number of others."""
    problems = grouped(problems)
    if len(problems) <= _PRINTED:
        return problems
    return [*problems[:_PRINTED], f"and {len(problems) - _PRINTED} more like these"]


def scan_rows(path: str | Path, digest: "hashlib._Hash | None" = None) -> Iterator[Row | BadRow]:
    """Yield every row of a file, good or bad, in its order. Keeps one row of a JSON Lines file in memory. `digest` is
    updated with the file's bytes.

    Raises BadInput when the file does not exist, cannot be read as text, or has no row.
    """
    yield from scan(path, read_row, ROW_FORMATS, digest)


R_co = TypeVar("R_co", covariant=True)


class Form(Protocol[R_co]):
    """How the value of a row becomes a row. Raises Wrong for a bad one."""

    def __call__(self, parsed: Any, path: Path, index: int, line: int) -> R_co: ...


def scan(path: str | Path, make: Form[R], accepted: str, digest: "hashlib._Hash | None" = None) -> Iterator[R | BadRow]:
    """Yield `make(value, path, index, line)` for the JSON value of each row.

    Raises BadInput as `scan_rows` does; `accepted` describes a row in messages.
    """
    path = Path(path)
    for index, line, value in numbered(path, accepted, digest):
        yield made(value, make, path, index, line)


def numbered(path: Path, accepted: str, digest: "hashlib._Hash | None" = None) -> Iterator[tuple[int, int, Any]]:
    """Yield the index, the line and the value of each row, which may not be parsed yet. Raises as `scan` does."""
    index = -1
    for index, (line, value) in enumerate(raw_values(path, digest)):
        yield index, line, value
    if index < 0:
        raise BadInput(f"{path}: no rows; accepted: {accepted}, as JSON Lines or one JSON list")


def made(value: Any, make: Form[R], path: Path, index: int, line: int) -> R | BadRow:
    """Make a row of a value that `numbered` yields."""
    value = parsed(value)
    if isinstance(value, NotJson):
        return BadRow(path, index, line, (f"{path}:{line}: {value.reason}",))
    try:
        return make(value, path, index, line)
    except Wrong as wrong:
        return BadRow(path, index, line, (f"{path}:{line}: {wrong}",))


# --- one row ------------------------------------------------------------------------------------------------


def read_row(parsed: Any, path: Path, index: int, line: int) -> Row:
    """Read a row. Raises Wrong."""
    if not isinstance(parsed, dict):
        raise Wrong(f"found {kind_of(parsed)}; accepted: an object, {ROW_FORMATS}")
    named = [key for key in FORMATS if key in parsed]
    if len(named) != 1:
        if named:
            raise Wrong(f"found {' and '.join(named)} in one row; keep one")
        raise Wrong(_no_format(parsed))
    (key,) = named
    tools: tuple[Mapping[str, Any], ...] = ()
    if key == "text":
        text = read_text(parsed["text"], "text")
        if not text.strip():
            raise Wrong("text: found no text")
        messages: tuple[Message, ...] = ()
    else:
        text = None
        turn = _sharegpt_message if key == "conversations" else read_message
        messages = with_context(read_messages(parsed[key], key, turn), parsed)
        messages = _masked(messages, parsed.get("loss_mask"), len(parsed[key]))
        tools = read_tools(parsed)
        _refuse_row_choice(parsed)
    used = (key, *CONTEXT_KEYS, "loss_mask") if key != "text" else (key,)
    meta = {name: value for name, value in parsed.items() if name not in used}
    nulls = sum(map(_nulls, _structures(parsed.get(key), parsed)))
    return Row(path, index, line, messages, tools, text, meta, nulls)


CONTEXT_KEYS = ("system", "tools", "functions")
"""Keys beside a row's turns that the model sees."""


def with_context(messages: tuple[Message, ...], parsed: Mapping[str, Any]) -> tuple[Message, ...]:
    """Put the text of the row's key `system` before its turns. Raises Wrong when a system turn says something else."""
    system = parsed.get("system")
    text = "" if system is None else read_text(system, "system")
    if not text.strip():
        return messages
    if messages[0].role not in ("system", "developer"):
        return (Message("system", text), *messages)
    if messages[0].content.strip() != text.strip():
        raise Wrong("system: found beside a system turn with another text; keep one")
    return messages


def _masked(messages: tuple[Message, ...], mask: Any, turns: int) -> tuple[Message, ...]:
    """Return the turns of a row with `loss_mask`: 0 leaves a turn out of training. Raises Wrong."""
    if mask is None:
        return messages
    if not isinstance(mask, list) or len(mask) != turns or any(item not in (0, 1) for item in mask):
        raise Wrong(f"loss_mask: found {mask!r}; accepted: a list of 0 or 1, one for each of the {turns} turns")
    start = len(messages) - turns
    for number, item in enumerate(mask):
        if item and messages[start + number].role != "assistant":
            raise Wrong(
                f"loss_mask[{number}]: found 1 for a turn of role {messages[start + number].role!r}; accepted: 0"
            )
    own = messages[start:]
    return (
        *messages[:start],
        *(replace(turn, train=turn.train and bool(item)) for turn, item in zip(own, mask, strict=True)),
    )


def _refuse_row_choice(parsed: Mapping[str, Any]) -> None:
    """Raise Wrong when a key that chooses turns stands beside the turns: which of them it means is not plain."""
    for name in TRAIN_KEYS:
        value = parsed.get(name)
        if name != "loss_mask" and value is not None and value is not True and value != 1:
            raise Wrong(
                f"{name}: found {value!r} beside the turns; write it on each turn it is meant for, or remove the row"
            )


def _structures(turns: Any, parsed: Mapping[str, Any]) -> list[Any]:
    """Return the call arguments and the tools of a row, as they are in the file."""
    found = [parsed.get(key) for key in ("tools", "functions")]
    for turn in turns if isinstance(turns, list) else ():
        calls = turn.get("tool_calls") if isinstance(turn, dict) else None
        for call in calls if isinstance(calls, list) else ():
            function = call.get("function") if isinstance(call, dict) else None
            found.append(function.get("arguments") if isinstance(function, dict) else None)
    return found


def _nulls(value: Any) -> int:
    # Nearly always there are none, which the JSON says faster than a walk.
    return _count_nulls(value) if value is not None and "null" in json.dumps(value) else 0


def _count_nulls(value: Any) -> int:
    if isinstance(value, dict):
        return sum(1 if item is None else _count_nulls(item) for item in value.values())
    return sum(map(_count_nulls, value)) if isinstance(value, list) else 0


def _without_nulls(value: Any) -> Any:
    """Drop keys without a value. Arrow gives all rows of a file the same keys, and null where a row had none.

    Raises Wrong for what Arrow can hold and JSON cannot.
    """
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    if value is not None and not isinstance(value, str | int | float):
        raise Wrong(f"found the {type(value).__name__} {value} in tools or arguments; accepted: what JSON can hold")
    return value


def _no_format(parsed: dict[str, Any]) -> str:
    if {"chosen", "rejected"} <= parsed.keys():
        return "found a pair for preference training (chosen, rejected); accepted here: " + ROW_FORMATS
    near = next(filter(None, (nearest(key, FORMATS) for key in parsed)), "")
    found = f"the keys {', '.join(parsed)}" if parsed else "no key"
    return f"found {found}; accepted: {ROW_FORMATS}{near}"


def read_messages(value: Any, key: str, turn: Callable[[Mapping[str, Any], str], Message]) -> tuple[Message, ...]:
    """Return a row's turns, each read by `turn`. Raises Wrong, also for an empty turn that is trained on."""
    if not isinstance(value, list) or not value:
        found = kind_of(value) if value != [] else "an empty list"
        raise Wrong(f"{key}: found {found}; accepted: a list of turns")
    if len(value) > MOST_TURNS:
        raise Wrong(f"{key}: found {len(value)} turns; accepted: at most {MOST_TURNS}")
    messages = []
    for number, item in enumerate(value):
        at = f"{key}[{number}]"
        if not isinstance(item, dict):
            raise Wrong(f"{at}: found {kind_of(item)}; accepted: an object")
        message = turn(item, at)
        if message.train and not message.content.strip() and not message.tool_calls:
            raise Wrong(f"{at}: found an empty turn of the assistant; write an answer, or set train_on_turn: false")
        messages.append(message)
    return tuple(messages)


def _sharegpt_message(item: Mapping[str, Any], at: str) -> Message:
    written = _required(item, "from", at)
    role = SHAREGPT_ROLES.get(written) if isinstance(written, str) else None
    if role is None:
        raise Wrong(_unknown_role(f"{at}.from", written, tuple(SHAREGPT_ROLES)))
    content = read_text(_required(item, "value", at), f"{at}.value")
    ignored = tuple(key for key in item if key not in ("from", "value", *TRAIN_KEYS))
    return Message(role, content, train=_trained(item, role, at), ignored=ignored)


def read_message(item: Mapping[str, Any], at: str) -> Message:
    """Read a turn written as `{"role", "content"}`. Raises Wrong."""
    role = _required(item, "role", at)
    if role not in ROLES:
        raise Wrong(_unknown_role(f"{at}.role", role, ROLES))
    calls = _tool_calls(item.get("tool_calls"), f"{at}.tool_calls")
    if calls and role != "assistant":
        raise Wrong(f"{at}.tool_calls: found with role {role!r}; only an assistant calls tools")
    content = "" if calls and item.get("content") is None else _content(_required(item, "content", at), at)
    known = ("role", "content", "tool_calls", *TRAIN_KEYS)
    extra = {key: value for key, value in item.items() if key not in known and value is not None}
    return Message(role, content, _trained(item, role, at), calls, extra)


def _content(value: Any, at: str) -> str:
    """Read content: text, or a list of text parts, which are joined as they are."""
    if not isinstance(value, list):
        return read_text(value, f"{at}.content")
    parts = []
    for number, part in enumerate(value):
        item = f"{at}.content[{number}]"
        if isinstance(part, str):
            parts.append(read_text(part, item))
        elif isinstance(part, dict) and part.get("type", "text") == "text" and "text" in part:
            parts.append(read_text(part["text"], f"{item}.text"))
        else:
            found = repr(part.get("type")) if isinstance(part, dict) else kind_of(part)
            raise Wrong(f'{item}: found a part of type {found}; accepted: {{"type": "text", "text"}}')
    return "".join(parts)


TRAIN_KEYS = ("train_on_turn", "train", "training", "trainable", "loss", "loss_mask", "weight")
"""A turn's keys that say whether it is trained on, in this and in other trainers' files."""


def _trained(item: Mapping[str, Any], role: str, at: str) -> bool:
    """Assistant turns are trained on unless one of TRAIN_KEYS is false or 0; others never are."""
    chosen = {name: item[name] for name in TRAIN_KEYS if item.get(name) is not None}
    for name, value in chosen.items():
        if name == "train_on_turn" and not isinstance(value, bool):
            raise Wrong(f"{at}.{name}: found {value!r}; accepted: true or false")
        if not isinstance(value, bool | int | float) or value not in (0, 1):
            raise Wrong(f"{at}.{name}: found {value!r}; accepted: 0 or 1, false or true")
    if len({bool(value) for value in chosen.values()}) > 1:
        said = ", ".join(f"{name} {value!r}" for name, value in chosen.items())
        raise Wrong(f"{at}: found {said}, which contradict each other; keep one")
    if item.get("train_detail") is not None:
        raise Wrong(f"{at}.train_detail: parts of a turn cannot be chosen; use train_on_turn for the whole turn")
    return role == "assistant" and all(chosen.values())


def _tool_calls(value: Any, at: str) -> tuple[Mapping[str, Any], ...]:
    """Return calls with their arguments as objects, which may be written as JSON text."""
    if value is None:
        return ()
    if not isinstance(value, list):
        raise Wrong(f"{at}: found {kind_of(value)}; accepted: a list of calls")
    calls = []
    for number, call in enumerate(value):
        item = f"{at}[{number}]"
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise Wrong(f'{item}: accepted: {{"type": "function", "function": {{"name", "arguments"}}}}')
        arguments = function.get("arguments", {})
        if isinstance(arguments, str):
            try:
                arguments = strict_json(arguments)
            except ValueError as error:
                raise Wrong(f"{item}.function.arguments: not JSON: {json_fault(error)}") from None
        if not isinstance(arguments, dict):
            raise Wrong(f"{item}.function.arguments: found {kind_of(arguments)}; accepted: an object")
        if not isinstance(function.get("arguments"), str):
            arguments = _without_nulls(arguments)
        calls.append({"type": "function", **call, "function": {**function, "arguments": arguments}})
    return tuple(calls)


def read_tools(parsed: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    """Return the tools of a row: `tools`, which may be written as JSON text, or OpenAI's older `functions`.

    Raises Wrong.
    """
    given = {key: parsed[key] for key in ("tools", "functions") if parsed.get(key) not in (None, "", [])}
    if not given:
        return ()
    if len(given) > 1:
        raise Wrong("found tools and functions in one row; keep one")
    ((key, value),) = given.items()
    if isinstance(value, str):
        try:
            value = strict_json(value)
        except ValueError as error:
            raise Wrong(f"{key}: not JSON: {json_fault(error)}") from None
    if not isinstance(value, list) or not all(isinstance(tool, dict) for tool in value):
        raise Wrong(f"{key}: found {kind_of(value)}; accepted: a list of JSON schema functions")
    if key == "functions":
        if not all(isinstance(function.get("name"), str) for function in value):
            raise Wrong('functions: accepted: a list of {"name", "description", "parameters"}')
        value = [
            {"type": "function", "function": {"name": "", "description": "", "parameters": {}, **each}}
            for each in value
        ]
    try:
        return tuple(_shared_tool(marshal.dumps(tool, _NO_REFERENCES)) for tool in value)
    except ValueError:
        _without_nulls(value)  # says which value is none of JSON's
        raise


_NO_REFERENCES = 2
"""The version of marshal that writes equal values alike. It takes a quarter of the time of json."""


@lru_cache(maxsize=1024)
def _shared_tool(content: bytes) -> Mapping[str, Any]:
    """Return a tool, as the same object for the same content: many rows offer it."""
    tool: Mapping[str, Any] = _without_nulls(marshal.loads(content))
    return tool


def _required(item: Mapping[str, Any], key: str, at: str) -> Any:
    if key not in item:
        raise Wrong(f"{at}: no {key!r}; found {', '.join(item) or 'no key'}")
    return item[key]


def _unknown_role(at: str, found: Any, accepted: tuple[str, ...]) -> str:
    near = nearest(found, accepted) if isinstance(found, str) else ""
    return f"{at}: found {found!r}; accepted: {', '.join(accepted)}{near}"


def read_text(value: Any, at: str) -> str:
    """Raises Wrong for anything but text."""
    if not isinstance(value, str):
        raise Wrong(f"{at}: found {kind_of(value)}; accepted: text")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise Wrong(f"{at}: found a lone surrogate (half of a character) at {error.start}") from None
    return value


def kind_of(value: Any) -> str:
    """Name the type of a JSON value for a message."""
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return names.get(type(value), f"the number {value}")
