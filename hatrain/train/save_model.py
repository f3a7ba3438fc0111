"""From trained weights to folders that plain transformers, or plain PEFT, loads."""

import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hatrain.contract.run import RunDirectory
from hatrain.model.base import DTYPES
from hatrain.model.portable import make_portable
from hatrain.model.prepare import merged
from hatrain.runtime import progress, seal
from hatrain.runtime.waiting import waiting
from hatrain.train import sharding
from hatrain.train.batches import padded_batch
from hatrain.train.collectives import barrier
from hatrain.train.rows import sides
from hatrain.train.trainer import NotFiniteError, StepTrainer

SAMPLE_ROWS, SAMPLE_TOKENS = 4, 128
"""What a merged model is compared on: enough to see a wrong matrix, and seconds for a large model on a CPU."""


def save_model(trainer: StepTrainer, added: list[str]) -> None:
    """Seal the results of a run: `model/` (all weights, or adapters merged into their base), and `adapter/` with LoRA.
    `added` are the tokens that the base did not have."""
    plan, run = trainer.context.plan, trainer.context.run
    lora, dtype = plan.job.method.lora, DTYPES[plan.job.model.dtype]
    step = trainer.looks.kept or trainer.state.global_step
    facts = {"identity": plan.identity, "steps": step}
    trainer.progress.at(progress.FINISHING, trainer.state.global_step)
    trainer.check_weights()
    with waiting("gathering the weights"):
        state = sharding.gather_weights(trainer)
    sharding.unset(plan)
    if trainer.is_world_process_zero():
        assert state is not None
        trainer.stop.check_lease()
        tokenizer = trainer.processing_class
        trained = trainer.accelerator.unwrap_model(trainer.model_wrapped)
        if lora is None:
            with waiting("saving the model"):
                _seal_model(trained, state, tokenizer, dtype, run, facts)
        else:
            _seal_adapter(trained, state, tokenizer, run, facts)
            if lora.merge:
                whole = merged(plan.job.model, str(run.adapter), tokenizer, added, sample_of(trainer))
                with waiting("saving the merged model"):
                    _seal_model(whole, whole.state_dict(), tokenizer, dtype, run, facts)
        if trainer.context.sync:
            trainer.context.sync.folder(run.result(plan.job))
        run.record("model sealed", attempt=trainer.context.attempt.number, step=step)
    barrier()


def sample_of(trainer: StepTrainer) -> dict[str, torch.Tensor]:
    """The first tokens of the first training rows, on the CPU."""
    rows = range(min(SAMPLE_ROWS, len(trainer.train_rows)))
    examples = [example for row in rows for example in sides(trainer.train_rows, row)]
    tensors = padded_batch(examples, trainer.processing_class.pad_token_id or 0)["model"]
    return {name: tensors[name][:, :SAMPLE_TOKENS] for name in ("input_ids", "attention_mask")}


def _partial_folder(run: RunDirectory, name: str) -> Path:
    partial = run.folder / f".partial-{name}"
    shutil.rmtree(partial, ignore_errors=True)
    return partial


def check_finite(state: dict[str, torch.Tensor], how: str) -> None:
    """Raise NotFiniteError when a tensor that is to be saved has a value that is not finite."""
    for name, tensor in state.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise NotFiniteError(f"{name} {how} has weights that are not finite; nothing was saved")


def _seal_model(
    model: PreTrainedModel,
    state: dict[str, torch.Tensor],
    tokenizer: PreTrainedTokenizerBase,
    dtype: torch.dtype,
    run: RunDirectory,
    facts: dict[str, Any],
) -> None:
    partial = _partial_folder(run, "model")
    model.config.use_cache = True  # training switched it off; generation needs it
    state = {name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    check_finite(state, f"as {str(dtype).removeprefix('torch.')}")
    model.save_pretrained(partial, state_dict=state)
    # save_pretrained writes the dtype that the model was trained in. The saved weights have another.
    model.config.dtype = dtype
    model.config.save_pretrained(partial)
    tokenizer.save_pretrained(partial)
    make_portable(partial)
    seal.seal(partial, run.model, **facts)


def _seal_adapter(
    model: Any,
    state: dict[str, torch.Tensor],
    tokenizer: PreTrainedTokenizerBase,
    run: RunDirectory,
    facts: dict[str, Any],
) -> None:
    partial = _partial_folder(run, "adapter")
    model.save_pretrained(partial, state_dict=state)
    tokenizer.save_pretrained(partial)
    make_portable(partial)
    # PEFT's own card. The run's takes its place later, and a file that was sealed must not change.
    (partial / "README.md").unlink(missing_ok=True)
    seal.seal(partial, run.adapter, **facts)
