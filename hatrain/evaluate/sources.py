"""Loading weights to evaluate: a model, an adapter, a checkpoint, a run, or a model of the hub."""

import json
from pathlib import Path
from typing import Any

import torch

from hatrain.contract.spec import ModelSpec
from hatrain.model import token_rows
from hatrain.model.base import load_model
from hatrain.model.prepare import new_tokens, resize_embeddings, set_special_tokens
from hatrain.model.revision import pinned
from hatrain.model.tokenizer import load_tokenizer
from hatrain.model.weights import ADAPTER_CONFIG, Source, find_checkpoints, find_source, run_of, with_template

__all__ = [
    "Source",
    "base_of",
    "find_checkpoints",
    "find_source",
    "load",
    "load_base",
    "load_tokenizer_of",
    "run_of",
    "with_template",
]

_TOKENIZER_CONFIG = "tokenizer_config.json"


def load(source: Source) -> tuple[Any, Any]:
    """Return (model, tokenizer) in evaluation mode, on the GPU if there is one.

    Weights are bf16 on a GPU that supports it, else fp32. An adapter is loaded onto its base, never quantised, and with
    the tokenizer that was saved with it. Raises BadInput for what cannot be read.
    """
    on_gpu = torch.cuda.is_available()
    dtype = torch.bfloat16 if on_gpu and torch.cuda.is_bf16_supported() else torch.float32
    tokenizer = load_tokenizer_of(source)
    model: Any
    if (Path(source.location) / ADAPTER_CONFIG).is_file():
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
    if (folder / ADAPTER_CONFIG).is_file() and not (folder / _TOKENIZER_CONFIG).is_file():
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
    config = json.loads((Path(source.location) / ADAPTER_CONFIG).read_text(encoding="utf-8"))
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
