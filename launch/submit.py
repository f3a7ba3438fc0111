"""From plans to a submission, and sending it. What is previewed is what is sent, for it is the same object."""

import difflib
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from hatrain.contract.cluster import SlurmCluster
from hatrain.contract.plan import Plan
from hatrain.contract.run import RunDirectory, all_runs, runs_root
from hatrain.errors import BadInput, nearest
from hatrain.runtime import provenance, seal
from launch import render, status
from launch.backends import Client, Member, Submission, client
from launch.run_files import plan_json


def prepare(plans: Sequence[Plan], speaker: Client) -> Submission:
    """Return what submitting these plans would send: one run, or the runs of a sweep.

    Raises BadInput when the run that `after` names is unknown, or cannot finish any more.
    """
    members = render.members(plans)
    folder = members[0].run.folder if len(plans) == 1 else members[0].run.folder.parents[1]
    return speaker.submission(members, folder, _parent(plans[0]))


def _parent(plan: Plan) -> str | None:
    """Return the scheduler's id of the run that must finish first; None where it has, or where entry waits for it."""
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
        raise BadInput(
            f"after: {parent.name}: is {now.word} and will not finish by itself; submit it again first"
        )
    return (
        now.job if isinstance(plan.cluster_spec, SlurmCluster) and parent.plan().launcher == "slurm" else None
    )


def texts(submission: Submission) -> Iterator[tuple[Path, str]]:
    """Yield each file of a submission with its text, the plans' own last."""
    for path, text in submission.files.items():
        yield submission.folder / path, text
    for member in submission.members:
        for path, text in member.files.items():
            yield member.run.folder / path, text
        yield member.run.plan_file, plan_json(member.plan)


def preview(submission: Submission) -> str:
    """Return exactly what a submission would write, and the command that it would give."""
    parts = [f"==> {path} <==\n{text}" for path, text in texts(submission)]
    return "\n".join([*parts, f"==> command <==\n{shlex.join(submission.command)}\n"])


def difference(submission: Submission) -> str:
    """Return what a submission would change in the files of the last one, as a unified diff; empty when nothing."""
    lines: list[str] = []
    for path, text in texts(submission):
        before = path.read_text(encoding="utf-8") if path.is_file() else ""
        name = str(path)
        lines += difflib.unified_diff(
            before.splitlines(), text.splitlines(), name if before else "/dev/null", name, lineterm=""
        )
    return "".join(f"{line}\n" for line in lines)


def adopt(member: Member, *, fresh: bool = False) -> None:
    """Make the run directory this plan's, with its files.

    Raises BadInput when a live attempt holds the run, or another job has its name.
    """
    if aside := member.run.adopt(member.plan, member.files, fresh=fresh):
        print(f"the old run is set aside: {aside}", file=sys.stderr)


def send(submission: Submission, speaker: Client, said: Sequence[str], *, fresh: bool = False) -> list[str]:
    """Ask the scheduler, write the files, start. Returns the scheduler's id of each run.

    Raises BadInput when the scheduler would refuse it, when a run is queued or live, or another job has its name.
    """
    runs = [member.run for member in submission.members]
    refuse_twice(runs)
    _refuse_others(submission, fresh=fresh)
    speaker.check(submission)
    for member in submission.members:
        adopt(member, fresh=fresh)
    for path, text in submission.files.items():
        seal.write_text(submission.folder / path, text, 0o755 if path.endswith(".sh") else 0o644)
    jobs = speaker.start(submission)
    for member, job in zip(submission.members, jobs, strict=True):
        note(member, said, job)
    return jobs


def note(member: Member, said: Sequence[str], job: str | None) -> None:
    """Record a submission: who gave which command where, and the id of the job that came of it, if one did."""
    member.run.record(
        "submitted",
        command=shlex.join(said),
        user=provenance.user(),
        host=provenance.host(),
        cluster=member.plan.cluster,
        job=job,
        commit=provenance.commit(),
        versions=provenance.versions(),
    )


def refuse_twice(runs: Sequence[RunDirectory]) -> None:
    """Raise BadInput when one of the runs is queued or at work already."""
    known = [run for run in runs if run.plan_file.exists()]
    if problems := [
        f"{now.run.name}: is {now.word} already (job {now.job} on {now.cluster}); first: hatrain stop {now.run.name}, "
        f"or hatrain cancel {now.run.name}"
        for now in status.look(known)
        if now.alive and now.job
    ]:
        raise BadInput(problems)


def _refuse_others(submission: Submission, *, fresh: bool) -> None:
    """Raise BadInput, before anything is written, when a directory belongs to another job, or a sweep's to a run."""
    if submission.files and (submission.folder / "plan.json").exists():
        raise BadInput(f"{submission.folder}: holds a run; give the sweep another name, with --set name=NAME")
    for member in submission.members:
        if member.run.plan_file.exists() and not fresh:
            member.run.refuse_another(member.plan.job)


def of(plans: Sequence[Plan]) -> tuple[Submission, Client]:
    """Return what submitting these plans would send, and who takes it."""
    speaker = client(plans[0].cluster_spec)
    return prepare(plans, speaker), speaker
