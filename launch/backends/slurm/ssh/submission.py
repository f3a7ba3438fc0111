"""A submission with a token, which is kept here before anything is sent: one that was cut off is found by it."""

import json
import secrets
import shlex
import time
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from hatrain.contract.plan import Plan
from hatrain.contract.run import SWEEP, RunDirectory
from hatrain.errors import BadInput
from hatrain.runtime import provenance, seal
from launch import run_files
from launch.backends.protocol import Submission
from launch.backends.slurm.programs import Variables, complaint
from launch.backends.slurm.ssh.connection import Connection
from launch.backends.slurm.ssh.machine import unset

_REFUSED = 1
"""What submit.sh exits with when Slurm has no job for sure."""
PENDING = "launch/submission.json"
"""Beside the files of a submission here, until its job is known."""


class Unsettled(BadInput):
    """It is not known whether Slurm has the job."""


@dataclass(frozen=True)
class Pending:
    """A submission of which it is not known whether it has arrived."""

    token: str
    digest: str
    """Of what is sent."""


def read(folder: Path) -> Pending | None:
    found = seal.read_object(folder / PENDING)
    return Pending(str(found["token"]), str(found["digest"])) if {"token", "digest"} <= found.keys() else None


def keep(folder: Path, pending: Pending) -> None:
    seal.write_json(folder / PENDING, {"token": pending.token, "digest": pending.digest})


def forget(folder: Path) -> None:
    (folder / PENDING).unlink(missing_ok=True)


def digest(submission: Submission) -> str:
    """Of everything that is sent, so that the same command is known again."""
    sums = sha256(json.dumps([submission.files, submission.command]).encode())
    for planned in submission.runs:
        sums.update(json.dumps([planned.plan.identity, planned.files], sort_keys=True).encode())
    return sums.hexdigest()


def folder_of(run: RunDirectory) -> Path:
    """The folder that a run was submitted with."""
    return run.folder.parents[1] if run.in_sweep else run.folder


def runs_of(folder: Path) -> list[RunDirectory]:
    """The run of such a folder, or the runs of the sweep in their order."""
    inside = [RunDirectory(path.parent) for path in (folder / SWEEP).glob("*/plan.json") if path.parent.name.isdigit()]
    return sorted(inside, key=lambda run: int(run.folder.name)) or [RunDirectory(folder)]


def there(plan: Plan, in_sweep: bool) -> Path:
    """The same folder on the cluster."""
    run = Path(plan.paths.run)
    return run.parents[1] if in_sweep else run


def send(connection: Connection, submission: Submission, pending: Pending, variables: Variables) -> str:
    """Send it, once. Returns the output of sbatch. Raises BadInput with the cluster's reason."""
    files = dict(submission.files)
    for planned in submission.runs:
        inside = planned.directory.folder.relative_to(submission.folder)
        named = {**planned.files, "plan.json": run_files.plan_json(planned.plan)}
        files |= {(inside / name).as_posix(): text for name, text in named.items()}
    plans = [planned.plan for planned in submission.runs]
    aside = time.strftime(".%Y%m%d-%H%M%S") if submission.fresh else ""
    head = [
        *_head("submit", pending, plans, submission.is_sweep),
        f"aside={shlex.quote(aside)}",
        f"code={shlex.quote(plans[0].paths.code or '')}",
        # The script's arguments: the folder of the plan, and the token, which squeue shows.
        f"command=({shlex.join([*submission.command, plans[0].paths.run, pending.token])})",
        *unset(variables),
        *_unpack(files),
    ]
    return _run(connection, head)


def settle(connection: Connection, plans: list[Plan], pending: Pending, in_sweep: bool) -> str | None:
    """Return the output of sbatch of a submission that was cut off; None if it did not arrive, and never will.

    Raises BadInput where that cannot be told.
    """
    answer = _run(
        connection, [*_head("settle", pending, plans, in_sweep), "aside=", "code=", "command=()", "unpack() { :; }"]
    )
    return None if answer.strip() == "void" else answer


def code_folder(plan: Plan, pending: Pending) -> str:
    """Where a copy of hatrain waits for the submission to begin."""
    return f"{plan.paths.workdir}/.hatrain/sent/{pending.token}.code"


def _head(purpose: str, pending: Pending, plans: list[Plan], in_sweep: bool) -> list[str]:
    values = {
        "purpose": purpose,
        "token": pending.token,
        "folder": str(there(plans[0], in_sweep)),
        "workdir": plans[0].paths.workdir,
    }
    arrays = {
        "runs": [plan.paths.run for plan in plans],
        "identities": [plan.identity for plan in plans],
        "records": [_record(plan, pending, in_sweep) for plan in plans],
    }
    return [
        *(f"{name}={shlex.quote(value)}" for name, value in values.items()),
        *(f"{name}=({shlex.join(items)})" for name, items in arrays.items()),
    ]


def _record(plan: Plan, pending: Pending, in_sweep: bool) -> str:
    event = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime()),
        "event": "submitted",
        "user": provenance.user(),
        "host": provenance.host(),
        "cluster": plan.cluster,
        "job": f"@JOB@_{Path(plan.paths.run).name}" if in_sweep else "@JOB@",
        "token": pending.token,
    }
    return seal.as_json(event)


def _unpack(files: dict[str, str]) -> list[str]:
    scripts = [name for name in files if name.endswith(".sh")]
    # Each aside first, and renamed: a run that starts at this moment reads whole files. plan.json comes last.
    lines = ["put() { # NAME", '  cat > "$folder/$1.new" && mv -- "$folder/$1.new" "$folder/$1"', "}", "unpack() {"]
    for name, text in sorted(files.items(), key=lambda file: file[0].endswith("plan.json")):
        first, *rest = run_files.here_document(f"put {shlex.quote(name)}", text)
        command, marker = first.rsplit(" <<", 1)
        lines += [f"{command} <<{marker} || return 1", *rest]
    executable = " ".join(shlex.quote(name) for name in scripts)
    return [*lines, f'(cd -- "$folder" && chmod 755 -- {executable})' if scripts else "true", "}"]


def _run(connection: Connection, head: list[str]) -> str:
    script = Path(__file__).with_name("submit.sh").read_text(encoding="utf-8")
    output = connection.run("\n".join([*head, script, "main"]), login=True)
    if output.code:
        told = complaint("sbatch", output.errors.splitlines()) or f"exit code {output.code}"
        if output.code == _REFUSED:
            raise BadInput(f"{connection.host}: sbatch: {told}")
        raise Unsettled(f"{connection.host}: sbatch: {told}; Slurm may have the job: the same hatrain submit finds out")
    return output.text.strip()


def new(submission: Submission) -> Pending:
    return Pending(secrets.token_hex(12), digest(submission))
