"""Finding and loading weights to evaluate: a model, an adapter, a checkpoint, a run, or a model of the hub."""

import json
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import torch

from hatrain.contract.model_ref import find_folder, is_path
from hatrain.contract.run import RunDirectory, runs_root
from hatrain.contract.spec import ModelSpec
from hatrain.errors import BadInput, nearest
from hatrain.model import token_rows
from hatrain.model.base import load_model
from hatrain.model.prepare import new_tokens, resize_embeddings, set_special_tokens
from hatrain.model.revision import pinned
from hatrain.model.tokenizer import load_tokenizer
from hatrain.runtime import checkpoints, seal

GGUF = ".gguf"
_CONFIG, _ADAPTER_CONFIG, _TOKENIZER_CONFIG = "config.json", "adapter_config.json", "tokenizer_config.json"


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

    A run stands for its model, or its adapter. Raises BadInput when a folder has nothing to evaluate.
    """
    if name.endswith(GGUF):
        return _gguf(Path(name))
    run = runs_root() / name
    folder = run if not name.startswith((".", "/", "~")) and _is_run(run) else _folder(name)
    if folder is None:
        return Source(name, name)
    if _is_run(folder):
        return _finished(RunDirectory(folder))
    if _is_weights(folder):
        return Source(folder.resolve().name, str(folder), run_of(folder))
    raise BadInput(
        f"{name}: holds no {_CONFIG}, no {_ADAPTER_CONFIG} and no plan.json; "
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
    if add_chatml_tokens and (Path(source.location) / _ADAPTER_CONFIG).is_file():
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
            skipped.append(f"skipped {path.name}: found no {_CONFIG} and no {_ADAPTER_CONFIG}")
        else:
            sources.append(Source(path.name, str(path), run))
    sources += [Source(path.name, str(path), run) for path in (run.model, run.adapter) if _is_weights(path)][:1]
    if not sources:
        raise BadInput([f"{run.folder}: no whole checkpoint and no model yet", *skipped])
    return sources, skipped


def load(source: Source) -> tuple[Any, Any]:
    """Return (model, tokenizer) in evaluation mode, on the GPU if there is one.

    Weights are bf16 on a GPU that supports it, else fp32. An adapter is loaded onto its base, never quantised, and with
    the tokenizer that was saved with it. Raises BadInput for what cannot be read.
    """
    on_gpu = torch.cuda.is_available()
    dtype = torch.bfloat16 if on_gpu and torch.cuda.is_bf16_supported() else torch.float32
    tokenizer = load_tokenizer_of(source)
    model: Any
    if (Path(source.location) / _ADAPTER_CONFIG).is_file():
        from peft import PeftModel

        model = PeftModel.from_pretrained(load_base(source, tokenizer, dtype), source.location)
        token_rows.settle(model)
    else:
        model = load_model(source.location, trust_remote_code=source.trust_remote_code, dtype=dtype)
        if source.add_chatml_tokens:
            spec = ModelSpec(base=source.location, trust_remote_code=source.trust_remote_code, add_chatml_tokens=True)
            resize_embeddings(model, tokenizer, new_tokens(spec, tokenizer))
            set_special_tokens(model, tokenizer)
    return model.to("cuda" if on_gpu else "cpu").eval(), tokenizer


def load_tokenizer_of(source: Source) -> Any:
    """Return the tokenizer of the weights: an adapter's own, where it was saved with it, else its base's."""
    folder, base, revision = Path(source.location), source.location, None
    if (folder / _ADAPTER_CONFIG).is_file() and not (folder / _TOKENIZER_CONFIG).is_file():
        base, revision = base_of(source)
    return load_tokenizer(
        base,
        revision=revision,
        trust_remote_code=source.trust_remote_code,
        chat_template=source.chat_template,
        add_chatml_tokens=source.add_chatml_tokens,
    )


def load_base(source: Source, tokenizer: Any, dtype: torch.dtype) -> Any:
    """Return the base of an adapter, never quantised, with the rows that its embeddings had in training."""
    base, revision = base_of(source)
    model: Any = load_model(base, revision=revision, trust_remote_code=source.trust_remote_code, dtype=dtype)
    rows = _saved_rows(Path(source.location))
    if rows is None:
        resize_embeddings(model, tokenizer, ())
    elif rows != model.get_input_embeddings().weight.shape[0]:
        # Tokens were added in training: the base needs as many rows as the adapter's embedding.
        model.resize_token_embeddings(rows, mean_resizing=False)
    return model


def base_of(source: Source) -> tuple[str, str | None]:
    """Return an adapter's base and its revision: from its run's job, else from the adapter's configuration."""
    if source.run is not None:
        model = pinned(source.run.plan(), source.run).job.model
        return model.base, model.revision
    config = json.loads((Path(source.location) / _ADAPTER_CONFIG).read_text(encoding="utf-8"))
    return config["base_model_name_or_path"], config.get("revision")


def _saved_rows(folder: Path) -> int | None:
    """The rows of an embedding that is saved whole in an adapter; None without one."""
    from safetensors import safe_open

    weights = folder / "adapter_model.safetensors"
    if not weights.is_file():
        return None
    with safe_open(weights, framework="pt") as file:
        whole = [key for key in file.keys() if key.endswith(("embed_tokens.weight", "lm_head.weight"))]  # noqa: SIM118
        return file.get_slice(whole[0]).get_shape()[0] if whole else None


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
    return (folder / _CONFIG).is_file() or (folder / _ADAPTER_CONFIG).is_file()


def run_of(folder: Path) -> RunDirectory | None:
    """Return the run that a folder of weights belongs to; None without one."""
    near = folder.resolve().parents[:2]
    return next((RunDirectory(parent) for parent in near if _is_run(parent)), None)


def _run_names() -> list[str]:
    return [path.name for path in runs_root().iterdir()] if runs_root().is_dir() else []
