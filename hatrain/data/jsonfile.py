"""The JSON values of a file, each with its line: JSON Lines or one list, gzipped or not, recognised by content. Nothing
is skipped: invalid JSON is reported with its line."""

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from hatrain.errors import BadInput, nearest


@dataclass(frozen=True, slots=True)
class NotJson:
    """A value that could not be parsed."""

    reason: str


def parsed_values(path: Path) -> Iterator[tuple[int, Any]]:
    """Yield (line, value) of each row; the value is a NotJson where parsing failed."""
    try:
        with _opened(path) as stream:
            first = _first_byte(stream)
            yield from _json_list(stream.read()) if first == b"[" else _json_lines(stream)
    except FileNotFoundError:
        raise BadInput(f"{path}: no such file{_neighbour(path)}") from None
    except IsADirectoryError:
        raise BadInput(f"{path}: found a folder; accepted: a file of rows") from None
    except (OSError, EOFError) as error:
        raise BadInput(f"{path}: cannot be read: {error}") from None


def _opened(path: Path) -> BinaryIO:
    """Decompress if the first bytes are gzip's, whatever the name."""
    with path.open("rb") as raw:
        zipped = raw.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rb") if zipped else path.open("rb")  # type: ignore[return-value]


def _first_byte(stream: BinaryIO) -> bytes:
    """Return the first byte after white space and a byte order mark, and rewind."""
    head = stream.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()
    stream.seek(0)
    return head[:1]


def _json_lines(stream: BinaryIO) -> Iterator[tuple[int, Any]]:
    for number, raw in enumerate(stream, start=1):
        content = raw.removeprefix(b"\xef\xbb\xbf") if number == 1 else raw
        if content.isspace() or not content:
            continue
        try:
            yield number, strict_json(content.decode())
        except UnicodeDecodeError as error:
            yield number, NotJson(f"not UTF-8 ({error.reason} at byte {error.start} of the line)")
        except ValueError as error:
            yield number, NotJson(f"not JSON: {json_fault(error)}; one row a line, or one list of rows")


def _json_list(raw: bytes) -> Iterator[tuple[int, Any]]:
    """Yield the elements of one JSON list, each with its first line, up to a syntax error."""
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        yield raw.count(b"\n", 0, error.start) + 1, NotJson(f"not UTF-8 ({error.reason})")
        return
    decoder = json.JSONDecoder(object_pairs_hook=_no_key_twice, parse_constant=_no_constant)
    line, counted = 1, 0

    def skip_space(position: int) -> int:
        nonlocal line, counted
        while position < len(text) and text[position] in " \t\r\n":
            position += 1
        line += text.count("\n", counted, position)
        counted = position
        return position

    position = skip_space(text.index("[") + 1)
    if text[position : position + 1] == "]":
        return
    while True:
        first_line = line
        try:
            value, position = decoder.raw_decode(text, position)
        except json.JSONDecodeError as error:
            yield first_line, NotJson(f"not JSON: {json_fault(error)}; the rows after it could not be read")
            return
        except ValueError as error:
            yield first_line, NotJson(f"not JSON: {error}; the rows after it could not be read")
            return
        yield first_line, value
        position = skip_space(position)
        separator = text[position : position + 1]
        if separator == ",":
            position = skip_space(position + 1)
        elif separator == "]":
            return
        else:
            found = repr(separator) if separator else "the end"
            yield line, NotJson(f"not JSON: found {found} where ',' or ']' should follow a row")
            return


def strict_json(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_no_key_twice, parse_constant=_no_constant)


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} is given twice")
    return value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def json_fault(error: ValueError) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at line {error.lineno}, column {error.colno} of the row"
    return str(error)


def _neighbour(path: Path) -> str:
    names = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    return nearest(path.name, names)
