"""The run that must be DONE before another may begin (`after:`), and what it can still come to. It never waits."""

from pathlib import Path

from hatrain.plan import Plan
from hatrain.run import Exit, RunDirectory


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


def given_up(parent: RunDirectory) -> str | None:
    """Return why a parent comes to no DONE any more: it failed for good or a person ended it, and nothing was started
    since. None while it may still finish; one that will be queued again may."""
    last = None
    for event in parent.events():
        if event.get("event") == "outcome":
            last = event
        elif event.get("event") in ("submitted", "attempt begun"):
            last = None
    if last is None or last.get("code") not in (Exit.FATAL, Exit.STOPPED) or parent.lease.holder():
        return None
    how = "it can never succeed as it stands" if last["code"] == Exit.FATAL else "it was stopped"
    return f"{how} (exit code {last['code']}), and nothing was submitted since; see {parent.record_file}"
