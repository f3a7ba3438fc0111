"""What `model.base` means: a folder, an earlier run's model, or a repository of the model hub. The planner, `fetch`,
the trainer and the evaluation all resolve a base here. Nothing is opened or downloaded."""

from dataclasses import dataclass
from pathlib import Path

from hatrain.contract.paths import expanded
from hatrain.contract.run import RunDirectory
from hatrain.errors import BadInput

ACCEPTED = "a folder, runs/NAME or models/NAME of an earlier run, or a hub id such as org/name"


@dataclass(frozen=True)
class ModelRef:
    """A base model. Exactly one of `folder` and `repository` is set."""

    folder: Path | None = None
    """Absolute."""
    repository: str | None = None
    """Hub id."""
    revision: str | None = None
    """Branch, tag or commit of the repository; its default branch when None."""

    @property
    def source(self) -> str:
        """What `from_pretrained` takes."""
        return str(self.folder or self.repository)


def resolve(base: str, revision: str | None = None, *, workdir: Path, runs_root: Path) -> ModelRef:
    """Resolve a base model. Relative paths start from `workdir`; a run stands for its model.

    Raises BadInput for a path without a folder, and for a run that left no model.
    """
    folder = find_folder(base, workdir=workdir, runs_root=runs_root)
    if folder is None:
        return ModelRef(repository=base, revision=revision)
    run = RunDirectory(folder)
    if run.model.is_dir():
        return ModelRef(folder=run.model)
    if run.plan_file.is_file():
        left = "left an adapter and no model; set method.lora.merge in its job" if run.adapter.is_dir() else ""
        raise BadInput(f"{base}: the run {run.name} {left or 'has no model yet'}")
    if (folder / "adapter_config.json").is_file() and not (folder / "config.json").is_file():
        raise BadInput(
            f"{base}: an adapter, not a model; set method.lora.merge in the job that trained it, or name its base"
        )
    return ModelRef(folder=folder)


def find_folder(name: str, *, workdir: Path, runs_root: Path) -> Path | None:
    """Return the absolute folder that a name stands for: a path, or a run by its name. None for a hub id.

    Raises BadInput for a name that can only be a path, when there is no such folder.
    """
    folder = workdir.absolute() / expanded(name)
    if folder.is_dir():
        return folder
    # $HATRAIN_RUNS may lie elsewhere: runs/NAME means the run in either case.
    run = runs_root.absolute() / name.removeprefix("runs/")
    if not name.startswith((".", "/", "~")) and (
        (run / "model").is_dir() or (name.startswith("runs/") and (run / "plan.json").is_file())
    ):
        return run
    if is_path(name):
        raise BadInput(f"{name}: no such folder (from {workdir}); accepted: {ACCEPTED}")
    return None


def is_path(name: str) -> bool:
    """Whether a name can only be a path: hub ids have at most one slash."""
    return name.startswith(("/", "./", "../", "~", "runs/", "models/")) or name.count("/") > 1
