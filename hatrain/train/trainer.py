"""The step, the checkpoint and the test loss that every method shares. Optimizer, schedule, mixed precision, sharding
and adapters stay with transformers, accelerate and PEFT; the loss is the method's own."""

import contextlib
import math
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments, set_seed
from transformers.trainer_callback import PrinterCallback

from hatrain.contract.plan import Plan
from hatrain.contract.run import Attempt, RunDirectory
from hatrain.contract.save_interval import ASSUMED_MTBF_SECONDS, SaveSchedule
from hatrain.contract.spec import seconds as seconds_of
from hatrain.contract.steps import Layout, MicroBatch, share_of_rank
from hatrain.contract.sync import SyncTarget
from hatrain.data.dataset import TokenizedDataset
from hatrain.errors import BadInput
from hatrain.runtime import progress, seal
from hatrain.runtime.counting import Counting
from hatrain.runtime.progress import Progress
from hatrain.text import count
from hatrain.train import fsdp, packing, sharding, zero
from hatrain.train.batches import Batch, batch_of
from hatrain.train.collectives import from_all_ranks, on_any_rank, over_all_ranks
from hatrain.train.compiled import compile_layers
from hatrain.train.log_probabilities import add_log_probabilities, read_whole_logits
from hatrain.train.looks import Looks
from hatrain.train.metrics import Counters, MetricsCallback
from hatrain.train.rows import Rows, layout_of, sides
from hatrain.train.saving import Saver
from hatrain.train.step_dataset import Step, StepDataset, test_sample
from hatrain.train.stop import StopFlag
from hatrain.train.trackers import trackers

TEST_MICRO_BATCH_SIZE = 8
"""Test rows of one rank in a forward pass, unless micro_batch_size is larger: without gradients more rows fit."""


class NotFiniteError(Exception):
    """A loss, a gradient or a weight is not a finite number. It is raised on every rank, before anything is spoiled."""


class StopRequested(Exception):
    """A stop was requested before the first step: there is nothing to save."""


class EndedEarly(Exception):
    """A resumed run needs no more steps: the looks before its checkpoint ended training."""


@dataclass(frozen=True)
class TrainingContext:
    """What a trainer needs beside the model, the tokenizer and transformers' arguments."""

    plan: Plan
    run: RunDirectory
    attempt: Attempt
    rows: Rows
    steps: StepDataset
    sync: SyncTarget | None
    """Where checkpoints are copied to; None on all ranks but the first."""


class FlowCallback(TrainerCallback):
    """Decides when to save, when to compute the test loss, and when to end because the ranks agreed to stop."""

    def __init__(self, trainer: "StepTrainer"):
        self.trainer, job = trainer, trainer.context.plan.job
        every = job.checkpoints.save_steps
        self.save_steps = None if every == "auto" else every
        self.schedule = SaveSchedule(1, _mtbf(trainer.context.plan)) if every == "auto" else None
        self.step_seconds: deque[float] = deque(maxlen=50)
        self._step_started = 0.0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self.schedule:
            self.schedule.next = state.global_step + 1
        self.trainer.choose_packing()
        self.trainer.compile_layers()
        self.trainer.before_training()

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._step_started = time.monotonic()

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Choose the next step to save after, the same on all ranks: by the first one's times."""
        if self.schedule:
            # The first step of an attempt compiles and warms up.
            seconds, steps = from_all_ranks((self.trainer.saver.seconds, [*self.step_seconds][1:]))[0]
            self.schedule.saved(state.global_step, seconds, steps)
            if self.schedule.interval:
                self.trainer._say(f"the next checkpoint follows after {count(self.schedule.interval, 'step')}")

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.step_seconds.append(time.monotonic() - self._step_started)
        self.trainer.saver.check()
        control.should_save |= _is_due(self.save_steps, state.global_step)
        control.should_save |= self.schedule is not None and self.schedule.is_due(state.global_step)
        control.should_evaluate |= self.trainer.looks.is_due(state.global_step, state.max_steps)
        # The last step is saved too: what follows training can then be interrupted anywhere, and trains nothing again.
        is_last = state.global_step >= state.max_steps
        control.should_log |= is_last
        control.should_save |= is_last
        if self.trainer.stop.poll():
            control.should_save = control.should_training_stop = True
            control.should_evaluate = False

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        saves_epochs = self.save_steps is None and self.schedule is None
        control.should_save |= saves_epochs and not self.trainer.stop.is_set


class StepTrainer(Trainer):
    """A trainer whose loader items are whole optimizer steps: a training step loops over a `Step`'s micro-batches.

    A method implements `micro_batch_loss`. Where its loss comes from one of TRL's trainers, that is the
    second base class.
    """

    processing_class: Any
    model: Any
    _step: Step
    _losses: list[torch.Tensor]

    def __init__(self, context: TrainingContext, **kwargs: Any):
        job = context.plan.job
        self.context = context
        self.train_rows, self.test_rows = context.rows.train, context.rows.test
        self.stop, self.counters = StopFlag(context.attempt, context.run.lease), Counters()
        self.saver = Saver(self)
        self.progress = Progress(context.attempt.folder, int(os.environ.get("RANK", "0")))
        self.skipped = SkippedSteps(context.run, job.method.skip_steps)
        self.looks = Looks(self)
        self.test_sample: Sequence[int] = (
            test_sample(len(self.test_rows), job.evaluation.sample, job.seed) if self.test_rows else []
        )
        super().__init__(**kwargs)
        self.packing = packing.wanted(context.plan)
        add_log_probabilities(self.model)
        self._unpackable = packing.prepare(self.model, context.plan) if self.packing != "off" else None
        self.remove_callback(PrinterCallback)
        self.add_callback(FlowCallback(self))
        if self.is_world_process_zero():
            tracked = trackers(context.plan, context.run)
            self.add_callback(MetricsCallback(context.run, context.attempt.number, self.counters, tracked))

    # --- what a method implements ---

    def micro_batch_loss(self, model: torch.nn.Module, batch: Batch) -> torch.Tensor:
        """Return the summed loss of a micro-batch, to be divided by the weight of its step."""
        raise NotImplementedError

    def collate(self, dataset: Any, rows: Sequence[int], counts: bool = True) -> Batch:
        """Return the batch of some rows of a micro-batch. The labels of rows that do not count weigh nothing."""
        batch = batch_of([sides(dataset, row) for row in rows], self.packing, self.processing_class.pad_token_id or 0)
        if not counts:
            batch["weights"] = torch.zeros_like(batch["weights"])
        return batch

    def step_weight(self, step: Step) -> int:
        """What a step's summed loss is divided by, over all ranks."""
        return step.supervised

    def test_weight(self, micro_batch: MicroBatch) -> int:
        """What the summed loss of a test micro-batch is divided by."""
        assert isinstance(self.test_rows, TokenizedDataset)
        return sum(self.test_rows.sequences[number].supervised for number in micro_batch.rows)

    def before_training(self) -> None:
        """Called before the first step, when the model is already sharded. Raises StopRequested, and EndedEarly where
        the looks ended training before."""
        self.looks.prepare()
        if self.state.global_step == 0:
            self.record_test_loss("before")
        elif self.looks.was_interrupted():
            self.evaluate()
        if self.stop.poll():
            raise StopRequested
        if self.looks.have_ended():
            raise EndedEarly

    def save_method_state(self, folder: Path) -> None:
        """Write into a checkpoint what the method needs beside weights and optimizer, on rank 0."""

    def choose_packing(self) -> None:
        """Lay rows out as the job asks for, or padded where that is wrong for the model. A collective call."""
        check = packing.Check(self.model_wrapped, self.model.config.get_text_config().vocab_size, self.args.device)
        if reason := check.head():
            read_whole_logits(self.model)
            self._say(f"the output head runs at every position: {reason}")
        if self.packing != "off" and (reason := self._unpackable or check.packing()):
            self.packing = "off"
            self._say(f"packing: off, for this model cannot be packed: {reason}")
        self.context.steps.layout = self._layout(self.train_rows, self.context.plan.batch.micro_batch_size)

    def compile_layers(self) -> None:
        """Compile the model's layers, where the job asks for it."""
        plan = self.context.plan
        if plan.job.hardware.compile and (reason := compile_layers(self.model, recomputes=plan.gradient_checkpointing)):
            self._say(f"layers are not compiled: {reason}")

    def _say(self, text: str) -> None:
        if self.is_world_process_zero():
            print(text, flush=True)

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """As transformers', but the first step of a warm-up of W trains with the (W + 1)th part of the learning rate,
        and so on: there it trains with 0, and changes nothing."""
        if self.lr_scheduler is None:
            schedule: Any = super().create_scheduler(num_training_steps, optimizer)
            schedule.lr_lambdas = [
                _from_above_zero(each, self.args.get_warmup_steps(num_training_steps)) for each in schedule.lr_lambdas
            ]
            schedule._last_lr = [
                base * factor(schedule.last_epoch)
                for base, factor in zip(schedule.base_lrs, schedule.lr_lambdas, strict=True)
            ]
            for group, rate in zip(schedule.optimizer.param_groups, schedule._last_lr, strict=True):
                group["lr"] = rate
        return self.lr_scheduler

    def _layout(self, dataset: Any, micro_batch_size: int) -> Layout:
        ctx_size = self.context.plan.job.method.ctx_size
        return layout_of(dataset, self.packing, micro_batch_size, ctx_size, self.args.world_size)

    # --- the step ---

    def get_train_dataloader(self) -> DataLoader:
        """Each item is this rank's part of one step."""
        return DataLoader(self.context.steps, batch_size=1, collate_fn=_single_item, shuffle=False, num_workers=0)

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        self.context.steps.epoch = kwargs["epoch"]
        super()._run_epoch(*args, **kwargs)

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        """Run a `Step` forward and backward. Returns its loss, scaled so that the mean over ranks is the step's."""
        step: Step = inputs
        model.train()
        scale = self.args.world_size / max(self.step_weight(step), 1)
        losses = []
        for number, micro_batch in enumerate(step.micro_batches, start=1):
            self.progress.at(progress.STEP, self.state.global_step)
            is_last = number == len(step.micro_batches)
            with self._gradient_sync(model, is_last):
                loss = self._loss_of(model, self.train_rows, micro_batch) * scale
                if self.is_deepspeed_enabled:
                    zero.backward(model, loss, is_last)
                else:
                    self.accelerator.backward(loss)
            losses.append(loss.detach())
        total = torch.stack(losses).sum()
        self._step, self._losses = step, losses
        if self.is_deepspeed_enabled:
            # Its engine clips and steps in one; what the loop calls after this does nothing. It steps on no rank when
            # the norm over all ranks is not finite.
            model.step()
            self._check_finite(total, math.nan if model.optimizer.overflow else 0.0)
            model.optimizer.overflow = False  # a skipped step counts for the schedule, as without DeepSpeed
        self.counters.tokens += step.tokens
        self.counters.supervised += step.supervised
        return total

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        """Called when gradients are reduced and clipped, before the optimizer steps."""
        norm = super()._get_grad_norm(model, grad_norm)
        if self.is_deepspeed_enabled:
            return norm
        norm = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
        if not self._check_finite(torch.stack(self._losses).sum(), float(norm)):
            for parameter in model.parameters():
                parameter.grad = None  # the optimizer leaves such weights alone
        return norm

    def _check_finite(self, loss: torch.Tensor, norm: float) -> bool:
        """Return whether loss and gradient norm are finite on all ranks. A collective call.

        Raises NotFiniteError unless the step may be skipped. The loss scaling of fp16 finds its scale by gradients that
        overflow, and skips those steps itself.
        """
        is_finite = math.isfinite(loss.item())
        scaler = self.accelerator.scaler
        if is_finite and scaler is not None and scaler.get_scale() > 1:
            norm = 0.0
        bad = on_any_rank([not is_finite, not math.isfinite(norm)], self.args.device)
        if not any(bad):
            return True
        number = self.state.global_step + 1
        what = "loss" if bad[0] else "gradient"
        rows = self._rows_of_step(only_bad_losses=bad[0])
        if not self.skipped.may_skip(number):
            self._check_base()
            raise NotFiniteError(f"the {what} of step {number} is not a finite number; its rows: {rows}")
        if self.is_world_process_zero():
            print(f"step {number} skipped: its {what} is not a finite number; its rows: {rows}", flush=True)
            self.skipped.record(self.context.attempt.number, number, what, rows)
        return False

    def _maybe_log_save_evaluate(self, tr_loss: Any, *args: Any, **kwargs: Any) -> None:
        super()._maybe_log_save_evaluate(tr_loss, *args, **kwargs)
        if self.state.global_step == self._globalstep_last_logged:
            tr_loss.zero_()  # transformers subtracts the sum from itself, which a skipped step's NaN would survive

    def _rows_of_step(self, only_bad_losses: bool) -> str:
        """Name the rows of the last step on all ranks: those of micro-batches whose loss is not finite, or all. A
        collective call."""
        rows = [
            row
            for micro_batch, loss in zip(self._step.micro_batches, self._losses, strict=True)
            if micro_batch.counts and not (only_bad_losses and math.isfinite(loss.item()))
            for row in micro_batch.rows
        ]
        return self.context.rows.named(sorted({row for part in from_all_ranks(rows) for row in part}))

    def _check_base(self) -> None:
        """Raise BadInput on every rank when weights that no step has changed are not finite: the base holds such
        numbers, and no row is at fault. A collective call."""
        untrained = self.state.global_step == 0
        if names := self._not_finite(lambda weight: untrained or not weight.requires_grad):
            base = self.context.plan.job.model.base
            raise BadInput(
                f"model.base: {base}: {names[0]} holds values that are not finite numbers; download the model again, "
                "or choose another"
            )

    def check_weights(self) -> None:
        """Raise NotFiniteError on every rank when a trained weight is not finite. A collective call."""
        if names := self._not_finite(lambda weight: weight.requires_grad):
            raise NotFiniteError(
                f"after step {self.state.global_step} {names[0]} has weights that are not finite; nothing was saved"
            )

    def _not_finite(self, looked_at: Callable[[torch.nn.Parameter], bool]) -> list[str]:
        """Return the names of the weights to look at that are not finite on any rank. A collective call."""
        bad = [name for name, weight in self.model.named_parameters() if looked_at(weight) and not _finite(weight)]
        return [name for part in from_all_ranks(bad) for name in part]

    def _loss_of(self, model: torch.nn.Module, dataset: Any, micro_batch: MicroBatch) -> torch.Tensor:
        batch = self.collate(dataset, micro_batch.rows, micro_batch.counts)
        del batch["of_sequences"]
        batch = self._prepare_inputs(batch)
        with self.compute_loss_context_manager():
            return self.micro_batch_loss(model, batch)

    def _gradient_sync(self, model: torch.nn.Module, is_last: bool) -> contextlib.AbstractContextManager[Any]:
        """Reduce gradients over the ranks in a step's last micro-batch only. FSDP reduces in each one: until it does,
        every rank holds all gradients. For DeepSpeed `zero.backward` decides."""
        if is_last or self.args.world_size == 1 or self.is_fsdp_enabled or self.is_deepspeed_enabled:
            return contextlib.nullcontext()
        return self.accelerator.no_sync(model)

    def _get_num_items_in_batch(self, batch_samples: list[Step], device: torch.device) -> None:
        """Not needed: a step knows its weight."""

    def floating_point_ops(self, inputs: Any) -> int:
        """Not counted: transformers expects a batch of tensors here."""
        return 0

    # --- the test loss ---

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Look at the test rows: the loss over the test sample, the same rows each time, and with `metric: accuracy`
        the requests that are met. A stop cuts it short. The best look is saved, and one that ends training."""
        metrics = self.looks.figures()
        if metrics is None:
            self.control.should_save = True
            self.control.should_training_stop = True
            return {}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        self.looks.decide(self.control)
        return metrics

    def record_test_loss(self, when: str) -> bool:
        """Record the loss over the test sample, `before` or `after` training. Returns whether no stop cut it
        short."""
        if self.test_rows is None:
            return True
        loss = self.test_loss(self.test_sample)
        if loss is not None and self.is_world_process_zero():
            self.context.run.record("test loss", attempt=self.context.attempt.number, when=when, loss=loss)
            print(f"test loss {when} training {loss:.4f}", flush=True)
        return loss is not None

    def test_loss(self, rows: Sequence[int]) -> float | None:
        """Return the mean loss over some rows of the test set, or None if a stop came first. The random state does not
        change."""
        model = self.model_wrapped
        was_training = self.model.training  # DeepSpeed's engine always reports that it trains
        model.eval()
        sums = torch.zeros(2, dtype=torch.float64)
        try:
            with torch.no_grad(), torch.random.fork_rng(devices=_devices(self.args.device)):
                for micro_batch in self.counted("test loss", self.test_rows, rows):
                    if self.stop.poll():
                        return None
                    self.progress.at(progress.TEST, self.state.global_step)
                    loss = self._loss_of(model, self.test_rows, micro_batch)
                    if micro_batch.counts:
                        weight = self.test_weight(micro_batch)
                        sums += torch.tensor([loss.item(), weight], dtype=torch.float64)
        finally:
            model.train(was_training)
        sums = over_all_ranks(sums, self.args.device)
        return float(sums[0] / sums[1].clamp(min=1))

    def counted(self, what: str, dataset: Any, rows: Sequence[int]) -> Iterator[MicroBatch]:
        """Yield this rank's micro-batches over some rows that are not trained on. The first rank says how far it is."""
        micro_batches = self.micro_batches(dataset, rows)
        unit = "pairs" if self.context.plan.job.method.kind == "dpo" else "rows"
        counting = Counting(what, unit, self._say)
        done, total = 0, sum(len(each.rows) for each in micro_batches)
        for micro_batch in micro_batches:
            yield micro_batch
            done += len(micro_batch.rows)
            counting.at(done, total)

    def micro_batches(self, dataset: Any, rows: Sequence[int]) -> tuple[MicroBatch, ...]:
        """Return this rank's micro-batches over some rows that are not trained on."""
        size = max(TEST_MICRO_BATCH_SIZE, self.context.plan.batch.micro_batch_size)
        return share_of_rank(self._layout(dataset, size)(rows), self.args.process_index, self.args.world_size)

    # --- checkpoints ---

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any = None) -> None:
        self.saver.save()

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        super()._save(output_dir, state_dict and sharding.without_tied_copies(self.model, state_dict))

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

    def _load_rng_state(self, checkpoint: str | None) -> None:
        """Restore this rank's random state. On another number of ranks than saved it each begins from a state of its
        own: some would find none."""
        if checkpoint is None:
            return
        if seal.facts(Path(checkpoint)).get("ranks", self.args.world_size) == self.args.world_size:
            super()._load_rng_state(checkpoint)
        else:
            set_seed(self.args.seed + self.args.world_size * self.state.global_step + self.args.process_index)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if self.is_fsdp_enabled and checkpoint:
            fsdp.load_optimizer(self, Path(checkpoint))
        else:
            super()._load_optimizer_and_scheduler(checkpoint)


class SkippedSteps:
    """The steps of a run that were skipped, in all its attempts, and how many may be."""

    def __init__(self, run: RunDirectory, limit: int):
        self.run, self.limit = run, limit
        self.steps = {event["step"] for event in run.events() if event["event"] == "step skipped"}

    def may_skip(self, step: int) -> bool:
        """Whether this step may be skipped. A step that a resumed run repeats counts once."""
        self.steps.add(step)
        return len(self.steps) <= self.limit

    def record(self, attempt: int, step: int, what: str, rows: str) -> None:
        self.run.record("step skipped", attempt=attempt, step=step, reason=f"{what} not finite", rows=rows)


def _from_above_zero(factor: Callable[[int], float], warmup: int) -> Callable[[int], float]:
    """A factor of the learning rate by step, from 0, whose `warmup` steps rise from above 0."""
    return lambda step: (step + 1) / (warmup + 1) if step < warmup else factor(step)


def _finite(weight: Any) -> bool:
    """Whether a weight is finite; of a sharded one, this rank's part."""
    local = weight.to_local() if hasattr(weight, "to_local") else getattr(weight, "ds_tensor", weight)
    return bool(torch.isfinite(local.detach()).all())


def _mtbf(plan: Plan) -> float:
    """The seconds between two failures that the cluster file states."""
    stated = plan.cluster_spec.mean_time_between_failures
    return seconds_of(stated) if stated else ASSUMED_MTBF_SECONDS


def _is_due(every: int | None, step: int) -> bool:
    return every is not None and step % every == 0


def _single_item(items: list[Step]) -> Step:
    return items[0]


def _devices(device: torch.device) -> list[torch.device]:
    return [device] if device.type == "cuda" else []
