"""Supervised fine-tuning: the loss of the replies' tokens, and of nothing else."""

import contextlib
import inspect
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from trl import SFTTrainer

from hatrain.data.dataset import TokenizedDataset
from hatrain.data.labels import IGNORED
from hatrain.train.trainer import Batch, StepTrainer


def pad(rows: Sequence[Any], value: int) -> torch.Tensor:
    """Return arrays of token ids as one tensor `[rows, tokens]`, filled up on the right."""
    width = max(len(row) for row in rows)
    padded = torch.full((len(rows), width), value, dtype=torch.long)
    for i, row in enumerate(rows):
        padded[i, : len(row)] = torch.as_tensor(row, dtype=torch.long)
    return padded


@contextlib.contextmanager
def _head_out_of_sight(model: Any) -> Iterator[None]:
    """TRL refuses an adapter on the output head, for its own loss goes past it. Ours runs the model's own forward."""
    model.get_output_embeddings = lambda: None
    try:
        yield
    finally:
        del model.get_output_embeddings


class SftTrainer(StepTrainer, SFTTrainer):
    """TRL's trainer with our step. Its own preparation of data is skipped: rows come tokenized and labelled."""

    def __init__(self, model: Any, **kwargs: Any):
        with _head_out_of_sight(model):
            super().__init__(model=model, **kwargs)
        forward = self.accelerator.unwrap_model(self.model)
        forward = forward.get_base_model() if hasattr(forward, "get_base_model") else forward
        self._keeps_logits = "logits_to_keep" in inspect.signature(type(forward).forward).parameters

    def collate(self, dataset: TokenizedDataset, rows: Sequence[int], counts: bool = True) -> Batch:
        """Return `input_ids`, `attention_mask` and `labels`, each `[rows, tokens]`, padded by length alone, so that
        neither pad = eos nor a pad id of 0 is mistaken for the other."""
        ids = [dataset.input_ids[row] for row in rows]
        lengths = torch.tensor([len(row) for row in ids])
        padded = pad(ids, self.processing_class.pad_token_id or 0)
        labels = pad([dataset.labels[row] for row in rows], IGNORED)
        return {
            "input_ids": padded,
            "attention_mask": (torch.arange(padded.shape[1]) < lengths[:, None]).long(),
            "labels": labels if counts else torch.full_like(labels, IGNORED),
        }

    def pass_loss(self, model: torch.nn.Module, batch: Batch) -> torch.Tensor:
        """Return the summed negative log-likelihood of the supervised tokens.

        The head runs on the positions that some row of the pass is trained at: most positions are not, and over
        them the head is a quarter of a small model's work.
        """
        targets = batch["labels"][:, 1:]
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
        if self._keeps_logits:
            used = (targets != IGNORED).any(dim=0).nonzero().squeeze(1)
            # A pass that does not count still runs the head once, so that every rank's graph has the same parts.
            used = used if len(used) else torch.zeros(1, dtype=torch.long, device=targets.device)
            logits = model(**inputs, use_cache=False, logits_to_keep=used).logits
            targets = targets[:, used]
        else:
            logits = model(**inputs, use_cache=False).logits[:, :-1]
        return F.cross_entropy(
            logits.float().flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="sum"
        )
