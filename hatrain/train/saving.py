"""Saves checkpoints: complete or invisible. Where memory allows, the weights and the optimizer's state are copied, and
written and sealed by a thread while the next steps are trained."""

import errno
import functools
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, get_peft_model_state_dict
from transformers.trainer import OPTIMIZER_NAME, TRAINER_STATE_NAME

from hatrain.model.portable import make_portable
from hatrain.runtime import checkpoints, memory, progress, reserve, seal
from hatrain.runtime.waiting import waiting
from hatrain.train import fsdp, sharding
from hatrain.train.collectives import from_all_ranks

COPIES = 2.5
"""Free memory that a copy needs, as a multiple of its size: writing safetensors takes up to another copy."""


class Saver:
    """Saves the checkpoints of one attempt. `save` and `wait` are collective calls."""

    def __init__(self, trainer: Any):
        self.trainer = trainer
        self.saved_step: int | None = None
        self.seconds = 0.0
        """What the last save cost training: the copy, or in the foreground all of it."""
        self._adapter: set[str] | None = None
        """The names of the tensors that a checkpoint of an adapter holds."""
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def save(self) -> None:
        """Save a checkpoint of the current step, unless it is saved already.

        Raises OSError on every rank when one cannot write, NotFiniteError when a weight is not finite. Then nothing of
        the checkpoint is left.
        """
        trainer, step = self.trainer, self.trainer.state.global_step
        if step == self.saved_step:
            return
        started = time.monotonic()
        trainer.progress.at(progress.SAVING, step)
        trainer.check_weights()
        self.wait()
        partial = trainer.context.run.checkpoints / f".partial-{step}"
        copy = self._copy()
        in_background = from_all_ranks(copy is not None)[0]
        self._on_all_ranks(lambda: self._make(partial), partial)
        with waiting(f"saving checkpoint-{step}"):
            self._on_all_ranks(lambda: self._write(partial, in_background), partial)
        finish = functools.partial(self._finish, partial, step, copy, started, trainer.looks.protected())
        if not in_background:
            with waiting(f"sealing checkpoint-{step}"):
                self._on_all_ranks(finish if trainer.is_world_process_zero() else lambda: None, partial)
        elif trainer.is_world_process_zero():
            self._thread = threading.Thread(target=self._run, args=(finish, partial), name="checkpoint")
            self._thread.start()
        self.saved_step = step
        self.seconds = time.monotonic() - started
        trainer.counters.saving += self.seconds

    def wait(self) -> None:
        """Wait until the last checkpoint is sealed. Raises on every rank what its thread raised."""
        with waiting("waiting for the checkpoint that is being written"):
            self._on_all_ranks(self._join)

    def settle(self) -> None:
        """Let the thread finish, whatever else failed: the checkpoint is good. No collective call."""
        if self._thread is not None:
            self._thread.join()

    def check(self) -> None:
        """Raise what the thread raised, as soon as it did. Only the first rank has one."""
        if self._error is not None:
            raise self._error

    def _run(self, finish: Callable[[], None], partial: Path) -> None:
        try:
            finish()
        except BaseException as error:
            _discard(partial)
            self._error = error

    def _join(self) -> None:
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.check()

    def _on_all_ranks(self, act: Callable[[], None], partial: Path | None = None) -> None:
        """Call `act` on this rank, and raise on every rank when it fails on one; then `partial` is removed."""
        failed: Exception | None = None
        try:
            act()
        except Exception as error:
            failed = error
        said = from_all_ranks(None if failed is None else (reserve.is_full(failed), str(failed)))
        problem = next((each for each in said if each is not None), None)
        if problem is None:
            return
        if partial is not None and self.trainer.is_world_process_zero():
            _discard(partial)
        if failed is not None:
            raise failed
        is_full, text = problem
        raise OSError(errno.ENOSPC, text) if is_full else RuntimeError(text)

    # --- the parts ---

    def _copy(self) -> dict[str, Any] | None:
        """Copy weights and optimizer state into main memory, on the rank that writes them. None where they are sharded,
        and where memory is short."""
        trainer = self.trainer
        if not trainer.is_world_process_zero() or trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
            return None
        state = {"weights": self._weights(), "optimizer": trainer.optimizer.state_dict()}
        if COPIES * _bytes(state) > memory.available():
            return None
        copied: dict[str, Any] = _copied(state)
        return copied

    def _weights(self) -> dict[str, torch.Tensor]:
        """The tensors that `save_pretrained` would write, by their names in the model."""
        model = self.trainer.accelerator.unwrap_model(self.trainer.model, keep_torch_compile=False)
        state: dict[str, torch.Tensor] = model.state_dict()
        if isinstance(model, PeftModel):
            if self._adapter is None:
                state_dict = get_peft_model_state_dict(model, save_embedding_layers=False)
                written = {tensor.data_ptr() for tensor in state_dict.values()}
                self._adapter = {name for name, tensor in state.items() if tensor.data_ptr() in written}
            return {name: state[name] for name in self._adapter}
        return sharding.without_tied_copies(model, state)

    def _make(self, partial: Path) -> None:
        if self.trainer.is_world_process_zero():
            seal.remove(partial)
            partial.mkdir(parents=True)

    def _write(self, partial: Path, in_background: bool) -> None:
        """Write what training changes from step to step, on all ranks. In the background large files follow."""
        trainer = self.trainer
        if not in_background:
            if not sharding.writes_shards(trainer.context.plan):
                trainer.save_model(str(partial), _internal_call=True)
            elif trainer.is_fsdp_enabled:
                fsdp.save_weights(trainer.model_wrapped, partial)
            trainer._save_optimizer_and_scheduler(str(partial))
        trainer._save_scaler(str(partial))
        trainer._save_rng_state(str(partial))
        if trainer.is_world_process_zero():
            if in_background:
                fsdp.save_scheduler(trainer, partial)
            trainer.save_method_state(partial)
            trainer.state.save_to_json(str(partial / TRAINER_STATE_NAME))

    def _finish(
        self, partial: Path, step: int, copy: dict[str, Any] | None, started: float, protected: int | None
    ) -> None:
        """Write the copy, seal the checkpoint, and remove older ones, but not the one of the step `protected`."""
        context = self.trainer.context
        plan, run, attempt = context.plan, context.run, context.attempt.number
        blocked = self.seconds if copy is None else time.monotonic() - started
        if copy is not None:
            self.trainer._save(str(partial), copy["weights"])
            torch.save(copy["optimizer"], partial / OPTIMIZER_NAME)
            copy.clear()
        make_portable(partial)
        final = run.checkpoints / checkpoints.folder_name(step)
        self.trainer.stop.check_lease()
        seal.seal(
            partial,
            final,
            step=step,
            attempt=attempt,
            identity=plan.identity,
            ranks=plan.world_size,
            sharding=plan.sharding,
            offload=plan.job.hardware.offload,
            data=context.rows.files,
        )
        taken = time.monotonic() - started
        run.record(
            "checkpoint sealed",
            attempt=attempt,
            step=step,
            bytes=sum(path.stat().st_size for path in final.rglob("*") if path.is_file()),
            seconds=round(taken, 3),
            waited=round(taken if copy is None else blocked, 3),
        )
        print(f"checkpoint {final.name} sealed", flush=True)
        checkpoints.rotate(
            run.checkpoints,
            plan.job.checkpoints.save_total_limit,
            step,
            lambda path, reason: print(f"{path.name} stays, it cannot be removed: {reason}", flush=True),
            protected=protected,
        )
        if context.sync:
            context.sync.checkpoints()


def _discard(partial: Path) -> None:
    try:
        seal.remove(partial)
    except OSError as error:
        print(f"{partial}: cannot be removed: {error.strerror}", flush=True)


def _copied(value: Any) -> Any:
    """Copy nested state, its tensors into main memory."""
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_copied(item) for item in value)
    return value


def _bytes(value: Any) -> int:
    if isinstance(value, torch.Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, dict):
        return sum(map(_bytes, value.values()))
    return sum(map(_bytes, value)) if isinstance(value, list | tuple) else 0
