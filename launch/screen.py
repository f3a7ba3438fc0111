"""What a person sees while following a run: its words, and on a terminal a bar of its steps below them."""

import contextlib
import json
import sys
from collections.abc import Callable, Iterator

from hatrain.contract.run import RunDirectory

_TAIL_BYTES = 4096
"""More than the last line of metrics.jsonl ever takes."""


def progress(run: RunDirectory) -> tuple[int, int] | None:
    """Return (step, steps) of the newest logged step, or None before the first."""
    try:
        with run.metrics.open("rb") as file:
            file.seek(max(0, run.metrics.stat().st_size - _TAIL_BYTES))
            newest = json.loads(file.read().splitlines()[-1])
            return int(newest["step"]), int(newest["steps"])
    except (OSError, ValueError, LookupError, TypeError):
        return None


@contextlib.contextmanager
def screen(run: RunDirectory) -> Iterator[Callable[[bytes], None]]:
    """Give a function that shows what a run said, as it said it; call it often, for it moves the bar as well."""
    if not sys.stdout.isatty():
        yield _pass_on
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

        def show(said: bytes) -> None:
            for line in said.decode(errors="replace").splitlines():
                bar.console.print(line, markup=False, highlight=False)
            if at := progress(run):
                bar.update(task, completed=at[0], total=at[1])

        yield show


def _pass_on(said: bytes) -> None:
    sys.stdout.buffer.write(said)
    sys.stdout.flush()
