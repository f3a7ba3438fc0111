"""The local files of a job. One with a relative path is sent to the same place below the cluster's working folder. Any
other path, and a relative one that is not here, is the cluster's own, and is asked for there."""

import functools
import posixpath
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hatrain.contract import model_ref
from hatrain.contract.plan import Plan
from hatrain.contract.run import RunDirectory
from hatrain.errors import BadInput
from hatrain.runtime import seal
from hatrain.text import count
from launch.backends.slurm.ssh.connection import Connection
from launch.run_files import quoted_path

SENT = "launch/inputs.json"
"""In the run directory here: the digest of each data file that was sent, by its place below the working folder."""


@dataclass(frozen=True)
class Folder:
    """Files below one folder here, and the folder below the cluster's working folder that they are sent to."""

    here: Path
    there: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class Expected:
    """A path that must be on the cluster already."""

    key: str
    path: str
    """As the job has it."""
    is_folder: bool


@dataclass(frozen=True)
class Inputs:
    data: Folder
    """Rows and chat templates, below the folder of the submission."""
    base: Folder | None
    """A base model of this machine."""
    expected: tuple[Expected, ...]


def of(plan: Plan, workdir: Path, runs_root: Path) -> Inputs:
    """What a job needs, seen from the folder of the submission."""
    job = plan.job
    named = [("data.train", dataset.path) for dataset in job.data.train]
    named += [("data.test", job.data.test or ""), ("model.chat_template", job.model.chat_template or "")]
    named = [(key, path) for key, path in named if path]
    here = [posixpath.normpath(path) for _, path in named if is_local(path) and (workdir / path).is_file()]
    expected = [
        Expected(key, path, is_folder=False)
        for key, path in named
        if not (is_local(path) and (workdir / path).is_file()) and not _is_made_by_parent(plan, path)
    ]
    base = _base(plan, workdir, runs_root)
    if base is None and model_ref.is_path(job.model.base) and not _is_made_by_parent(plan, job.model.base):
        expected.append(Expected("model.base", job.model.base, is_folder=True))
    return Inputs(Folder(workdir, ".", tuple(dict.fromkeys(here))), base, tuple(expected))


def is_local(path: str) -> bool:
    """Whether a path of a job is one of the folder of the submission."""
    return not path.startswith(("/", "~")) and posixpath.normpath(path).split("/")[0] != ".."


def _is_made_by_parent(plan: Plan, path: str) -> bool:
    parent = plan.job.after
    if not parent:
        return False
    made = (f"runs/{parent}", f"models/{parent.replace('/', '-')}")
    return path == parent or any(posixpath.normpath(path).startswith(each) for each in made)


def _base(plan: Plan, workdir: Path, runs_root: Path) -> Folder | None:
    name = plan.job.model.base
    if not is_local(name):
        return None
    try:
        folder = model_ref.resolve(name, workdir=workdir, runs_root=runs_root).folder
    except BadInput:
        return None  # a run that is not finished, or whose model is on the cluster alone
    if folder is None:
        return None
    run = RunDirectory(folder.parent)
    is_result = folder == run.model and folder.is_relative_to(runs_root.absolute())
    there = f"runs/{run.name}/model" if is_result else posixpath.normpath(name)
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return Folder(folder, there, tuple(names))


# --- before anything is sent --------------------------------------------------------------------------------


def check(connection: Connection, plan: Plan, needed: Inputs, workdir: Path) -> None:
    """Raises BadInput for each path that is expected on the cluster and is not there."""
    lines = []
    for number, each in enumerate(needed.expected):
        path = each.path if each.path.startswith(("/", "~")) else f"{plan.paths.workdir}/{each.path}"
        if path.startswith("~") and not path.startswith("~/"):
            continue  # the run itself says when another user's folder lacks it
        path += "/model" if each.is_folder and each.path.startswith("runs/") else ""
        test = "-d" if each.is_folder else "-f"
        lines.append(f"[[ {test} {quoted_path(path.replace('$', '$$'))} ]] || echo {number}")
    if not lines:
        return
    absent = [needed.expected[int(line)] for line in connection.run("\n".join(lines)).text.split()]
    if absent:
        raise BadInput(_absent(each, connection.host, plan, workdir) for each in absent)


def _absent(each: Expected, host: str, plan: Plan, workdir: Path) -> str:
    kind = "no such folder" if each.is_folder else "no such file"
    if is_local(each.path):
        return f"{each.key}: {each.path}: {kind} here (from {workdir}), nor on {host} (from {plan.paths.workdir})"
    is_here = Path(each.path).expanduser().exists()
    remedy = f"; it is on this machine: write it relative to {workdir} to have it sent" if is_here else ""
    return f"{each.key}: {each.path}: {kind} on {host}{remedy}"


def digests(folder: Folder) -> dict[str, str]:
    return {name: _digest(folder.here / name) for name in folder.names}


@functools.cache
def _digest(path: Path) -> str:
    """The runs of a sweep have the same files."""
    return seal.digest(path)


def refuse_changed(sent: dict[str, str], runs: Sequence[RunDirectory]) -> None:
    """Raise BadInput where a file would replace the one that a queued or running run was submitted with."""
    problems = []
    for run in runs:
        before = seal.read_object(run.folder / SENT)
        changed = [name for name, digest in sent.items() if before.get(name, digest) != digest]
        problems += [
            f"{name}: differs from the one that {run.name} was submitted with, which is not finished; wait for it, or "
            "give this one another name"
            for name in changed
        ]
    if problems:
        raise BadInput(problems)


# --- sending ------------------------------------------------------------------------------------------------


def send(connection: Connection, there: str, needed: Sequence[Inputs]) -> None:
    """Copy what is not there with the same digest. Raises BadInput where that would change an earlier run's model."""
    folders = (folder for each in needed for folder in (each.data, each.base) if folder and folder.names)
    for folder in dict.fromkeys(folders):
        target = posixpath.normpath(f"{there}/{folder.there}")
        connection.run(f"mkdir --parents -- {shlex.quote(target)}")
        arguments = ["--checksum", f"{folder.here}/", f":{target}/"]
        changes = connection.rsync(["--dry-run", "--itemize-changes", "--8-bit-output", *arguments], folder.names)
        # <f: a file is sent; +: it is new, c: it has another checksum.
        sent = [line.split(" ", 1) for line in changes.splitlines() if line.startswith("<f")]
        replaced = [name for flags, name in sent if "+" not in flags]
        if replaced and folder.there.startswith(("runs/", "models/")):
            raise BadInput(
                f"model.base: {folder.there}/{replaced[0]} is another on {connection.host}; a run may have made it "
                "there: give the base here another folder"
            )
        if new := [name for flags, name in sent if "+" in flags or "c" in flags[:3]]:
            size = sum((folder.here / name).stat().st_size for name in new)
            print(f"sending {count(len(new), 'file')}, {_size(size)}, to {connection.host}:{target}", file=sys.stderr)
            connection.rsync(arguments, new, progress=True)


def send_code(connection: Connection, here: Path, there: str) -> None:
    """Copy a copy of hatrain."""
    names = sorted(path.relative_to(here).as_posix() for path in here.rglob("*") if path.is_file())
    connection.run(f"mkdir --parents -- {shlex.quote(there)}")
    connection.rsync(["--checksum", f"{here}/", f":{there}/"], names)


def _size(count_of_bytes: int) -> str:
    value, unit = float(count_of_bytes), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{value:.0f} {unit}" if unit == "bytes" else f"{value:.1f} {unit}"
