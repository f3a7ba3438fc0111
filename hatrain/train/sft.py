"""Supervised fine-tuning: the loss of the replies' tokens, and of nothing else."""

from typing import Any

import torch
from peft import PeftModel

from hatrain.train.batches import Batch
from hatrain.train.trainer import StepTrainer, TrainingContext


class SftTrainer(StepTrainer):
    """Cross-entropy over the supervised tokens of rows that come tokenized and labelled."""

    def __init__(self, context: TrainingContext, model: Any, **kwargs: Any):
        if context.plan.gradient_checkpointing and isinstance(model, PeftModel):
            # Below a frozen embedding nothing would require a gradient, and reentrant checkpointing would compute none.
            model.enable_input_require_grads()
        super().__init__(context, model=model, train_dataset=context.steps, **kwargs)

    def micro_batch_loss(self, model: torch.nn.Module, batch: Batch) -> torch.Tensor:
        """Return the negative log-likelihood of the supervised tokens, summed over rows."""
        log_probabilities: torch.Tensor = model(**batch["model"])
        return -(log_probabilities * batch["weights"]).sum()
