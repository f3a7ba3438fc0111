"""Loads a base model: its configuration and weights. `contract/model_ref.py` resolves what a job calls it."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from hatrain.errors import BadInput

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


@contextlib.contextmanager
def hub_errors(what: str, base: str) -> Iterator[None]:
    """Turn errors of the hub's client into one line with the remedy."""
    from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        yield
    except (GatedRepoError, RepositoryNotFoundError, LocalEntryNotFoundError, OSError, ValueError) as error:
        causes = [error, error.__cause__, error.__context__]
        if any(isinstance(cause, GatedRepoError) for cause in causes):
            raise BadInput(
                f"model.base: {base} is gated; accept its terms at https://huggingface.co/{base} and set HF_TOKEN"
            ) from error
        first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise BadInput(f"model.base: the {what} of {base} cannot be read: {first}") from error


def load_config(base: str, *, revision: str | None = None, trust_remote_code: bool = False) -> Any:
    with hub_errors("configuration", base):
        return AutoConfig.from_pretrained(base, revision=revision, trust_remote_code=trust_remote_code)


def load_model(
    base: str,
    *,
    revision: str | None = None,
    trust_remote_code: bool = False,
    dtype: torch.dtype = torch.float32,
    **options: Any,
) -> PreTrainedModel:
    """Raises BadInput when the model cannot be read."""
    with hub_errors("model", base):
        return AutoModelForCausalLM.from_pretrained(
            base, revision=revision, trust_remote_code=trust_remote_code, dtype=dtype, **options
        )
