"""What a run needs to find before it starts. It looks at paths; it never opens or fetches anything."""

from pathlib import Path

from hatrain.contract import dependency
from hatrain.contract.plan import Plan


def resolve(path: str, workdir: str | Path) -> Path:
    """Return where a job's path lies: `~` is the home folder, a relative one starts from `workdir`."""
    return Path(workdir) / Path(path).expanduser()


def is_local(base: str) -> bool:
    """Return whether a base model is written as a folder, and not as a hub id."""
    return base.startswith(("/", "./", "../", "~", "runs/", "models/"))


def missing(plan: Plan) -> list[str]:
    """Return what the plan names and this machine does not have, a line each: key, path, what is wrong.

    What the run named by `after` is going to make is not missed until that run is DONE.
    """
    job, workdir = plan.job, Path(plan.paths.workdir)
    if not workdir.is_dir():
        return [f"{workdir}: no such folder; the job's relative paths start from it"]
    files: list[tuple[str, str | None]] = [("data.train", dataset.path) for dataset in job.data.train]
    files += [("data.test", job.data.test), ("model.chat_template", job.model.chat_template)]
    before = dependency.awaited(plan)

    def is_to_come(path: Path) -> bool:
        return before is not None and dependency.makes(before, plan, path)

    problems = [
        f"{key}: {path}: {'a folder, not a file' if found.is_dir() else 'no such file'}{_from(path, workdir)}"
        for key, path in files
        if path and not (found := resolve(path, workdir)).is_file() and not is_to_come(found)
    ]
    base = resolve(job.model.base, workdir)
    if is_local(job.model.base) and not base.is_dir() and not is_to_come(base):
        problems.append(f"model.base: {job.model.base}: no such folder{_from(job.model.base, workdir)}")
    return problems


def _from(path: str, workdir: Path) -> str:
    return "" if Path(path).is_absolute() else f" (from {workdir})"
