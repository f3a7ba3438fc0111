"""Aligned columns, for people and for pipes."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from launch.status import Status

HEADER = ("RUN", "CLUSTER", "STATE", "STEP", "ATTEMPT", "JOB", "REASON")


def aligned(rows: Iterable[Sequence[str]]) -> str:
    rows = [list(row) for row in rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))] if rows else []
    lines = ("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def states(found: Sequence["Status"]) -> str:
    """A header and one line for each run, with the same columns on every kind of cluster."""
    rows = [
        (
            now.run.name,
            now.cluster,
            now.state,
            f"{now.step[0]:,}/{now.step[1]:,}" if now.step else "-",
            str(now.attempt or "-"),
            now.job or "-",
            now.reason.splitlines()[0] if now.reason else "",
        )
        for now in found
    ]
    return aligned([HEADER, *rows])
