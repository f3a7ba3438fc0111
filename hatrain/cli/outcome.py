"""What submit and train print when a run has left: how, what it came to, and where its things are."""

from pathlib import Path

from hatrain.contract.run import Exit, RunDirectory


def show(there: RunDirectory, code: int) -> None:
    """Print how a run left, what it came to, and where its things are."""
    from rich.console import Console

    from hatrain.cli import summary

    words: dict[int, str] = {
        Exit.FINISHED: "finished",
        Exit.REQUEUE: "stopped from outside; the same command goes on from the newest checkpoint",
        Exit.STOPPED: "stopped; the same command goes on from the newest checkpoint",
        Exit.FATAL: "cannot succeed as it stands",
    }
    print(f"\n{there.name}: {words.get(code, 'a fault')} ({code})")
    if any(summary.rows(there)):
        Console().print(summary.table(there))
    places = summary.places(there, Path.cwd())
    width = max((len(what) for what, _ in places), default=0)
    for what, where in places:
        print(f"  {what:<{width}}  {where}")
