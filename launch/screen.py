"""Shows the output of a followed run; on a terminal with a progress bar below it."""

import contextlib
import json
import sys
from collections.abc import Callable, Iterator

from hatrain.contract.run import RunDirectory

_TAIL_BYTES = 4096
"""Longer than any line of metrics.jsonl."""


def progress(run: RunDirectory) -> tuple[int, int] | None:
    """(newest logged step, steps of the run), or None before the first."""
    try:
        with run.metrics.open("rb") as file:
            file.seek(max(0, run.metrics.stat().st_size - _TAIL_BYTES))
            newest = json.loads(file.read().splitlines()[-1])
            return int(newest["step"]), int(newest["steps"])
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None


@contextlib.contextmanager
def screen(run: RunDirectory) -> Iterator[Callable[[bytes], None]]:
    """Yields a function that shows output. Call it often, also without output: it updates the progress bar."""
    if not sys.stdout.isatty():
        yield _write
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn(run.name),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("steps"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, transient=True) as bar:
        task = bar.add_task(run.name, total=None)

        def show(output: bytes) -> None:
            for line in output.decode(errors="replace").splitlines():
                bar.console.print(line, markup=False, highlight=False)
            if steps := progress(run):
                bar.update(task, completed=steps[0], total=steps[1])

        yield show


def _write(output: bytes) -> None:
    sys.stdout.buffer.write(output)
    sys.stdout.flush()
