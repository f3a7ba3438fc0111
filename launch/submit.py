"""Builds a submission from plans, and sends it. Preview, diff and submission use the same object."""

import difflib
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from hatrain.contract.plan import Plan
from hatrain.contract.run import RunDirectory, all_runs, runs_root
from hatrain.errors import BadInput, nearest
from hatrain.runtime import provenance, seal
from launch import snapshot, status
from launch.backends import backend
from launch.backends.protocol import Client, PlannedRun, Submission
from launch.run_files import plan_json


def planned_runs(plans: Sequence[Plan]) -> tuple[PlannedRun, ...]:
    runs = []
    for plan in plans:
        target = backend(plan.cluster_spec)
        runs.append(PlannedRun(target.run_directory(plan), plan, target.files(plan)))
    return tuple(runs)


def prepare(plans: Sequence[Plan], *, at_once: int | None = None) -> tuple[Submission, Client]:
    """What submitting one plan, or the plans of a sweep, would send, and the client that sends it.

    Raises BadInput if the run that `after` names is unknown, or will not finish.
    """
    runs = planned_runs(plans)
    folder = runs[0].directory.folder if len(plans) == 1 else runs[0].directory.folder.parents[1]
    client = backend(plans[0].cluster_spec).client()
    return client.submission(runs, folder, _parent(plans[0]), at_once), client


def fresh(plans: Sequence[Plan]) -> list[Plan]:
    """The plans of a submission that starts anew. Where this machine does not see the run directory, the run itself
    sets the old one aside, once."""
    return [
        plan
        if backend(plan.cluster_spec).shares_files
        else plan.model_copy(update={"environment": {**plan.environment, "HATRAIN_FRESH": "1"}})
        for plan in plans
    ]


def _parent(plan: Plan) -> str | None:
    """The scheduler's id of the job that must finish first; None if it has, or if another scheduler has it."""
    if plan.job.after is None:
        return None
    parent = RunDirectory(runs_root() / plan.job.after)
    if parent.done.exists():
        return None
    if not parent.plan_file.exists():
        known = [run.name for run in all_runs()]
        raise BadInput(
            f"after: {plan.job.after}: no such run in {runs_root()}; submit it first{nearest(plan.job.after, known)}"
        )
    now = status.look([parent])[0]
    if not now.alive:
        raise BadInput(f"after: {parent.name}: is {now.state} and will not finish; submit it again first")
    cluster = parent.plan().cluster_spec
    if getattr(cluster, "ssh", None) != getattr(plan.cluster_spec, "ssh", None):
        raise BadInput(f"after: {parent.name}: runs on {now.cluster}, whose files {plan.cluster} does not see")
    return now.job if cluster.kind == plan.launcher else None


def texts(submission: Submission) -> Iterator[tuple[Path, str]]:
    """Every file of a submission with its text, plan.json last in each run."""
    for path, text in submission.files.items():
        yield submission.folder / path, text
    for planned in submission.runs:
        for path, text in planned.files.items():
            yield planned.directory.folder / path, text
        yield planned.directory.plan_file, plan_json(planned.plan)


def preview(submission: Submission) -> str:
    """Every file that the submission would write, and the command that it would run."""
    parts = [f"==> {path} <==\n{text}" for path, text in texts(submission)]
    return "\n".join([*parts, f"==> command <==\n{shlex.join(submission.command)}\n"])


def difference(submission: Submission) -> str:
    """Unified diff of the files of the last submission and of this one; empty if nothing changes."""
    lines: list[str] = []
    for path, text in texts(submission):
        before = path.read_text(encoding="utf-8") if path.is_file() else ""
        name = str(path)
        lines += difflib.unified_diff(
            before.splitlines(), text.splitlines(), name if before else "/dev/null", name, lineterm=""
        )
    return "".join(f"{line}\n" for line in lines)


def adopt(planned: PlannedRun, *, fresh: bool = False) -> None:
    """Write the plan and its files to the run directory.

    Raises BadInput if an attempt is running, or if another job has this name.
    """
    if old := planned.directory.adopt(planned.plan, planned.files, fresh=fresh):
        print(f"moved the old run to {old}", file=sys.stderr)


def send(submission: Submission, client: Client, command: Sequence[str], *, fresh: bool = False) -> list[str]:
    """Check with the scheduler, write the files, start. `command` is recorded. Returns the scheduler's id of each run.

    Raises BadInput if the scheduler would refuse it, if a run is queued or running, or if another job has its name.
    """
    submission = replace(submission, fresh=fresh)
    if jobs := client.arrived(submission):
        print("note: it was sent before, and only the answer was lost", file=sys.stderr)
        client.refresh([planned.directory for planned in submission.runs])
        return jobs
    client.refresh([planned.directory for planned in submission.runs])
    if not fresh and backend(submission.runs[0].plan.cluster_spec).copies:
        _refuse_finished(submission)
    refuse_active([planned.directory for planned in submission.runs])
    _refuse_others(submission, fresh=fresh)
    for note in client.check(submission):
        print(f"note: {note}", file=sys.stderr)
    for planned in submission.runs:
        adopt(planned, fresh=fresh)
    for path, text in submission.files.items():
        seal.write_text(submission.folder / path, text, 0o755 if path.endswith(".sh") else 0o644)
    snapshot.write(submission)
    # Recorded before it is sent, where that is possible: whatever happens meanwhile, the other verbs find it.
    for planned, job in zip(submission.runs, submission.jobs, strict=False):
        record(planned, command, job)
    try:
        jobs = client.start(submission)
    except BadInput as error:
        for planned in submission.runs[: len(submission.jobs)]:
            planned.directory.record("not sent", reason=error.problems[0])
        raise
    if not submission.jobs:
        for planned, job in zip(submission.runs, jobs, strict=True):
            record(planned, command, job)
    return jobs


def record(planned: PlannedRun, command: Sequence[str], job: str | None) -> None:
    """Record a submission: the command, who ran it and where, and the scheduler's id, if there is one."""
    code = provenance.package_digest() if snapshot.is_installed(planned.plan) else None
    planned.directory.record(
        "submitted",
        command=shlex.join(command),
        user=provenance.user(),
        host=provenance.host(),
        cluster=planned.plan.cluster,
        job=job,
        commit=provenance.commit(),
        **({"package": code} if code else {}),
        versions=provenance.versions(),
    )


def check(plans: Sequence[Plan]) -> list[str]:
    """Ask the scheduler whether it would accept plans, as `send` does; here no other run is waited for."""
    runs, client = planned_runs(plans), backend(plans[0].cluster_spec).client()
    return client.check(client.submission(runs, runs[0].directory.folder, None))


def refuse_active(runs: Sequence[RunDirectory]) -> None:
    """Raise BadInput if one of the runs is queued or running."""
    existing = [run for run in runs if run.plan_file.exists()]
    if problems := [
        f"{now.run.name}: is {now.state} already (job {now.job} on {now.cluster}); first: hatrain stop {now.run.name}, "
        f"or hatrain cancel {now.run.name}"
        for now in status.look(existing)
        if now.alive and now.job
    ]:
        raise BadInput(problems)


def _refuse_finished(submission: Submission) -> None:
    """Raise BadInput where all runs have finished, as this machine may have learned just now."""
    if all(planned.directory.done.exists() for planned in submission.runs):
        name = submission.runs[0].directory.name
        raise BadInput(f"{name}: has finished already; --fresh starts a new run, and hatrain pull brings its results")


def _refuse_others(submission: Submission, *, fresh: bool) -> None:
    """Raise BadInput, before anything is written, if a directory belongs to another job, or a sweep's to a run."""
    if submission.files and (submission.folder / "plan.json").exists():
        raise BadInput(f"{submission.folder}: holds a run; give the sweep another name, with --set name=NAME")
    for planned in submission.runs:
        if planned.directory.plan_file.exists() and not fresh:
            planned.directory.refuse_another(planned.plan.job)
