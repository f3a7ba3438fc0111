"""The files and folders that a run needs before it starts. It looks at paths, and opens or fetches nothing."""

from pathlib import Path

from hatrain.contract import dependency, model_ref
from hatrain.contract.cluster import SlurmCluster
from hatrain.contract.paths import expanded
from hatrain.contract.plan import Plan
from hatrain.contract.run import RunDirectory
from hatrain.errors import BadInput

LONGEST_LINE = 64 * 2**20
"""Bytes of a row. A longer one is no row, and reading it could take all memory."""
LONGEST_LIST = 2**30
"""Bytes of a file that is one list, which is read whole."""


def resolve(path: str, workdir: str | Path) -> Path:
    """Return a job's path with `~` expanded; a relative one starts from `workdir`."""
    return Path(workdir) / expanded(path)


def workdir_of(plan: Plan, run: RunDirectory) -> Path:
    """Return the folder that a run's relative paths start from on this machine: the plan's, or the current one where
    the run directory is a copy of one on a cluster behind ssh."""
    behind_ssh = isinstance(plan.cluster_spec, SlurmCluster) and plan.cluster_spec.ssh
    return Path.cwd() if behind_ssh and str(run.folder) != plan.paths.run else Path(plan.paths.workdir)


def no_file(path: Path) -> str | None:
    """Return what is wrong with the path of a file; None where it is one."""
    return None if path.is_file() else "a folder, not a file" if path.is_dir() else "no such file"


def require_file(path: Path) -> None:
    """Raise BadInput where there is no such file."""
    if problem := no_file(path):
        raise BadInput(f"{path}: {problem}")


def missing(plan: Plan) -> list[str]:
    """Return a line for each input of a plan that is not on this machine: key, path, what is wrong.

    Outputs of the run named by `after` are not missing until that run is DONE.
    """
    job, workdir = plan.job, Path(plan.paths.workdir)
    if not workdir.is_dir():
        return [f"{workdir}: no such folder; the job's relative paths start from it"]
    files: list[tuple[str, str | None]] = [("data.train", dataset.path) for dataset in job.data.train]
    files += [("data.test", job.data.test), ("model.chat_template", job.model.chat_template)]
    parent = dependency.unfinished(plan)
    problems = []
    for key, path in files:
        if not path or (found := resolve(path, workdir)).is_file():
            continue
        if parent is None or not dependency.makes(parent, plan, found):
            kind = no_file(found)
            start = "" if Path(path).is_absolute() else f" (from {workdir})"
            problems.append(f"{key}: {path}: {kind}{start}")
    try:
        model_ref.resolve(job.model.base, workdir=workdir, runs_root=RunDirectory(Path(plan.paths.run)).root)
    except BadInput as error:
        if parent is None or not dependency.makes_base(parent, plan):
            problems += [f"model.base: {problem}" for problem in error.problems]
    return problems
