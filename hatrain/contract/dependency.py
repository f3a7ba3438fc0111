"""The run that must be DONE before another may begin (`after:`), and what it can still come to. It never waits."""

from pathlib import Path
from typing import Any

from hatrain.contract.plan import Plan
from hatrain.contract.run import Exit, RunDirectory


def awaited(plan: Plan) -> RunDirectory | None:
    """Return the parent of a planned run as long as it has not finished; None when nothing is waited for."""
    if not plan.job.after:
        return None
    run = RunDirectory(Path(plan.paths.run))
    parent = RunDirectory(run.folder.parents[2 if run.in_sweep else 0] / plan.job.after)
    return None if parent.done.exists() else parent


def makes(parent: RunDirectory, plan: Plan, path: Path) -> bool:
    """Return whether a path lies in what a parent leaves: its own folder, or models/PARENT, which links there."""
    link = Path(plan.paths.models) / parent.name.replace("/", "-")
    return path.is_relative_to(parent.folder) or path.is_relative_to(link)


_FOR_GOOD: dict[Any, str] = {
    Exit.FATAL: "it can never succeed as it stands (exit code 78)",
    Exit.STOPPED: "it was stopped (exit code 130)",
}


def given_up(parent: RunDirectory) -> str | None:
    """Return why a parent comes to no DONE any more: it failed for good or a person ended it, and nothing was started
    since. None while it may still finish; one that will be queued again may."""
    how = None
    for event in parent.events():
        if event.get("event") in ("submitted", "attempt begun"):
            how = None
        elif event.get("event") == "cancelled":
            how = "it was cancelled"
        elif event.get("event") == "outcome" and how != "it was cancelled":
            how = _FOR_GOOD.get(event.get("code"))
    if how is None or parent.lease.holder():
        return None
    return f"{how}, and nothing was submitted since; see {parent.record_file}"
