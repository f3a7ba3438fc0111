"""How rows are laid out in a micro-batch: as trees that share a prefix, where that is right for the model."""

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from peft import PeftModel

from hatrain.contract.plan import Plan
from hatrain.contract.spec import Packing
from hatrain.data.labels import Example
from hatrain.model import attention
from hatrain.model.replaceable import BRANCH, PREFIX, differs, named, why_not
from hatrain.train.batches import Batch, batch_of

LARGEST_ERROR = 0.3
"""Of a packed row, as a share of what seeing the other rows would change."""
HEAD_ERROR = 0.05
"""Of the output head, as a share of how far log-probabilities are apart."""


def wanted(plan: Plan) -> Packing:
    """The packing that a job asks for; auto is tree, which is plain where nothing is shared."""
    method = plan.job.method
    if method.packing != "auto":
        return method.packing
    return "off" if method.mixes_rows else "tree"


def prepare(model: Any, plan: Plan) -> str | None:
    """Give a model our attention. Returns why it cannot be packed, if its configuration says so."""
    base: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    if reason := why_not(base, plan.job.method.ctx_size):
        return reason
    base.set_attn_implementation(attention.NAME)
    return None if base.config._attn_implementation == attention.NAME else "its attention cannot be replaced"


class Check:
    """Runs a few short rows of random tokens through a model, before it is trained. Each method is a collective call
    where the model is sharded.

    Whatever the model raises is a reason not to do what raised it.
    """

    def __init__(self, model: Any, vocabulary: int, device: torch.device):
        self.model, self.device = model, device
        parts = np.random.default_rng(0).integers(0, vocabulary, (4, PREFIX)).astype(np.int32)
        rows = [np.concatenate([parts[0], parts[1][:BRANCH]]), np.concatenate([parts[0], parts[2][:BRANCH]]), parts[3]]
        self.rows = [Example(number, ids, ((1, len(ids)),)) for number, ids in enumerate(rows)]
        self.padded, self.packed = (batch_of([(row,) for row in self.rows], kind, 0) for kind in ("off", "tree"))

    def head(self) -> str | None:
        """Return why the output head must not be run by itself."""
        try:
            own, expected = self._log_probabilities(self.padded), self._from_logits()
        except Exception as error:
            return named(error)
        scale = HEAD_ERROR * (expected - expected.mean())
        return "its logits are more than those of one module" if differs(own, expected, scale) else None

    def packing(self) -> str | None:
        """Return why rows must not be packed: compared with padded rows, and with rows that see each other."""
        mixed = {**self.packed, "model": {**self.packed["model"], "pack": None}}
        try:
            found, expected = self._log_probabilities(self.packed), self._log_probabilities(self.padded)
            change = LARGEST_ERROR * (self._log_probabilities(mixed) - expected)
        except Exception as error:
            return named(error)
        return "packed rows would see each other" if differs(found, expected, change) else None

    @contextlib.contextmanager
    def _evaluating(self) -> Iterator[None]:
        was_training = self.model.training
        self.model.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            self.model.train(was_training)

    def _log_probabilities(self, batch: Batch) -> torch.Tensor:
        """Of the rows' tokens, row by row."""
        inputs = {name: self._there(value) for name, value in batch["model"].items()}
        with self._evaluating():
            found = self.model(**inputs).float().cpu()
        return torch.cat([found[labels] for labels in batch["of_sequences"]])

    def _from_logits(self) -> torch.Tensor:
        ids, mask = (self._there(self.padded["model"][name]) for name in ("input_ids", "attention_mask"))
        with self._evaluating():
            logits = self.model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        tokens = logits[:, :-1].float().log_softmax(-1).gather(2, ids[:, 1:, None])[..., 0].cpu()
        return torch.cat([of[: len(row.input_ids) - 1] for of, row in zip(tokens, self.rows, strict=True)])

    def _there(self, value: Any) -> Any:
        return value.to(self.device) if isinstance(value, torch.Tensor) else value
