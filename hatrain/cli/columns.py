"""Aligned columns: as wide as they are for pipes, within the terminal's width for people."""

import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from launch.status import Status

HEADER = ("RUN", "CLUSTER", "STATE", "STEP", "ATTEMPT", "JOB")
NAMES = (0, 1, 5)
"""Columns of `HEADER` that a narrow terminal may cut: names and ids."""
NARROWEST = 8
"""Characters that are left of a cut cell."""


def width() -> int | None:
    """Return the terminal's characters a line; None where the output is no terminal, and lines may have any length."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def aligned(rows: Iterable[Sequence[str]], within: int | None = None) -> str:
    """Return rows as columns. Where a line would be longer than `within`, the last column goes on in the next line,
    under itself, between words."""
    rows = [list(row) for row in rows]
    widths = _widths(rows)
    indent = sum(widths[:-1]) + 2 * len(widths[:-1])
    lines = []
    for row in rows:
        line = _line(row, widths)
        if within is None or len(line) <= within:
            lines.append(line)
            continue
        parts = _wrapped(row[-1], max(within - indent, 20))
        lines += [_line([*row[:-1], parts[0]], widths), *(" " * indent + part for part in parts[1:])]
    return "\n".join(lines)


def folded(rows: Sequence[Sequence[str]], within: int | None = None) -> str:
    """Return rows as columns, whose cells go on in the next line where a line would be longer than `within`."""
    text = aligned(rows)
    if within is None or all(len(line) <= within for line in text.splitlines()):
        return text
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    for _ in rows[0]:
        table.add_column(overflow="fold")
    for row in rows:
        table.add_row(*row)
    console = Console(width=within, color_system=None, markup=False, highlight=False, emoji=False)
    with console.capture() as captured:
        console.print(table)
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


def states(found: Sequence["Status"], within: int | None = None) -> str:
    """A header and one line for each run, with the same columns on every kind of cluster. A reason that does not fit
    into `within` stands below its run."""
    rows = [
        (
            now.run.name,
            now.cluster,
            now.state,
            f"{now.step[0]:,}/{now.step[1]:,}" if now.step else "-",
            str(now.attempt or "-"),
            now.job or "-",
        )
        for now in found
    ]
    reasons = [now.reason.splitlines()[0] if now.reason else "" for now in found]
    whole = aligned([(*HEADER, "REASON"), *((*row, reason) for row, reason in zip(rows, reasons, strict=True))])
    if within is None or all(len(line) <= within for line in whole.splitlines()):
        return whole
    header, *lines = aligned(_cut([HEADER, *rows], within)).splitlines()
    shown = [header]
    for line, reason in zip(lines, reasons, strict=True):
        shown += [line, *(f"    {part}" for part in _wrapped(reason, within - 4))]
    return "\n".join(shown)


def shortened(text: str, most: int) -> str:
    """Return a text with an ellipsis in its middle where it has more than `most` characters."""
    if len(text) <= most:
        return text
    end = (most - 1) // 2
    return f"{text[: most - 1 - end]}…{text[len(text) - end :]}"


def _cut(rows: Iterable[Sequence[str]], within: int) -> list[list[str]]:
    """Shorten names and ids, the widest first, until rows fit into a line, or none can give more."""
    rows = [list(row) for row in rows]
    widths = _widths(rows)
    while sum(widths) + 2 * (len(widths) - 1) > within:
        widest = max(NAMES, key=lambda column: widths[column])
        if widths[widest] <= NARROWEST:
            break
        widths[widest] -= 1
    return [[shortened(cell, most) for cell, most in zip(row, widths, strict=True)] for row in rows]


def _wrapped(text: str, most: int) -> list[str]:
    """Divide a text between words; a word that is longer than a line stands alone, cut in its middle."""
    lines = textwrap.wrap(text, most, break_long_words=False, break_on_hyphens=False)
    return [shortened(line, most) for line in lines]


def _widths(rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(len, column)) for column in zip(*rows, strict=True)]


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
