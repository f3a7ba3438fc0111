"""The step, the checkpoint and the evaluation that every method shares. Optimizer, schedule, mixed precision,
sharding and adapters stay with transformers, accelerate and PEFT; the loss is each method's own."""

import contextlib
import math
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME

from hatrain.contract.run import RunDirectory
from hatrain.runtime import seal
from hatrain.train import checkpoint, fsdp, sharding, zero
from hatrain.train.metrics import Counters
from hatrain.train.mirror import Mirror
from hatrain.train.steps import Pass, Step, Steps
from hatrain.train.stop import StopWatch

Batch = dict[str, torch.Tensor]


class NotFiniteError(Exception):
    """The loss of a step is not a number: training has diverged, and going on would only spoil the weights."""


class StopRequested(Exception):
    """A stop was heard before the first step: there is nothing to save."""


class PaceCallback(TrainerCallback):
    """Says when to save, when to look at the test set, and when to end because the ranks agreed to stop."""

    def __init__(self, trainer: "StepTrainer", save_steps: int | None, eval_steps: int | None):
        self.trainer, self.save_steps, self.eval_steps = trainer, save_steps, eval_steps

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.trainer.begin()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        control.should_save |= _is_due(self.save_steps, state.global_step)
        control.should_evaluate |= _is_due(self.eval_steps, state.global_step)
        control.should_log |= state.global_step >= state.max_steps
        if self.trainer.watch.look():
            control.should_save = control.should_training_stop = True
            control.should_evaluate = False

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        control.should_save |= self.save_steps is None and not self.trainer.watch.agreed


class StepTrainer(Trainer):
    """Comes before one of TRL's trainers among a method's bases. A loader item is a `Step`; a training step loops over
    its passes.

    The method gives `pass_loss(model, batch)`, a sum over what it trains on, and
    `collate(dataset, rows, counts)`.
    """

    processing_class: Any
    model: Any
    steps: Steps
    train_rows: Any
    test_rows: Any
    test_sample: Sequence[int]
    run: RunDirectory
    attempt_number: int
    watch: StopWatch
    counters: Counters
    save_total_limit: int
    sharded_checkpoints: bool
    checkpoint_facts: dict[str, Any]
    mirror: Mirror | None
    test_micro_batch_size: int
    _sealed_step: int | None = None

    # --- what a method says ---

    def pass_loss(self, model: torch.nn.Module, batch: Batch) -> torch.Tensor:
        """Return the summed loss of one pass, to be divided by the step's total weight."""
        raise NotImplementedError

    def collate(self, dataset: Any, rows: Sequence[int], counts: bool = True) -> Batch:
        """Return the tensors of some rows. Rows that do not count weigh nothing."""
        raise NotImplementedError

    def weight(self, step: Step) -> int:
        """Return what a step's summed loss is divided by, over all ranks."""
        return step.supervised

    def begin(self) -> None:
        """What comes before the first step, with the model already spread over the ranks. Raises StopRequested."""
        if self.state.global_step == 0:
            self.note_test_loss("before")
        if self.watch.look():
            raise StopRequested

    # --- the step ---

    def get_train_dataloader(self) -> DataLoader:
        """Return a loader of `Step`s, already this rank's own."""
        return DataLoader(self.steps, batch_size=1, collate_fn=_only, shuffle=False, num_workers=0)

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        self.steps.epoch = kwargs["epoch"]
        super()._run_epoch(*args, **kwargs)

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        """Work through a `Step`. Returns its loss, scaled so that the mean over ranks is the step's own."""
        model.train()
        scale = self.args.world_size / max(self.weight(inputs), 1)
        total = torch.zeros((), device=self.args.device)
        for number, part in enumerate(inputs.passes):
            last = number == len(inputs.passes) - 1
            with self._gradients_stay_here(model, last):
                loss = self._scaled_pass(model, part, scale)
                if self.is_deepspeed_enabled:
                    zero.backward(model, loss, last)
                else:
                    self.accelerator.backward(loss)
            total += loss.detach()
        if not math.isfinite(total.item()):
            raise NotFiniteError(f"the loss of step {self.state.global_step + 1} is {total.item()}")
        if self.is_deepspeed_enabled:
            model.step()  # its engine clips and steps in one; what the loop calls after this does nothing
        self.counters.tokens += inputs.tokens
        self.counters.supervised += inputs.supervised
        return total

    def _scaled_pass(self, model: torch.nn.Module, part: Pass, scale: float) -> torch.Tensor:
        batch = self._prepare_inputs(self.collate(self.train_rows, part.rows, part.counts))
        with self.compute_loss_context_manager():
            return self.pass_loss(model, batch) * scale

    def _gradients_stay_here(
        self, model: torch.nn.Module, last: bool
    ) -> contextlib.AbstractContextManager[Any]:
        """Gradients cross the ranks on a step's last pass alone. Under FSDP they do on each: until they have, every
        rank holds all of them. DeepSpeed is told of the last pass by `zero.backward`."""
        if last or self.args.world_size == 1 or self.is_fsdp_enabled or self.is_deepspeed_enabled:
            return contextlib.nullcontext()
        return self.accelerator.no_sync(model)

    def _get_num_items_in_batch(self, batch_samples: list[Step], device: torch.device) -> None:
        """A step knows its own weight; there is nothing to count in tensors."""

    def floating_point_ops(self, inputs: Any) -> int:
        """A step is not one batch of tensors; nothing here counts its operations."""
        return 0

    # --- evaluation ---

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Return the loss on the sample of the test set, the same rows at each look. A stop cuts it short."""
        loss = self.test_loss(self.test_sample)
        if loss is None:
            self.control.should_save = True
            self.control.should_training_stop = True
            return {}
        metrics = {f"{metric_key_prefix}_loss": loss}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def note_test_loss(self, when: str) -> None:
        """Record the loss over the whole test set, `before` or `after` training."""
        if self.test_rows is None:
            return
        loss = self.test_loss(range(len(self.test_rows)))
        if loss is not None and self.is_world_process_zero():
            self.run.record("test loss", attempt=self.attempt_number, when=when, loss=loss)
            print(f"test loss {when} training {loss:.4f}", flush=True)

    def test_loss(self, rows: Sequence[int]) -> float | None:
        """Return the mean loss over some rows of the test set, or None if a stop came first. Leaves the random state
        as it was."""
        model = self.model_wrapped
        was_training = self.model.training  # DeepSpeed's engine itself always says that it trains
        model.eval()
        sums = torch.zeros(2, dtype=torch.float64)
        try:
            with torch.no_grad(), torch.random.fork_rng(devices=_devices(self.args.device)):
                for part in self._passes_over(self.test_rows.lengths, rows):
                    if self.watch.look():
                        return None
                    batch = self._prepare_inputs(self.collate(self.test_rows, part.rows, part.counts))
                    with self.compute_loss_context_manager():
                        loss = self.pass_loss(model, batch)
                    if part.counts:
                        sums += torch.tensor([loss.item(), self.pass_weight(part)], dtype=torch.float64)
        finally:
            model.train(was_training)
        if self.args.world_size > 1:
            sums = sums.to(self.args.device)
            dist.all_reduce(sums)
        return float(sums[0] / sums[1].clamp(min=1))

    def pass_weight(self, part: Pass) -> int:
        """Return what the summed loss of a test pass is divided by."""
        return int(self.test_rows.supervised[list(part.rows)].sum())

    def _passes_over(self, lengths: np.ndarray, rows: Sequence[int]) -> Iterator[Pass]:
        """This rank's passes over some rows without training, long ones first; as many on each rank."""
        ordered = sorted(rows, key=lambda row: -int(lengths[row]))
        size, ranks = self.test_micro_batch_size, self.args.world_size
        groups = [tuple(ordered[i : i + size]) for i in range(0, len(ordered), size)]
        mine = [Pass(group) for group in groups[self.args.process_index :: ranks]]
        yield from mine
        for _ in range(-(-len(groups) // ranks) - len(mine)):
            yield Pass((ordered[-1],), counts=False)

    # --- checkpoints ---

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any = None) -> None:
        """Seal a checkpoint of this step: written aside by every rank, then moved into place by rank 0."""
        step = self.state.global_step
        if step == self._sealed_step:
            return
        partial = self.run.checkpoints / f".partial-{step}"
        if self.is_world_process_zero():
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
        barrier()
        self._save_weights(partial)
        self._save_optimizer_and_scheduler(str(partial))
        self._save_scaler(str(partial))
        self._save_rng_state(str(partial))
        barrier()
        if self.is_world_process_zero():
            self.state.save_to_json(str(partial / TRAINER_STATE_NAME))
            final = self.run.checkpoints / checkpoint.name(step)
            seal.seal(partial, final, step=step, attempt=self.attempt_number, **self.checkpoint_facts)
            self.run.record("checkpoint sealed", attempt=self.attempt_number, step=step)
            print(f"checkpoint {final.name} sealed", flush=True)
            checkpoint.rotate(self.run.checkpoints, self.save_total_limit, step)
            if self.mirror:
                self.mirror.checkpoints()
        barrier()
        self._sealed_step = step

    def _save_weights(self, folder: Path) -> None:
        """Write the weights, whole and as a model; sharded ones as each rank holds them (ZeRO-3's are part of what
        DeepSpeed writes beside the optimizer's state)."""
        if not self.sharded_checkpoints:
            self.save_model(str(folder), _internal_call=True)
        elif self.is_fsdp_enabled:
            fsdp.save_weights(self.model_wrapped, folder)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        super()._save(output_dir, state_dict and sharding.once(self.model, state_dict))

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if self.is_fsdp_enabled:
            fsdp.save_optimizer(self, Path(output_dir))
        else:
            super()._save_optimizer_and_scheduler(output_dir)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if self.is_fsdp_enabled:
            fsdp.load_weights(self.model_wrapped, Path(resume_from_checkpoint))
        else:
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if self.is_fsdp_enabled and checkpoint:
            fsdp.load_optimizer(self, Path(checkpoint))
        else:
            super()._load_optimizer_and_scheduler(checkpoint)


def barrier() -> None:
    """Wait for all ranks."""
    if dist.is_available() and dist.is_initialized():
        dist.barrier()


def _is_due(every: int | None, step: int) -> bool:
    return every is not None and step % every == 0


def _only(items: list[Step]) -> Step:
    return items[0]


def _devices(device: torch.device) -> list[torch.device]:
    return [device] if device.type == "cuda" else []


def newest_checkpoint(run: RunDirectory, attempt: int) -> Path | None:
    """Return the newest whole checkpoint, naming each newer one that was passed over, and why, in log and record."""

    def passed_over(path: Path, damage: str) -> None:
        print(f"{path.name} passed over: {damage}", flush=True)
        run.record("checkpoint passed over", attempt=attempt, checkpoint=path.name, reason=damage)

    return checkpoint.newest(run.checkpoints, passed_over)
