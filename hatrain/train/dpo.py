"""Direct preference optimization: TRL's losses on our step. What the reference says is computed once, before the first
step, with the weights that training starts from; so no second model is ever held."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors import SafetensorError
from safetensors.numpy import load, save
from trl import DPOTrainer

from hatrain.data.pairs import TokenizedPairs
from hatrain.errors import BadInput
from hatrain.runtime import seal
from hatrain.train.sft import pad
from hatrain.train.steps import Pass, Step
from hatrain.train.trainer import Batch, StepTrainer, StopRequested, barrier

LABEL_SMOOTHING = {"exo_pair": 1e-3, "robust": 0.1}
"""The losses that are built on label smoothing, with the value that each one's paper recommends."""

REWARDS = ("rewards/chosen", "rewards/rejected", "rewards/accuracies", "rewards/margins")
"""What is noted of every pair, under TRL's names: beta × how much likelier than to the reference each side is, whether
the chosen side's is the larger, and by how much."""


class DpoTrainer(StepTrainer, DPOTrainer):
    """TRL's trainer with our step. Its preparation of data and its reference are ours: pairs come tokenized, and the
    reference's log-probabilities are read from a file.

    A pass's loss is its mean over pairs; three of TRL's losses look at more than one pair at a time, so that for them
    alone the micro-batch matters: aot and aot_unpaired sort the pairs of a pass, sft is a mean over its tokens.
    Dropout is off, adapters' too, as TRL has it: the reference was computed without.
    """

    reference: dict[str, np.ndarray]
    accelerator: Any

    def __init__(self, model: Any, **kwargs: Any):
        _refuse_adapted_head(model)
        super().__init__(model=model, **kwargs)
        if isinstance(self.model, PeftModel):
            # TRL's copy of the adapter. Ours start at nothing, so the base without them is the reference.
            self.model.delete_adapter("ref")
        self.noted = {"train": Noted(), "test": Noted()}

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
        said: list[torch.Tensor] = []

        def forward(**inputs: Any) -> Any:
            outputs = model(**inputs)
            said.append(outputs.log_probs.detach().float().sum(dim=1))
            return outputs

        with self._metrics_stay_here():
            mean: torch.Tensor = self.compute_loss(forward, batch)
        chosen, rejected = said[0].chunk(2)
        self.noted["train" if self.model.training else "test"].add(
            self.beta * (chosen - batch["ref_chosen_logps"]),
            self.beta * (rejected - batch["ref_rejected_logps"]),
            weight,
        )
        return mean * weight * len(chosen)

    @contextlib.contextmanager
    def _metrics_stay_here(self) -> Iterator[None]:
        """TRL gathers its metrics in every pass, which ends in a crash or a deadlock where the ranks' passes hold
        unlike numbers of pairs. Nobody reads those metrics."""
        shared = self.accelerator
        self.accelerator = OneRank(shared.device)
        try:
            yield
        finally:
            self.accelerator = shared

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the rewards of the pairs since the last line, or of the look at the test set that this line tells of."""
        for metrics in self._metrics.values():
            metrics.clear()  # TRL's means over passes: pairs count alike in ours
        if "loss" in logs:
            logs |= self.noted["train"].taken(self.args.device)
        elif "eval_loss" in logs:
            logs |= {
                f"eval_{name}": mean for name, mean in self.noted["test"].taken(self.args.device).items()
            }
        super().log(logs, start_time)

    def test_loss(self, rows: Sequence[int]) -> float | None:
        """Return the mean loss over some pairs of the test set, as every method does."""
        self.noted["test"] = Noted()
        return super().test_loss(rows)

    def weight(self, step: Step) -> int:
        """Return the pairs of a step, over all ranks."""
        return step.rows

    def pass_weight(self, part: Pass) -> int:
        """Return the pairs of a pass."""
        return len(part.rows)

    # --- the reference ---

    def begin(self) -> None:
        """Learn the reference before anything else. Raises StopRequested."""
        self.learn_reference(self.run.folder / "reference.safetensors")
        super().begin()

    def learn_reference(self, path: Path) -> None:
        """Read the reference's log-probabilities, or compute and keep them.

        Only weights that have not been trained yet may speak for the reference: BadInput is raised when the file is
        gone after the first checkpoint.
        """
        if self.state.global_step > 0:
            self.reference = _read_reference(path)
            return
        self.reference = {}
        learned = {"train": self._reference_of(self.train_rows)}
        if self.test_rows is not None:
            learned["test"] = self._reference_of(self.test_rows)
        if self.is_world_process_zero():
            seal.write_bytes(path, save(learned))
            print(f"reference computed for {sum(map(len, learned.values()))} pairs", flush=True)
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


class OneRank:
    """As much of an accelerator as TRL's losses use, where every rank gathers its own alone."""

    def __init__(self, device: torch.device):
        self.device = device

    def gather(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return what this rank has."""
        return tensor

    gather_for_metrics = gather


class Noted:
    """Rewards summed over pairs, on the device that they were computed on."""

    def __init__(self) -> None:
        self.sums: torch.Tensor | None = None

    def add(self, chosen: torch.Tensor, rejected: torch.Tensor, weight: torch.Tensor) -> None:
        """Add a pass's rewards, each `[pairs]`; a `weight` of 0 leaves them out."""
        pairs = torch.stack([chosen, rejected, (chosen > rejected).float(), chosen - rejected])
        sums = torch.cat([pairs.sum(dim=1), pairs.new_tensor([pairs.shape[1]])]).double() * weight
        self.sums = sums if self.sums is None else self.sums + sums

    def taken(self, device: torch.device) -> dict[str, float]:
        """Return the mean of each reward over all ranks' pairs, and start anew. A collective call."""
        sums = torch.zeros(len(REWARDS) + 1, dtype=torch.float64) if self.sums is None else self.sums
        self.sums = None
        sums = sums.to(device)
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(sums)
        *totals, pairs = sums.tolist()
        return {name: total / pairs for name, total in zip(REWARDS, totals, strict=True)} if pairs else {}


def _refuse_adapted_head(model: Any) -> None:
    """Raise BadInput when an adapter sits on the output head: TRL's losses multiply by the head's own weights, so it
    would never be trained."""
    head = model.get_output_embeddings()
    if isinstance(model, PeftModel) and isinstance(head, BaseTunerLayer):
        name = next(path.rsplit(".", 1)[-1] for path, module in model.named_modules() if module is head)
        raise BadInput(
            f"method.lora.modules: {name} is the output head, where DPO cannot train an adapter; take it out, or train "
            "it whole with modules_to_save"
        )


def _read_reference(path: Path) -> dict[str, np.ndarray]:
    try:
        return load(path.read_bytes())
    except FileNotFoundError:
        found = "is gone"
    except (OSError, SafetensorError) as error:
        found = f"cannot be read ({error})"
    raise BadInput(
        f"{path}: {found}; it holds what the model said before training, and the weights have changed since; "
        "start anew with --fresh"
    )
