"""With LoRA, the embedding rows of new tokens are trained, and no other row: PEFT's `trainable_token_indices`."""

from collections.abc import Mapping
from typing import Any

from peft.utils.other import TrainableTokensWrapper

from hatrain.contract.spec import LoraSpec
from hatrain.errors import BadInput
from hatrain.model.lora import adapted_names, groups, is_tied


def trained_rows(model: Any, lora: LoraSpec, tokens: Mapping[str, int]) -> dict[str, list[int]]:
    """Return the rows to train beside the adapters, by the name of their matrix: those of the new tokens, in the
    embedding and the head that `modules_to_save` does not train whole. Of tied matrices the embedding is named.

    Raises BadInput where PEFT cannot train rows.
    """
    targets, saved = adapted_names(model, lora)
    embedding, *_ = ends = groups(model)["embeddings"]
    if is_tied(model) and not set(ends).isdisjoint(saved) and set(ends).isdisjoint(targets):
        return {}
    by_row = [name for name in ends if name not in saved]
    if not tokens or not by_row:
        return {}
    if reason := _why_not(model, by_row, targets):
        raise BadInput(
            f"method.lora.modules_to_save: the new tokens {' '.join(tokens)} need it: {reason}; "
            f"add: modules_to_save: [{', '.join(ends)}]"
        )
    ids = sorted(tokens.values())
    return dict.fromkeys([embedding] if is_tied(model) else by_row, ids)


def _why_not(model: Any, by_row: list[str], targets: list[str]) -> str | None:
    """Why PEFT cannot train rows of these matrices."""
    if adapted := [name for name in by_row if name in targets]:
        return f"{' and '.join(adapted)} gets an adapter (method.lora.modules), and rows of it cannot be trained too"
    head = model.get_output_embeddings()
    if getattr(head, "bias", None) is not None:
        return "the output head has a bias, which PEFT leaves out of a head with trained rows"
    if hasattr(model.get_input_embeddings().weight, "ds_id"):
        return "under ZeRO-3 PEFT cannot train rows of a matrix that is sharded"
    return None


def check_tied(model: Any, rows: Mapping[str, list[int]], tied: bool) -> None:
    """Raise BadInput when PEFT did not find that the head is the embedding: its rows would stay as they began."""
    if rows and tied and not isinstance(model.get_output_embeddings(), TrainableTokensWrapper):
        raise BadInput(
            "method.lora.modules_to_save: PEFT does not see that this base ties its output head to its embedding, and "
            "would train rows of one only; add: modules_to_save: [embeddings]"
        )


def settle(model: Any) -> None:
    """Write trained rows into their matrices, for a model that is not trained further: PEFT otherwise copies each whole
    matrix in every pass."""
    for module in model.modules():
        if isinstance(module, TrainableTokensWrapper) and not module.token_adapter.merged_adapters:
            module.token_adapter.merge()
