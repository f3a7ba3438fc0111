"""Loads a base model: its configuration and weights. `contract/model_ref.py` resolves what a job calls it."""

import contextlib
import json
import os
import pickle
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from hatrain.contract import hub
from hatrain.errors import BadInput
from hatrain.runtime.waiting import waiting

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
_READ = {
    "configuration": ("config.json",),
    "model": ("config.json", "generation_config.json"),
    "tokenizer": ("config.json", "tokenizer_config.json", "tokenizer.json"),
}
"""The JSON files of a base that are read for each of its parts."""
_DAMAGED_ARCHIVE = ("PytorchStreamReader", "archive", "size mismatch")
"""What torch says in a RuntimeError about a damaged file. Any other, such as a lost connection, may succeed later."""


@contextlib.contextmanager
def hub_errors(what: str, base: str, revision: str | None = None) -> Iterator[None]:
    """Turn errors of the hub's client and of files that cannot be what they are named into one line, and say at once
    where there is no such model, or no hub."""
    from huggingface_hub.errors import GatedRepoError, StrictDataclassError

    unreadable = (OSError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, EOFError)
    try:
        check_files(base, _READ[what])
        hub.require(base, revision, "model.base")
        yield
    except pickle.UnpicklingError as error:
        raise BadInput(
            f"model.base: the {what} of {base} holds a pickle with more than weights in it, which could run any code; "
            "use a base in safetensors"
        ) from error
    except (*unreadable, SafetensorError, StrictDataclassError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not any(part in str(error) for part in _DAMAGED_ARCHIVE):
            raise
        causes = [error, error.__cause__, error.__context__]
        if any(isinstance(cause, GatedRepoError) for cause in causes):
            raise BadInput(
                f"model.base: {base} is gated; accept its terms at https://huggingface.co/{base} and set HF_TOKEN"
            ) from error
        first = " ".join(line.strip() for line in str(error).splitlines() if line.strip())[:300]
        kind = "" if isinstance(error, OSError | ValueError) and first else f"{type(error).__name__}: "
        raise BadInput(f"model.base: the {what} of {base} cannot be read: {kind}{first}") from error


def check_files(base: str, names: Iterable[str]) -> None:
    """Raise BadInput when one of these files of a folder is not a JSON object."""
    for name in names:
        path = Path(base) / name
        if not path.is_file():
            continue
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise BadInput(f"model.base: {path}: not JSON: {error}") from None
        if not isinstance(value, dict):
            found = "a list" if isinstance(value, list) else repr(value)[:40]
            raise BadInput(f"model.base: {path}: found {found}; accepted: an object")


def load_config(base: str, *, revision: str | None = None, trust_remote_code: bool = False) -> Any:
    with hub_errors("configuration", base, revision):
        return AutoConfig.from_pretrained(base, revision=revision, trust_remote_code=trust_remote_code)


def load_model(
    base: str,
    *,
    revision: str | None = None,
    trust_remote_code: bool = False,
    dtype: torch.dtype = torch.float32,
    **options: Any,
) -> PreTrainedModel:
    """Raises BadInput when the model cannot be read, or not all of its weights are there."""
    with hub_errors("model", base, revision), waiting(f"loading the weights of {base}"):
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            base,
            revision=revision,
            trust_remote_code=trust_remote_code,
            dtype=dtype,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            **options,
        )
    model: PreTrainedModel = loaded[0]
    check_complete(base, model, loaded[1])
    if (note := unused_note(base, loaded[1])) and os.environ.get("RANK", "0") == "0":
        print(note, file=sys.stderr, flush=True)
    return model


def check_complete(base: str, model: Any, found: Mapping[str, Any]) -> None:
    """Raise BadInput when a weight was not in the files or has another shape there: it would be random."""
    for name, there, wanted in sorted(found["mismatched_keys"]):
        raise BadInput(
            f"model.base: {base}: {name} has the shape {list(there)}, and its config.json describes {list(wanted)}; "
            "one of the two files is another model's"
        )
    weights = {name for name, _ in model.named_parameters()}
    if missing := sorted(weights & set(found["missing_keys"])):
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise BadInput(
            f"model.base: {base} does not hold {missing[0]}{more}, which its config.json describes; they would be "
            "random: download the model again, or correct config.json"
        )


def unused_note(base: str, found: Mapping[str, Any]) -> str | None:
    """Name the tensors of a base that its configuration does not describe; None if all are used. The model could be
    smaller than its files, and some bases bring more than a language model."""
    unused = sorted(found["unexpected_keys"])
    if not unused:
        return None
    more = f" and {len(unused) - 1} more" if len(unused) > 1 else ""
    return f"note: {base} holds {unused[0]}{more}, which its config.json does not describe: they are not used"
