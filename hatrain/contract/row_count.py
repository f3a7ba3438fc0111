"""Counts the rows of a file as `hatrain.data.jsonfile` reads them, without parsing them where possible."""

import gzip
import io
import json
import zlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from hatrain.contract.inputs import LONGEST_LINE, LONGEST_LIST
from hatrain.runtime.waiting import waiting


def count_rows_of(path: Path) -> int | None:
    """Rows of a file; None if it is missing or unreadable, or Parquet without pyarrow."""
    try:
        stat = path.stat()
        with waiting(f"counting the rows of {path}"):
            return _rows_of(path, stat.st_size, stat.st_mtime_ns)
    except (OSError, EOFError, ValueError, RecursionError, zlib.error):
        return None


@cache
def _rows_of(path: Path, size: int, changed: int) -> int:
    """`size` and `changed` (ns) are part of the cache key, so that a changed file is counted again."""
    with _open(path) as stream:
        if stream.peek(4)[:4] == b"PAR1":
            return _rows_of_parquet(path)
        lines = (line.removeprefix(b"\xef\xbb\xbf").lstrip() for line in _lines(stream))
        first = next((line for line in lines if line), b"")
        if not first.startswith(b"["):
            return bool(first) + sum(1 for line in lines if line)
        rest = stream.read(LONGEST_LIST + 1)
        if len(rest) > LONGEST_LIST:
            raise ValueError("too long a list")
        return len(json.loads(first + rest))


def _lines(stream: io.BufferedReader | gzip.GzipFile) -> Iterator[bytes]:
    """Yield the lines of a file; of a list on one long line its start."""
    while line := stream.readline(LONGEST_LINE + 1):
        yield line
        if len(line) > LONGEST_LINE:
            raise ValueError("too long a line")


def _rows_of_parquet(path: Path) -> int:
    """Read the count from the file's metadata. The launch side alone does not need pyarrow."""
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import read_metadata
    except ImportError:
        raise ValueError("Parquet") from None
    try:
        return int(read_metadata(path).num_rows)
    except ArrowException as error:
        raise ValueError("Parquet") from error


def _open(path: Path) -> io.BufferedReader | gzip.GzipFile:
    with path.open("rb") as raw:
        compressed = raw.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rb") if compressed else path.open("rb")
