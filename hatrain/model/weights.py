"""Finding weights: a model, an adapter, a checkpoint, a run, a GGUF file, or a model of the hub. It imports neither
torch nor transformers, so that a wrong name is said at once."""

from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

from hatrain.contract import hub
from hatrain.contract.model_ref import find_folder, is_path
from hatrain.contract.run import RunDirectory, runs_root
from hatrain.errors import BadInput, nearest
from hatrain.runtime import checkpoints, seal

GGUF = ".gguf"
_CONFIG, ADAPTER_CONFIG = "config.json", "adapter_config.json"


@dataclass(frozen=True)
class Source:
    """Weights to evaluate."""

    name: str
    """For tables and folders: `checkpoint-50`, `model`, a folder's name, a hub id."""
    location: str
    """A folder, a GGUF file, or a hub id."""
    run: RunDirectory | None = None
    """The run they belong to."""
    chat_template: str | None = None
    """A file that replaces the tokenizer's chat template."""
    add_chatml_tokens: bool = False
    """Whether ChatML's tokens and template are added, as a job does with a base that has none."""

    @property
    def today(self) -> date | None:
        """The date of the run, for chat templates that ask for it; None without a run."""
        return self.run.today() if self.run is not None else None

    @property
    def is_gguf(self) -> bool:
        return self.location.endswith(GGUF)

    @property
    def trust_remote_code(self) -> bool:
        """As in the run's job; false without a run."""
        return self.run is not None and self.run.plan().job.model.trust_remote_code


def find_source(name: str) -> Source:
    """Return the weights that a folder, a GGUF file, a run's name or a hub id stands for.

    A run stands for its model, or its adapter. Raises BadInput when a folder has nothing to evaluate, and when the hub
    has no such model or does not answer.
    """
    if name.endswith(GGUF):
        return _gguf(Path(name))
    run = runs_root() / name
    folder = run if not name.startswith((".", "/", "~")) and _is_run(run) else _folder(name)
    if folder is None:
        hub.require(name)
        return Source(name, name)
    if _is_run(folder):
        return _finished(RunDirectory(folder))
    if _is_weights(folder):
        return Source(folder.resolve().name, str(folder), run_of(folder))
    raise BadInput(
        f"{name}: holds no {_CONFIG}, no {ADAPTER_CONFIG} and no plan.json; "
        "accepted: a model, an adapter, a checkpoint, a run or a GGUF file"
    )


def _gguf(path: Path) -> Source:
    if not path.is_file():
        raise BadInput(
            f"{path}: no such file{nearest(path.name, [near.name for near in path.parent.glob('*' + GGUF)])}"
        )
    return Source(path.stem, str(path), run_of(path))


def _folder(name: str) -> Path | None:
    """Return the folder that a name stands for; None for a hub id, which here is always org/name."""
    try:
        folder = find_folder(name, workdir=Path.cwd(), runs_root=runs_root())
    except BadInput:
        folder = None
    if folder is None and (is_path(name) or "/" not in name):
        raise BadInput(
            f"{name}: no such folder, and no run of this name in {runs_root()}"
            f"{nearest(name, _run_names())}; accepted: a folder, a run's name, or a hub id such as org/name"
        )
    return folder


def with_template(source: Source, chat_template: str | None, add_chatml_tokens: bool) -> Source:
    """The same weights with another chat template. Raises BadInput for weights that have one of their own or cannot
    get new tokens."""
    if source.is_gguf and (chat_template or add_chatml_tokens):
        raise BadInput(f"{source.location}: a GGUF file has its chat template in it; leave the flag out")
    if add_chatml_tokens and (Path(source.location) / ADAPTER_CONFIG).is_file():
        raise BadInput(
            f"--add-chatml-tokens: {source.location} is an adapter, for which new tokens have no trained rows; it has "
            "those that its job added"
        )
    return replace(source, chat_template=chat_template, add_chatml_tokens=add_chatml_tokens)


def find_checkpoints(name: str) -> tuple[list[Source], list[str]]:
    """Return the whole checkpoints of a run, oldest first, then its model or adapter, if it has one.

    The second list names each skipped checkpoint, and why. Raises BadInput when there is no such run, or nothing in it
    can be evaluated.
    """
    folder = Path(name) if _is_run(Path(name)) else runs_root() / name
    if not _is_run(folder):
        raise BadInput(f"{name}: no such run in {runs_root()}{nearest(name, _run_names())}")
    run = RunDirectory(folder)
    sources, skipped = [], []
    for _, path in checkpoints.by_step(run.checkpoints):
        if damage := seal.verify(path):
            skipped.append(f"skipped {path.name}: {damage}")
        elif not _is_weights(path):
            skipped.append(f"skipped {path.name}: found no {_CONFIG} and no {ADAPTER_CONFIG}")
        else:
            sources.append(Source(path.name, str(path), run))
    sources += [Source(path.name, str(path), run) for path in (run.model, run.adapter) if _is_weights(path)][:1]
    if not sources:
        raise BadInput([f"{run.folder}: no whole checkpoint and no model yet", *skipped])
    return sources, skipped


def _finished(run: RunDirectory) -> Source:
    """A run's model or adapter, or its newest whole checkpoint while it has neither."""
    for path in (run.model, run.adapter):
        if _is_weights(path):
            return Source(run.name, str(path), run)
    newest = checkpoints.newest(run.checkpoints, run.plan().identity)
    if newest is None:
        raise BadInput(f"{run.folder}: no model and no whole checkpoint yet")
    return Source(f"{run.name}, {newest.name}", str(newest), run)


def _is_run(folder: Path) -> bool:
    return (folder / "plan.json").is_file()


def _is_weights(folder: Path) -> bool:
    return (folder / _CONFIG).is_file() or (folder / ADAPTER_CONFIG).is_file()


def run_of(folder: Path) -> RunDirectory | None:
    """Return the run that a folder of weights belongs to; None without one."""
    near = folder.resolve().parents[:2]
    return next((RunDirectory(parent) for parent in near if _is_run(parent)), None)


def _run_names() -> list[str]:
    return [path.name for path in runs_root().iterdir()] if runs_root().is_dir() else []
