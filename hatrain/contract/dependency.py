"""The run named by `after:`, its parent, which must be DONE before the run starts. Nothing here waits."""

from pathlib import Path
from typing import Any

from hatrain.contract.paths import expanded
from hatrain.contract.plan import Plan
from hatrain.contract.run import Exit, RunDirectory


def unfinished(plan: Plan) -> RunDirectory | None:
    """Return the parent of a planned run until it is DONE; None without a parent."""
    if not plan.job.after:
        return None
    parent = RunDirectory(RunDirectory(Path(plan.paths.run)).root / plan.job.after)
    return None if parent.done.exists() else parent


def makes(parent: RunDirectory, plan: Plan, path: Path) -> bool:
    """Whether a path lies in what the parent leaves: its own folder, or models/PARENT, which links there."""
    link = Path(plan.paths.models) / parent.name.replace("/", "-")
    return path.is_relative_to(parent.folder) or path.is_relative_to(link)


def makes_base(parent: RunDirectory, plan: Plan) -> bool:
    """Whether the base model is what the parent leaves, by its path or by the parent's name."""
    base = plan.job.model.base
    path = Path(plan.paths.workdir) / expanded(base)
    return base.removeprefix("runs/") == parent.name or makes(parent, plan, path)


_FINAL: dict[Any, str] = {
    Exit.FATAL: "it cannot succeed as it stands (exit code 78)",
    Exit.STOPPED: "it was stopped (exit code 130)",
}


def why_it_cannot_finish(parent: RunDirectory) -> str | None:
    """Return why a parent will not be DONE: it failed for good or a person ended it, and it was not submitted since.
    None while it may still finish."""
    reason = None
    for event in parent.events():
        if event.get("event") in ("submitted", "attempt begun"):
            reason = None
        elif event.get("event") == "cancelled":
            reason = "it was cancelled"
        elif event.get("event") == "outcome" and reason != "it was cancelled":
            reason = _FINAL.get(event.get("code"))
    if reason is None or parent.lease.holder():
        return None
    return f"{reason}, and was not submitted since; see {parent.record_file}"
