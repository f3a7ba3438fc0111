"""A dataset's file as typed rows: ShareGPT, messages or raw text, in JSON or JSON Lines, gzipped or not.
It checks form and names every bad row by file and line; it never looks at tokens, and never repairs a row."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from hatrain.data.jsonfile import NotJson, json_fault, parsed_values, strict_json
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
_PRINTED = 20
"""How many bad rows of a file are printed one by one; the rest are counted."""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. `train` says whether an assistant's turn is trained on; it is never true of other roles."""

    role: str
    content: str
    train: bool = False
    tool_calls: tuple[Mapping[str, Any], ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Other keys of the message (`name`, `tool_call_id`, `reasoning_content`, …), handed to the template."""

    def for_template(self) -> dict[str, Any]:
        """Return the message as chat templates expect it: content as text, call arguments as an object."""
        rendered = {"role": self.role, "content": self.content, **self.extra}
        if self.tool_calls:
            rendered["tool_calls"] = list(self.tool_calls)
        return rendered


@dataclass(frozen=True, slots=True)
class Row:
    """One row: either `messages` (and perhaps `tools`) or raw `text`."""

    path: Path
    index: int
    """0-based, counted over every row of the file, bad ones too."""
    line: int
    """1-based line on which the row begins."""
    messages: tuple[Message, ...] = ()
    tools: tuple[Mapping[str, Any], ...] = ()
    text: str | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)
    """Every other key of the row (`language`, `kind`, `home`, …): kept, and ignored by training."""

    @property
    def where(self) -> str:
        """`file:line`."""
        return f"{self.path}:{self.line}"


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be used, with one complete line for each thing wrong with it."""

    path: Path
    index: int
    line: int
    problems: tuple[str, ...]
    detail: str = ""
    """The row itself, over several lines, where that helps to see what is wrong."""


class Wrong(Exception):
    """Carries what is wrong with a row to the one place that collects it."""


def read_rows(path: str | Path) -> Iterator[Row]:
    """Yield the rows of a file in its order.

    Raises BadInput when the file cannot be read at all (before the first row), and after the last row when
    any row was bad: one line for each of the first bad rows, and how many more there are.
    """
    problems: list[str] = []
    for row in scan_rows(path):
        if isinstance(row, BadRow):
            problems.extend(row.problems)
        else:
            yield row
    if problems:
        raise BadInput(shortened(problems))


def shortened(problems: list[str]) -> list[str]:
    """Return the first problems, and a last line that counts those left out."""
    if len(problems) <= _PRINTED:
        return problems
    return [*problems[:_PRINTED], f"and {len(problems) - _PRINTED} more like these"]


def scan_rows(path: str | Path) -> Iterator[Row | BadRow]:
    """Yield every row of a file, good or bad, in its order. Holds one row at a time of a JSON Lines file.

    Raises BadInput when there is no such file, it cannot be read as text, or it holds no row.
    """
    yield from scan(path, _row, _accepted_formats())


def scan(path: str | Path, make: Callable[[Any, Path, int, int], R], accepted: str) -> Iterator[R | BadRow]:
    """Yield what `make` makes of each row: of its JSON value, file, index and line. It may raise Wrong.

    Raises BadInput as `scan_rows` does; `accepted` says in words what a row looks like.
    """
    path = Path(path)
    index = -1
    for index, (line, parsed) in enumerate(parsed_values(path)):
        if isinstance(parsed, NotJson):
            yield BadRow(path, index, line, (f"{path}:{line}: {parsed.reason}",))
            continue
        try:
            yield make(parsed, path, index, line)
        except Wrong as wrong:
            yield BadRow(path, index, line, (f"{path}:{line}: {wrong}",))
    if index < 0:
        raise BadInput(f"{path}: no rows; accepted: {accepted}, as JSON Lines or one JSON list")


# --- one row ------------------------------------------------------------------------------------------------


def _row(parsed: Any, path: Path, index: int, line: int) -> Row:
    if not isinstance(parsed, dict):
        raise Wrong(f"found {kind_of(parsed)}; accepted: an object, {_accepted_formats()}")
    named = [key for key in FORMATS if key in parsed]
    if len(named) != 1:
        if named:
            raise Wrong(f"found {' and '.join(named)} in one row; keep the one that is meant")
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
        messages = read_messages(parsed[key], key, turn)
        tools = read_tools(parsed.get("tools"))
    meta = {name: value for name, value in parsed.items() if name not in (key, "tools")}
    return Row(path, index, line, messages, tools, text, meta)


def _no_format(parsed: dict[str, Any]) -> str:
    if {"chosen", "rejected"} <= parsed.keys():
        return (
            "found a pair for preference training (chosen, rejected); accepted here: " + _accepted_formats()
        )
    near = next(filter(None, (nearest(key, FORMATS) for key in parsed)), "")
    found = f"the keys {', '.join(parsed)}" if parsed else "no key"
    return f"found {found}; accepted: {_accepted_formats()}{near}"


def _accepted_formats() -> str:
    return " or ".join(FORMATS.values())


def read_messages(
    value: Any, key: str, turn: Callable[[Mapping[str, Any], str], Message]
) -> tuple[Message, ...]:
    """Return a row's turns, each made by `turn`. Raises Wrong, also for a trained turn that says nothing."""
    if not isinstance(value, list) or not value:
        found = kind_of(value) if value != [] else "an empty list"
        raise Wrong(f"{key}: found {found}; accepted: a list of turns")
    messages = []
    for number, item in enumerate(value):
        at = f"{key}[{number}]"
        if not isinstance(item, dict):
            raise Wrong(f"{at}: found {kind_of(item)}; accepted: an object")
        message = turn(item, at)
        if message.train and not message.content.strip() and not message.tool_calls:
            raise Wrong(f"{at}: the assistant says nothing; write an answer, or train_on_turn: false")
        messages.append(message)
    return tuple(messages)


def _sharegpt_message(item: Mapping[str, Any], at: str) -> Message:
    written = _required(item, "from", at)
    role = SHAREGPT_ROLES.get(written) if isinstance(written, str) else None
    if role is None:
        raise Wrong(_unknown_role(f"{at}.from", written, tuple(SHAREGPT_ROLES)))
    content = read_text(_required(item, "value", at), f"{at}.value")
    return Message(role, content, train=_trained(item, role, at))


def read_message(item: Mapping[str, Any], at: str) -> Message:
    """Return a turn written as `{"role", "content"}`. Raises Wrong."""
    role = _required(item, "role", at)
    if role not in ROLES:
        raise Wrong(_unknown_role(f"{at}.role", role, ROLES))
    calls = _tool_calls(item.get("tool_calls"), f"{at}.tool_calls")
    if calls and role != "assistant":
        raise Wrong(f"{at}.tool_calls: found with role {role!r}; only an assistant calls tools")
    content = "" if calls and item.get("content") is None else _content(_required(item, "content", at), at)
    known = ("role", "content", "tool_calls", "train_on_turn")
    extra = {key: value for key, value in item.items() if key not in known and value is not None}
    return Message(role, content, _trained(item, role, at), calls, extra)


def _content(value: Any, at: str) -> str:
    """Return the text of a message's content: text, or a list of text parts joined as they stand."""
    if not isinstance(value, list):
        return read_text(value, f"{at}.content")
    parts = []
    for number, part in enumerate(value):
        place = f"{at}.content[{number}]"
        if isinstance(part, str):
            parts.append(read_text(part, place))
        elif isinstance(part, dict) and part.get("type", "text") == "text" and "text" in part:
            parts.append(read_text(part["text"], f"{place}.text"))
        else:
            found = repr(part.get("type")) if isinstance(part, dict) else kind_of(part)
            raise Wrong(f'{place}: found a part of type {found}; accepted: {{"type": "text", "text"}}')
    return "".join(parts)


def _trained(item: Mapping[str, Any], role: str, at: str) -> bool:
    """Whether a turn is trained on: an assistant's is unless it says otherwise, nobody else's ever is."""
    said = item.get("train_on_turn")
    if said is not None and not isinstance(said, bool):
        raise Wrong(f"{at}.train_on_turn: found {said!r}; accepted: true or false")
    return role == "assistant" and said is not False


def _tool_calls(value: Any, at: str) -> tuple[Mapping[str, Any], ...]:
    """Return calls with their arguments as objects, also where they were written as JSON text."""
    if value is None:
        return ()
    if not isinstance(value, list):
        raise Wrong(f"{at}: found {kind_of(value)}; accepted: a list of calls")
    calls = []
    for number, call in enumerate(value):
        place = f"{at}[{number}]"
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise Wrong(f'{place}: accepted: {{"type": "function", "function": {{"name", "arguments"}}}}')
        arguments = function.get("arguments", {})
        if isinstance(arguments, str):
            try:
                arguments = strict_json(arguments)
            except ValueError as error:
                raise Wrong(f"{place}.function.arguments: not JSON: {json_fault(error)}") from None
        if not isinstance(arguments, dict):
            raise Wrong(f"{place}.function.arguments: found {kind_of(arguments)}; accepted: an object")
        calls.append({"type": "function", **call, "function": {**function, "arguments": arguments}})
    return tuple(calls)


def read_tools(value: Any) -> tuple[Mapping[str, Any], ...]:
    """Return a row's tools, none where it says nothing of them. Raises Wrong."""
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(tool, dict) for tool in value):
        raise Wrong(f"tools: found {kind_of(value)}; accepted: a list of JSON schema functions")
    return tuple(value)


def _required(item: Mapping[str, Any], key: str, at: str) -> Any:
    if key not in item:
        raise Wrong(f"{at}: no {key!r}; found {', '.join(item) or 'no key'}")
    return item[key]


def _unknown_role(at: str, found: Any, accepted: tuple[str, ...]) -> str:
    near = nearest(found, accepted) if isinstance(found, str) else ""
    return f"{at}: found {found!r}; accepted: {', '.join(accepted)}{near}"


def read_text(value: Any, at: str) -> str:
    """Return text. Raises Wrong for anything else."""
    if not isinstance(value, str):
        raise Wrong(f"{at}: found {kind_of(value)}; accepted: text")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise Wrong(f"{at}: found half of a character (a lone surrogate) at {error.start}") from None
    return value


def kind_of(value: Any) -> str:
    """Return what a JSON value is, in words."""
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return names.get(type(value), f"the number {value}")
