"""Which weights a name stands for, and how they are read for answering: a model, an adapter, a checkpoint, a run, or
a model of the hub. It never writes."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hatrain.contract.model_ref import find_folder, is_path
from hatrain.contract.run import RunDirectory, runs_root
from hatrain.errors import BadInput, nearest
from hatrain.model.base import load_model
from hatrain.model.revision import pinned
from hatrain.model.tokenizer import load_tokenizer
from hatrain.runtime import checkpoints, seal

_CONFIG, _ADAPTER_CONFIG, _TOKENIZER_CONFIG = "config.json", "adapter_config.json", "tokenizer_config.json"


@dataclass(frozen=True)
class Source:
    """Weights that can be asked."""

    name: str
    """What tables and folders call them: `checkpoint-50`, `model`, a folder's name, a hub id."""
    location: str
    """A folder, or a hub id."""
    run: RunDirectory | None = None
    """The run they belong to."""

    @property
    def trust_remote_code(self) -> bool:
        """Whether the run's job trusts the code that comes with its model; never without a run that says so."""
        return self.run is not None and self.run.plan().job.model.trust_remote_code


def find_source(name: str) -> Source:
    """Return the weights that a folder, a run's name or a hub id stands for.

    A run stands for its model, or its adapter. Raises BadInput when a folder holds nothing that can be asked.
    """
    run = runs_root() / name
    folder = run if not name.startswith((".", "/", "~")) and _is_run(run) else _folder(name)
    if folder is None:
        return Source(name, name)
    if _is_run(folder):
        return _finished(RunDirectory(folder))
    if _is_weights(folder):
        return Source(folder.resolve().name, str(folder), _run_around(folder))
    raise BadInput(
        f"{name}: holds no {_CONFIG}, no {_ADAPTER_CONFIG} and no plan.json; "
        "accepted: a model, an adapter, a checkpoint or a run"
    )


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


def find_checkpoints(name: str) -> tuple[list[Source], list[str]]:
    """Return the whole checkpoints of a run, oldest first, and its model or adapter last, if it has one.

    The second list names each checkpoint that is passed over, and why. Raises BadInput when there is no such
    run, or nothing in it that can be asked.
    """
    folder = Path(name) if _is_run(Path(name)) else runs_root() / name
    if not _is_run(folder):
        raise BadInput(f"{name}: no such run in {runs_root()}{nearest(name, _run_names())}")
    run = RunDirectory(folder)
    sources, passed_over = [], []
    for _, path in checkpoints.by_step(run.checkpoints):
        if damage := seal.verify(path):
            passed_over.append(f"{path.name} is passed over: {damage}")
        elif not _is_weights(path):
            passed_over.append(f"{path.name} is passed over: it holds no {_CONFIG} and no {_ADAPTER_CONFIG}")
        else:
            sources.append(Source(path.name, str(path), run))
    sources += [Source(path.name, str(path), run) for path in (run.model, run.adapter) if _is_weights(path)][
        :1
    ]
    if not sources:
        raise BadInput([f"{run.folder}: no whole checkpoint and no model yet", *passed_over])
    return sources, passed_over


def load(source: Source) -> tuple[Any, Any]:
    """Return (model, tokenizer), ready to answer, on the GPU where there is one.

    Weights are bf16 on a GPU that has it, else fp32. An adapter is put on the base that it names, with the
    tokenizer that was saved beside it; the base is read in full precision even if it was quantised in training.
    Raises BadInput for what cannot be read.
    """
    on_gpu = torch.cuda.is_available()
    dtype = torch.bfloat16 if on_gpu and torch.cuda.is_bf16_supported() else torch.float32
    trusted = source.trust_remote_code
    if (Path(source.location) / _ADAPTER_CONFIG).is_file():
        model, tokenizer = _load_adapter(source, dtype)
    else:
        tokenizer = load_tokenizer(source.location, trust_remote_code=trusted)
        model = load_model(source.location, trust_remote_code=trusted, dtype=dtype)
    return model.to("cuda" if on_gpu else "cpu").eval(), tokenizer


def _load_adapter(source: Source, dtype: torch.dtype) -> tuple[Any, Any]:
    from peft import PeftModel

    folder, trusted = Path(source.location), source.trust_remote_code
    base, revision = _base_of(source)
    if (folder / _TOKENIZER_CONFIG).is_file():
        tokenizer = load_tokenizer(str(folder), trust_remote_code=trusted)
    else:
        tokenizer = load_tokenizer(base, revision=revision, trust_remote_code=trusted)
    model: Any = load_model(base, revision=revision, trust_remote_code=trusted, dtype=dtype)
    rows = _saved_rows(folder) or max(len(tokenizer), model.get_input_embeddings().weight.shape[0])
    if rows != model.get_input_embeddings().weight.shape[0]:
        # Tokens were added when the adapter was trained; its embedding has their rows, and the base must match.
        model.resize_token_embeddings(rows, mean_resizing=False)
    return PeftModel.from_pretrained(model, str(folder)), tokenizer


def _base_of(source: Source) -> tuple[str, str | None]:
    """Return an adapter's base and its revision: as its run's job names them, else as the adapter does."""
    if source.run is not None:
        model = pinned(source.run.plan(), source.run).job.model
        return model.base, model.revision
    config = json.loads((Path(source.location) / _ADAPTER_CONFIG).read_text(encoding="utf-8"))
    return config["base_model_name_or_path"], config.get("revision")


def _saved_rows(folder: Path) -> int | None:
    """Return the number of rows of an embedding that is saved whole in an adapter, or None."""
    from safetensors import safe_open

    weights = folder / "adapter_model.safetensors"
    if not weights.is_file():
        return None
    with safe_open(weights, framework="pt") as file:
        whole = [key for key in file.keys() if key.endswith(("embed_tokens.weight", "lm_head.weight"))]  # noqa: SIM118
        return file.get_slice(whole[0]).get_shape()[0] if whole else None


def _finished(run: RunDirectory) -> Source:
    """Return a run's model or adapter, or its newest whole checkpoint while it has neither."""
    for path in (run.model, run.adapter):
        if _is_weights(path):
            return Source(run.name, str(path), run)
    newest = checkpoints.newest(run.checkpoints)
    if newest is None:
        raise BadInput(f"{run.folder}: no model and no whole checkpoint yet")
    return Source(f"{run.name}, {newest.name}", str(newest), run)


def _is_run(folder: Path) -> bool:
    return (folder / "plan.json").is_file()


def _is_weights(folder: Path) -> bool:
    return (folder / _CONFIG).is_file() or (folder / _ADAPTER_CONFIG).is_file()


def _run_around(folder: Path) -> RunDirectory | None:
    """Return the run that a model's, an adapter's or a checkpoint's folder lies in."""
    near = folder.resolve().parents[:2]
    return next((RunDirectory(parent) for parent in near if _is_run(parent)), None)


def _run_names() -> list[str]:
    return [path.name for path in runs_root().iterdir()] if runs_root().is_dir() else []
