"""Supervised fine-tuning: the loss of the replies' tokens, and of nothing else."""

import inspect
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from peft import PeftModel

from hatrain.data.dataset import TokenizedDataset
from hatrain.data.labels import IGNORED
from hatrain.train.trainer import StepTrainer, Tensors, TrainingContext


def pad(rows: Sequence[Any], value: int) -> torch.Tensor:
    """Return arrays of token ids as one tensor `[rows, tokens]`, filled up on the right."""
    width = max(len(row) for row in rows)
    padded = torch.full((len(rows), width), value, dtype=torch.long)
    for i, row in enumerate(rows):
        padded[i, : len(row)] = torch.as_tensor(row, dtype=torch.long)
    return padded


class SftTrainer(StepTrainer):
    """Cross-entropy over the supervised tokens of rows that come tokenized and labelled."""

    def __init__(self, context: TrainingContext, model: Any, **kwargs: Any):
        if context.plan.gradient_checkpointing and isinstance(model, PeftModel):
            # Below a frozen embedding nothing would require a gradient, and reentrant checkpointing would compute none.
            model.enable_input_require_grads()
        super().__init__(context, model=model, train_dataset=context.steps, **kwargs)
        base = model.get_base_model() if isinstance(model, PeftModel) else model
        self._takes_logits_to_keep = "logits_to_keep" in inspect.signature(type(base).forward).parameters

    def collate(self, dataset: TokenizedDataset, rows: Sequence[int], counts: bool = True) -> Tensors:
        """Return `input_ids`, `attention_mask` and `labels`, each `[sequences, tokens]`; `rows` are numbers of
        sequences. The mask comes from the lengths alone: a pad token may be the eos token too."""
        ids = [dataset.input_ids[row] for row in rows]
        lengths = torch.tensor([len(row) for row in ids])
        padded = pad(ids, self.processing_class.pad_token_id or 0)
        labels = pad([dataset.labels[row] for row in rows], IGNORED)
        return {
            "input_ids": padded,
            "attention_mask": (torch.arange(padded.shape[1]) < lengths[:, None]).long(),
            "labels": labels if counts else torch.full_like(labels, IGNORED),
        }

    def micro_batch_loss(self, model: torch.nn.Module, tensors: Tensors) -> torch.Tensor:
        """Return the summed negative log-likelihood of the supervised tokens.

        The output head runs only at positions where some row is supervised. Most positions are not, and over all of
        them the head is a quarter of a small model's work.
        """
        targets = tensors["labels"][:, 1:]
        inputs = {name: tensors[name] for name in ("input_ids", "attention_mask")}
        if self._takes_logits_to_keep:
            used = (targets != IGNORED).any(dim=0).nonzero().squeeze(1)
            # A micro-batch that does not count still runs the head, so that every rank's graph has the same parts.
            used = used if len(used) else torch.zeros(1, dtype=torch.long, device=targets.device)
            logits = model(**inputs, use_cache=False, logits_to_keep=used).logits
            targets = targets[:, used]
        else:
            logits = model(**inputs, use_cache=False).logits[:, :-1]
        return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="sum")
