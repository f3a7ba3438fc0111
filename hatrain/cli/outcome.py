"""What submit and train print when a run has ended: its outcome, its results, and where its files are."""

import contextlib
import sys
from pathlib import Path

from hatrain.cli.columns import aligned
from hatrain.contract.run import Exit, RunDirectory

_CONTINUE = "the same command continues from the newest checkpoint"
_OUTCOMES: dict[int, str] = {
    Exit.FINISHED: "finished",
    Exit.REQUEUE: f"stopped from outside; {_CONTINUE}",
    Exit.STOPPED: f"stopped; {_CONTINUE}",
    Exit.FATAL: "cannot succeed as it stands",
}


def show(run: RunDirectory, code: int) -> None:
    """Print it. What nobody can read any more changes no exit code."""
    with contextlib.suppress(OSError):
        _show(run, code)


def _show(run: RunDirectory, code: int) -> None:
    from rich.console import Console

    from hatrain.cli import summary

    print(f"\n{run.name}: {_OUTCOMES.get(code, 'fault')} ({code})")
    if any(summary.rows(run)):
        Console().print(summary.table(run))
    if paths := summary.paths(run, Path.cwd()):
        print(aligned([("", name, path) for name, path in paths]))
    sys.stdout.flush()
