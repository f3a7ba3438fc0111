"""Direct preference optimization: TRL's losses on our step. The reference's log-probabilities are computed once, before
the first step, with the weights that training starts from; so no second model is held."""

import contextlib
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from trl import DPOTrainer

from hatrain.contract.steps import MicroBatch
from hatrain.data.pairs import TokenizedPairs
from hatrain.errors import BadInput
from hatrain.model import lora
from hatrain.runtime import checkpoints, progress
from hatrain.train import reference
from hatrain.train.batches import Batch
from hatrain.train.collectives import barrier, from_all_ranks, over_all_ranks
from hatrain.train.reference import REFERENCE
from hatrain.train.step_dataset import Step
from hatrain.train.trainer import StepTrainer, StopRequested, TrainingContext

LABEL_SMOOTHING = {"exo_pair": 1e-3, "robust": 0.1}
"""The losses that are built on label smoothing, with the value that each one's paper recommends."""

STORED_EVERY = 64
"""Micro-batches of the reference after which it is written, so that an interrupted run keeps it."""

REWARDS = ("rewards/chosen", "rewards/rejected", "rewards/accuracies", "rewards/margins")
"""Metrics of every pair, under TRL's names: beta × (log-probability − the reference's) of each side, whether the chosen
side's is larger, and the difference."""


class DpoTrainer(StepTrainer, DPOTrainer):
    """TRL's trainer with our step. TRL prepares no data and computes no reference: pairs come tokenized, and the
    reference's log-probabilities are read from a file.

    The loss of a micro-batch is its mean over pairs. MIXING_LOSSES mix the pairs of a micro-batch, so their results
    depend on its size, and they are not packed.
    Dropout is off, also in adapters, as in TRL: the reference was computed without.
    """

    reference: dict[str, np.ndarray]
    accelerator: Any

    def __init__(self, context: TrainingContext, model: Any, **kwargs: Any):
        _refuse_adapted_head(model)
        # TRL insists on a Dataset and a collator. The loader is our own and uses neither.
        rows = Dataset.from_dict({"row": list(range(len(context.rows.train)))})
        super().__init__(context, model=model, train_dataset=rows, data_collator=list, **kwargs)
        if isinstance(self.model, PeftModel):
            # TRL's copy of the adapter. Our adapters start at zero, so the base without them is the reference.
            self.model.delete_adapter("ref")
        # TRL turns the adapters of a quantised base into bf16, where a small learning rate rounds away.
        for parameter in lora.trained(model):
            parameter.data = parameter.data.float()
        self.rewards = {"train": RewardSums(), "test": RewardSums()}

    def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        return dataset

    def _precompute_ref_logps(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        return dataset

    def collate(self, dataset: TokenizedPairs, rows: Sequence[int], counts: bool = True) -> Batch:
        """Add `trl`: what TRL's losses read of a batch. Each side is only its answer, after one token before it; chosen
        sides come first, then rejected ones. `labels` are each token's place among the batch's log-probabilities."""
        batch = super().collate(dataset, rows, counts)
        sides = [*batch["of_sequences"][::2], *batch["of_sequences"][1::2]]
        lengths = torch.tensor([len(labels) for labels in sides])
        answers = (torch.arange(int(lengths.max())) < lengths[:, None]).long()
        labels = torch.zeros_like(answers)
        labels[answers.bool()] = torch.cat(sides)
        mask = torch.cat([torch.zeros_like(answers[:, :1]), answers], dim=1)
        trl = {"input_ids": torch.zeros_like(mask), "attention_mask": mask, "completion_mask": mask}
        name = "train" if dataset is self.train_rows else "test"
        if name in self.reference:
            sums = torch.from_numpy(self.reference[name][list(rows)])
            trl["ref_chosen_logps"], trl["ref_rejected_logps"] = sums[:, 0], sums[:, 1]
        return {**batch, "labels": labels, "answers": answers, "trl": trl, "counts": float(counts)}

    def micro_batch_loss(self, model: torch.nn.Module, batch: Batch) -> torch.Tensor:
        """Return the loss summed over pairs."""
        sides = AnswerLogProbabilities(model, batch)
        with self._without_gathering():
            mean: torch.Tensor = self.compute_loss(sides, batch["trl"])
        chosen, rejected = sides.sums.chunk(2)
        self.rewards["train" if self.model.training else "test"].add(
            self.beta * (chosen - batch["trl"]["ref_chosen_logps"]),
            self.beta * (rejected - batch["trl"]["ref_rejected_logps"]),
            batch["counts"],
        )
        return mean * batch["counts"] * len(chosen)

    @contextlib.contextmanager
    def _without_gathering(self) -> Iterator[None]:
        """TRL gathers its metrics in every forward pass. Where ranks hold different numbers of pairs that crashes or
        deadlocks, and nobody reads those metrics."""
        accelerator = self.accelerator
        self.accelerator = LocalAccelerator(accelerator.device)
        try:
            yield
        finally:
            self.accelerator = accelerator

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the mean rewards: of the training pairs since the last line, or of the test pairs just evaluated."""
        for metrics in self._metrics.values():
            metrics.clear()  # TRL's are means over micro-batches; ours weigh every pair alike
        if "loss" in logs:
            logs |= self.rewards["train"].pop_means(self.args.device)
        elif "eval_loss" in logs:
            means = self.rewards["test"].pop_means(self.args.device)
            logs |= {f"eval_{name}": mean for name, mean in means.items()}
        super().log(logs, start_time)

    def test_loss(self, rows: Sequence[int]) -> float | None:
        self.rewards["test"] = RewardSums()
        return super().test_loss(rows)

    def step_weight(self, step: Step) -> int:
        """The pairs of a step, over all ranks."""
        return step.rows

    def test_weight(self, micro_batch: MicroBatch) -> int:
        """The pairs of a micro-batch."""
        return len(micro_batch.rows)

    # --- the reference ---

    def before_training(self) -> None:
        self.load_reference(self.context.run.folder / REFERENCE)
        super().before_training()

    def save_method_state(self, folder: Path) -> None:
        reference.write(folder / reference.FOLDER / REFERENCE, self.reference)

    def load_reference(self, path: Path) -> None:
        """Read the reference's log-probabilities, or compute and save them before the first step.

        Only untrained weights are the reference, so BadInput is raised when neither the file nor the checkpoint's copy
        can be read after the first checkpoint.
        """
        if self.state.global_step > 0:
            checkpoint = self.context.run.checkpoints / checkpoints.folder_name(self.state.global_step)
            self.reference = reference.read([checkpoint / reference.FOLDER / REFERENCE, path])
            return
        self.reference = {}
        splits = {"train": (self.train_rows, self.context.steps.rows_until(self.state.max_steps))}
        if self.test_rows is not None:
            splits["test"] = (self.test_rows, np.array(self.test_sample))
        data = hashlib.sha256(json.dumps(self.context.rows.files, sort_keys=True).encode()).hexdigest()
        sums = reference.begun(path, {split: len(pairs) for split, (pairs, _) in splits.items()}, data)
        sums = from_all_ranks(sums)[0]  # what the first rank read
        computed = 0
        for split, (pairs, rows) in splits.items():
            missing = rows[np.isnan(sums[split][rows]).any(axis=1)]
            for found, values in self._reference_of(pairs, missing):
                sums[split][found] = values
                computed += len(found)
                if len(found) and self.is_world_process_zero():
                    reference.write(path, sums, data)
        if self.is_world_process_zero():
            print(f"reference computed for {computed} pairs", flush=True)
        barrier()
        self.reference = sums

    def _reference_of(self, pairs: Any, rows: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield (rows, `[rows, 2]`: the summed log-probability of each chosen and each rejected reply), of all ranks,
        some micro-batches at a time. Raises StopRequested, after what is computed."""
        model = self.model_wrapped
        model.eval()
        sums = torch.zeros((len(pairs), 3), dtype=torch.float32)
        for number, micro_batch in enumerate(self.counted("reference", pairs, rows.tolist()), start=1):
            stops = self.stop.poll()
            if not stops:
                self.progress.at(progress.REFERENCE, self.state.global_step)
                batch = self._prepare_inputs(self.collate(pairs, micro_batch.rows))
                sides = self.compute_ref_log_probs(AnswerLogProbabilities(model, batch), batch["trl"])
                if micro_batch.counts:
                    own = torch.stack([*(side.float().cpu() for side in sides), torch.ones(len(sides[0]))], dim=1)
                    sums[list(micro_batch.rows)] = own
            if stops or number % STORED_EVERY == 0:
                yield self._of_all_ranks(sums)
                sums = torch.zeros_like(sums)
            if stops:
                raise StopRequested
        yield self._of_all_ranks(sums)

    def _of_all_ranks(self, sums: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows that some rank has computed, and their sums. `sums` are `[pairs, 3]`, with a 1 at the end of
        each that this rank has."""
        found = over_all_ranks(sums, self.args.device).cpu().numpy()
        rows = np.flatnonzero(found[:, 2])
        return rows, found[rows, :2]


class AnswerLogProbabilities:
    """A model as TRL's losses call it, on the batch that is given here."""

    sums: torch.Tensor
    """[2 × pairs], the log-probability of each side's answer, without gradient"""

    def __init__(self, model: Any, batch: Batch):
        self.model, self.batch = model, batch

    def __call__(self, **inputs: Any) -> SimpleNamespace:
        """Return the log-probability of each token of each side's answer, and zeros for TRL's other metrics."""
        answers = self.batch["answers"]
        tokens = self.model(**self.batch["model"])[self.batch["labels"]] * answers
        self.sums = tokens.detach().sum(dim=1)
        nothing = torch.zeros_like(tokens)
        return SimpleNamespace(log_probs=tokens, entropy=nothing, mean_logits=nothing, is_top1=nothing.bool())


class LocalAccelerator:
    """The part of an accelerator that TRL's losses use; gathering returns this rank's own tensors."""

    def __init__(self, device: torch.device):
        self.device = device

    def gather(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor

    gather_for_metrics = gather


class RewardSums:
    """Rewards summed over pairs, on the device that they were computed on."""

    def __init__(self) -> None:
        self.sums: torch.Tensor | None = None

    def add(self, chosen: torch.Tensor, rejected: torch.Tensor, weight: float) -> None:
        """Add rewards, each `[pairs]`; a `weight` of 0 leaves them out."""
        pairs = torch.stack([chosen, rejected, (chosen > rejected).float(), chosen - rejected])
        sums = torch.cat([pairs.sum(dim=1), pairs.new_tensor([pairs.shape[1]])]).double() * weight
        self.sums = sums if self.sums is None else self.sums + sums

    def pop_means(self, device: torch.device) -> dict[str, float]:
        """Return the mean of each reward over the pairs of all ranks, and reset. A collective call."""
        sums = torch.zeros(len(REWARDS) + 1, dtype=torch.float64) if self.sums is None else self.sums
        self.sums = None
        *totals, pairs = over_all_ranks(sums, device).tolist()
        return {name: total / pairs for name, total in zip(REWARDS, totals, strict=True)} if pairs else {}


def _refuse_adapted_head(model: Any) -> None:
    """TRL's trainer takes no model with an adapter on its output head, which TRL's own losses would not train."""
    head = model.get_output_embeddings()
    if isinstance(model, PeftModel) and isinstance(head, BaseTunerLayer):
        name = next(path.rsplit(".", 1)[-1] for path, module in model.named_modules() if module is head)
        raise BadInput(
            f"method.lora.modules: {name} is the output head, where DPO cannot train an adapter; take it out, or train "
            "it whole with modules_to_save"
        )
