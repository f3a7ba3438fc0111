"""What a run needs to find before it starts. It looks at paths; it never opens or fetches anything."""

from pathlib import Path

from hatrain.plan import Plan


def resolve(path: str, workdir: str | Path) -> Path:
    """Return where a job's path lies: `~` is the home folder, a relative one starts from `workdir`."""
    return Path(workdir) / Path(path).expanduser()


def is_local(base: str) -> bool:
    """Return whether a base model is written as a folder, and not as a hub id."""
    return base.startswith(("/", "./", "../", "~", "runs/", "models/"))


def missing(plan: Plan) -> list[str]:
    """Return what the plan names and this machine does not have, a line each: key, path, what is wrong."""
    job, workdir = plan.job, Path(plan.paths.workdir)
    if not workdir.is_dir():
        return [f"{workdir}: no such folder; the job's relative paths start from it"]
    files: list[tuple[str, str | None]] = [("data.train", dataset.path) for dataset in job.data.train]
    files += [("data.test", job.data.test), ("model.chat_template", job.model.chat_template)]
    problems = [
        f"{key}: {path}: {'a folder, not a file' if found.is_dir() else 'no such file'}{_from(path, workdir)}"
        for key, path in files
        if path and not (found := resolve(path, workdir)).is_file()
    ]
    base = job.model.base
    if is_local(base) and not resolve(base, workdir).is_dir():
        problems.append(f"model.base: {base}: no such folder{_from(base, workdir)}")
    if job.after and not (Path(plan.paths.run).parent / job.after / "DONE").exists():
        problems.append(
            f"after: {job.after}: has not finished; no DONE in {Path(plan.paths.run).parent / job.after}"
        )
    return problems


def _from(path: str, workdir: Path) -> str:
    return "" if Path(path).is_absolute() else f" (from {workdir})"
