"""The values of a file, each with its line: JSON Lines or one JSON list, gzipped or not, or Parquet, recognised by
content. Nothing is skipped: invalid JSON is reported with its line. Time and memory are bounded by the file's size."""

import contextlib
import gzip
import hashlib
import io
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from hatrain.contract.inputs import LONGEST_LINE, LONGEST_LIST
from hatrain.errors import BadInput, nearest

DEEPEST = 100
"""Levels of a row."""
WRAPPERS = ("data", "rows", "train", "examples", "instances")
"""Keys under which other tools keep the rows of a file."""


@dataclass(frozen=True, slots=True)
class NotJson:
    """A value that could not be parsed."""

    reason: str


def parsed_values(path: Path, digest: "hashlib._Hash | None" = None) -> Iterator[tuple[int, Any]]:
    """Yield (line, value) of each row; the value is a NotJson where parsing failed. The line of a Parquet row is its
    number. `digest` is updated with each byte of the file as it is read."""
    return ((line, parsed(value)) for line, value in raw_values(path, digest))


def raw_values(path: Path, digest: "hashlib._Hash | None" = None) -> Iterator[tuple[int, Any]]:
    """Yield what `parsed_values` does, JSON Lines as bytes that are not parsed yet."""
    try:
        with _opened(path, digest) as stream:
            head = stream.read(4)
            stream.seek(0)
            if head == b"PAR1":
                yield from _parquet(path, stream.read())
                return
            first = _first_byte(stream)
            if first != b"[":
                yield from _json_lines(stream)
                return
            raw = stream.read(LONGEST_LIST + 1)
        if len(raw) > LONGEST_LIST:
            raise BadInput(f"{path}: found a list of more than {LONGEST_LIST >> 20} MiB; write one row a line")
        yield from _json_list(raw)
    except FileNotFoundError:
        raise BadInput(f"{path}: no such file{_neighbour(path)}") from None
    except IsADirectoryError:
        raise BadInput(f"{path}: found a folder; accepted: a file of rows") from None
    except (OSError, EOFError, zlib.error) as error:
        raise BadInput(f"{path}: cannot be read: {error}") from None


@contextlib.contextmanager
def _opened(path: Path, digest: "hashlib._Hash | None") -> Iterator[BinaryIO]:
    """Decompress if the first bytes are gzip's, whatever the name."""
    with path.open("rb", buffering=0) as raw, io.BufferedReader(_Digesting(raw, digest), _BUFFER) as stream:
        if stream.peek(2)[:2] == b"\x1f\x8b":
            with gzip.GzipFile(fileobj=stream) as unzipped:
                yield unzipped  # type: ignore[misc]
        else:
            yield stream


class _Digesting(io.RawIOBase):
    """A file that is read from its start, with some parts read again. Each byte is digested once."""

    def __init__(self, raw: io.FileIO, digest: "hashlib._Hash | None"):
        self._raw, self._digest, self._digested = raw, digest, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._raw.seek(offset, whence)

    def readinto(self, buffer: Any) -> int:
        read = self._raw.readinto(buffer)
        end = self._raw.tell()
        if self._digest is not None and end > self._digested:
            self._digest.update(memoryview(buffer)[read - (end - self._digested) : read])
            self._digested = end
        return read


def _first_byte(stream: BinaryIO) -> bytes:
    """Return the first byte after white space and a byte order mark, and rewind."""
    head = stream.read(4096).removeprefix(_BOM)
    while head.isspace():
        head = stream.read(4096)
    stream.seek(0)
    return head.lstrip()[:1]


_BOM = b"\xef\xbb\xbf"
_BUFFER = 2**18


def _parquet(path: Path, content: bytes) -> Iterator[tuple[int, Any]]:
    from pyarrow import ArrowException, BufferReader
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(BufferReader(content)) as file:
            number = 0
            for batch in file.iter_batches(batch_size=256):
                for value in batch.to_pylist():
                    number += 1
                    # Columns of other rows are nulls here.
                    yield number, {key: item for key, item in value.items() if item is not None}
    except (ArrowException, OSError) as error:
        raise BadInput(f"{path}: cannot be read as Parquet: {str(error).splitlines()[0]}") from None


def _json_lines(stream: BinaryIO) -> Iterator[tuple[int, Any]]:
    number, is_first = 0, True
    while raw := stream.readline(LONGEST_LINE + 1):
        number += 1
        if len(raw) > LONGEST_LINE:
            yield number, NotJson(f"longer than {LONGEST_LINE >> 20} MiB; the rows after it could not be read")
            return
        content = raw.removeprefix(_BOM) if number == 1 else raw
        if content.isspace() or not content:
            continue
        if is_first and (wrong := _no_row(parsed(content), content, stream)):
            yield number, wrong
            return
        is_first = False
        yield number, content


def parsed(content: Any) -> Any:
    """Parse what `raw_values` yields."""
    if not isinstance(content, bytes):
        return content
    try:
        text = content.decode()
        return checked(strict_json(text), text)
    except UnicodeDecodeError as error:
        return NotJson(f"not UTF-8 ({error.reason} at byte {error.start} of the line)")
    except RecursionError:
        return NotJson(f"nested more than {DEEPEST} levels deep")
    except ValueError as error:
        return NotJson(f"not JSON: {json_fault(error)}; one row a line, or one list of rows")


def _no_row(value: Any, content: bytes, stream: BinaryIO) -> NotJson | None:
    """Say what a file is whose first line is no row: one object over several lines, or one that holds the rows."""
    if isinstance(value, NotJson) and content.lstrip()[:1] == b"{":
        position = stream.tell()
        text = (content + stream.read(LONGEST_LINE)).decode(errors="replace")
        stream.seek(position)
        try:
            value, end = _decoder().raw_decode(text.lstrip())
        except (ValueError, RecursionError):
            return None
        if "\n" not in text.lstrip()[:end]:
            return None  # one line, and wrong in itself
        what = "found one object over several lines"
    else:
        what = "found one object"
    if isinstance(value, dict):
        for key in WRAPPERS:
            rows = value.get(key)
            if isinstance(rows, list) and rows and isinstance(rows[0], dict):
                return NotJson(f"{what} that holds {len(rows)} rows under {key!r}; write them alone: jq -c '.{key}[]'")
    return NotJson(f"{what}; write one row a line: jq -c .") if what.endswith("lines") else None


def _json_list(raw: bytes) -> Iterator[tuple[int, Any]]:
    """Yield the elements of one JSON list, each with its first line, up to a syntax error."""
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        yield raw.count(b"\n", 0, error.start) + 1, NotJson(f"not UTF-8 ({error.reason})")
        return
    decoder = _decoder()
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
            start = position
            value, position = decoder.raw_decode(text, start)
            value = checked(value, text[start:position])
        except json.JSONDecodeError as error:
            yield first_line, NotJson(f"not JSON: {json_fault(error)}; the rows after it could not be read")
            return
        except (ValueError, RecursionError) as error:
            deep = f"nested more than {DEEPEST} levels deep"
            fault = deep if isinstance(error, RecursionError) else f"not JSON: {error}"
            yield first_line, NotJson(f"{fault}; the rows after it could not be read")
            return
        yield first_line, value
        position = skip_space(position)
        separator = text[position : position + 1]
        if separator == ",":
            position = skip_space(position + 1)
        elif separator == "]":
            position = skip_space(position + 1)
            if position < len(text):
                after = text[position : position + 20].split("\n")[0]
                yield line, NotJson(f"found {after!r} after the list of rows; accepted: one list, or one row a line")
            return
        else:
            found = repr(separator) if separator else "the end"
            yield line, NotJson(f"not JSON: found {found} where ',' or ']' should follow a row")
            return


def strict_json(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_no_key_twice, parse_constant=_no_constant)


def _decoder() -> json.JSONDecoder:
    return json.JSONDecoder(object_pairs_hook=_no_key_twice, parse_constant=_no_constant)


def checked(value: Any, text: str) -> Any:
    """Return a parsed value, or a NotJson for one that is nested too deep or has half of a character in it. `text` is
    what it was parsed from."""
    if text.count("[") + text.count("{") > DEEPEST and _is_too_deep(value):
        return NotJson(f"nested more than {DEEPEST} levels deep")
    if "\\ud" in text or "\\uD" in text:
        for at, part in _texts(value, ""):
            try:
                part.encode()
            except UnicodeEncodeError as error:
                where = f"{at}: " if at else ""
                return NotJson(f"{where}found a lone surrogate (half of a character) at {error.start}")
    return value


def _is_too_deep(value: Any) -> bool:
    level = [value] if type(value) in _CONTAINERS else []
    for _ in range(DEEPEST):
        level = [
            inner
            for item in level
            for inner in (item.values() if type(item) is dict else item)
            if type(inner) in _CONTAINERS
        ]
    return any(level)


_CONTAINERS = frozenset({dict, list})


def _texts(value: Any, at: str) -> Iterator[tuple[str, str]]:
    """Yield every text in a value, and every key, with where it stands."""
    if isinstance(value, str):
        yield at, value
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _texts(item, f"{at}[{number}]")
    elif isinstance(value, dict):
        for key, item in value.items():
            yield f"a key of {at or 'the row'}", key
            yield from _texts(item, f"{at}.{key}" if at else key)


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f"the key {key!r} is given twice")
            seen.add(key)
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
