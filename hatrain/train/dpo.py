"""Direct preference optimization: TRL's losses on our step. What the reference says is computed once, before the first
step, with the weights that training starts from; so no second model is ever held."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from trl import DPOTrainer

from hatrain import seal
from hatrain.data.pairs import TokenizedPairs
from hatrain.errors import BadInput
from hatrain.train.sft import pad
from hatrain.train.steps import Pass, Step
from hatrain.train.trainer import Batch, StepTrainer, StopRequested, barrier

LABEL_SMOOTHING = {"exo_pair": 1e-3, "robust": 0.1}
"""The losses that are built on label smoothing, with the value that each one's paper recommends."""


class DpoTrainer(StepTrainer, DPOTrainer):
    """TRL's trainer with our step. Its preparation of data and its reference are ours: pairs come tokenized, and the
    reference's log-probabilities are read from a file."""

    reference: dict[str, np.ndarray]

    def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        return dataset

    def _precompute_ref_logps(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        return dataset

    def collate(self, dataset: TokenizedPairs, rows: Sequence[int], counts: bool = True) -> Batch:
        """Return `input_ids`, `attention_mask` and `completion_mask`, each `[2 × pairs, tokens]`: the chosen replies
        first, then the rejected ones; with the reference's summed log-probabilities, each `[pairs]`, once known."""
        sides = [dataset.chosen[row] for row in rows] + [dataset.rejected[row] for row in rows]
        ids = pad([side.input_ids for side in sides], self.processing_class.pad_token_id or 0)
        lengths = torch.tensor([len(side.input_ids) for side in sides])
        labels = pad([side.labels for side in sides], -100)
        batch = {
            "input_ids": ids,
            "attention_mask": (torch.arange(ids.shape[1]) < lengths[:, None]).long(),
            "completion_mask": (labels != -100).long(),
            "weight": torch.tensor(float(counts)),
        }
        name = "train" if dataset is self.train_rows else "test"
        if name in self.reference:
            known = torch.from_numpy(self.reference[name][list(rows)])
            batch["ref_chosen_logps"], batch["ref_rejected_logps"] = known[:, 0], known[:, 1]
        return batch

    def pass_loss(self, model: torch.nn.Module, batch: Batch) -> torch.Tensor:
        """Return the loss summed over the pass's pairs."""
        weight = batch.pop("weight")
        return self.compute_loss(model, batch) * weight * (len(batch["input_ids"]) // 2)

    def weight(self, step: Step) -> int:
        """Return the pairs of a step, over all ranks."""
        return step.rows

    def pass_weight(self, part: Pass) -> int:
        """Return the pairs of a pass."""
        return len(part.rows)

    # --- the reference ---

    def begin(self) -> None:
        """Learn the reference before anything else. Raises StopRequested."""
        self.learn_reference(self.run.folder / "reference.npz")
        super().begin()

    def learn_reference(self, path: Path) -> None:
        """Read the reference's log-probabilities, or compute and keep them.

        Only weights that have not been trained yet may speak for the reference: BadInput is raised when the file is
        gone after the first checkpoint.
        """
        self.reference = {}
        if self.state.global_step > 0:
            if not path.is_file():
                raise BadInput(
                    f"{path}: is gone, and the weights have changed since; start anew with --fresh"
                )
            with np.load(path) as kept:
                self.reference = {name: kept[name] for name in kept.files}
            return
        learned = {"train": self._reference_of(self.train_rows)}
        if self.test_rows is not None:
            learned["test"] = self._reference_of(self.test_rows)
        if self.is_world_process_zero():
            partial = path.with_name(f".{path.name}")
            with partial.open("wb") as file:
                np.savez(file, **learned)
            partial.replace(path)
            seal.sync_folder(path.parent)
        barrier()
        self.reference = learned

    def _reference_of(self, pairs: TokenizedPairs) -> np.ndarray:
        """Return `[pairs, 2]`: the summed log-probability of each chosen and each rejected reply."""
        model = self.model_wrapped
        model.eval()
        found = torch.zeros((len(pairs), 2), dtype=torch.float32)
        for part in self._passes_over(pairs.lengths, range(len(pairs))):
            if self.watch.look():
                raise StopRequested
            batch = self._prepare_inputs(self.collate(pairs, part.rows))
            del batch["weight"]
            both = self.compute_ref_log_probs(model, batch)
            if part.counts:
                found[list(part.rows)] = torch.stack([side.float().cpu() for side in both], dim=1)
        if self.args.world_size > 1:
            shared = found.to(self.args.device)
            dist.all_reduce(shared)
            found = shared.cpu()
        return found.numpy()
