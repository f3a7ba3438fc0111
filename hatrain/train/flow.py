"""One attempt at a run, from the plan to the sealed model: load, tokenize, resume, train, save."""

import hashlib
import math
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl import SFTConfig

from hatrain import seal
from hatrain.data.dataset import TokenizedDataset, tokenize_dataset
from hatrain.errors import BadInput
from hatrain.model.base import DTYPES, load_model
from hatrain.model.tokenizer import load_tokenizer
from hatrain.plan import Plan
from hatrain.run import Attempt, Exit, RunDirectory
from hatrain.train.metrics import Counters, MetricsCallback
from hatrain.train.sft import SftTrainer
from hatrain.train.steps import Steps
from hatrain.train.stop import StopWatch
from hatrain.train.trainer import StepTrainer, StopCallback, barrier, newest_checkpoint

_OPTIMIZERS = {
    "adamw": "adamw_torch",
    "adamw_8bit": "adamw_8bit",
    "paged_adamw_8bit": "paged_adamw_8bit",
    "adafactor": "adafactor",
}


@dataclass(frozen=True)
class Rows:
    """The rows of a run, tokenized, and the SHA-256 of each file they came from."""

    train: TokenizedDataset
    sizes: list[int]
    test: TokenizedDataset | None
    files: dict[str, str]


def rank() -> int:
    """Return this process's rank over all nodes."""
    return int(os.environ.get("RANK", "0"))


def _say(text: str) -> None:
    if rank() == 0:
        print(text, flush=True)


def training_arguments(plan: Plan, run: RunDirectory) -> dict[str, Any]:
    """Return what transformers' TrainingArguments are given, for every method.

    Accumulation is 1, for one loader item is a whole step; saving, rotating and stopping are ours.
    """
    method, job = plan.job.method, plan.job
    on_gpu = plan.device == "cuda"
    return {
        "output_dir": str(run.checkpoints),
        "seed": job.seed,
        "learning_rate": method.learning_rate,
        "lr_scheduler_type": _schedule(method.learning_rate_schedule, method.learning_rate_warmup),
        "optim": _OPTIMIZERS[method.optimizer],
        "weight_decay": method.weight_decay,
        "max_grad_norm": method.gradient_clip,
        "num_train_epochs": method.epochs,
        "per_device_train_batch_size": plan.batch.micro_batch_size,
        "gradient_accumulation_steps": 1,
        "gradient_checkpointing": plan.gradient_checkpointing,
        "gradient_checkpointing_kwargs": {"use_reentrant": False},
        "bf16": on_gpu and job.model.dtype == "bf16",
        "fp16": on_gpu and job.model.dtype == "fp16",
        "use_cpu": not on_gpu,
        "save_strategy": "no",
        "eval_strategy": "steps" if job.data.test else "no",
        "eval_steps": job.evaluation.eval_steps,
        "logging_steps": job.logging.logging_steps,
        "logging_first_step": True,
        "logging_nan_inf_filter": False,
        "report_to": "none",
        "disable_tqdm": True,
        "remove_unused_columns": False,
        "average_tokens_across_devices": False,
        "dataloader_pin_memory": False,
    }


def _schedule(schedule: str, warmup: float) -> str:
    return "constant_with_warmup" if schedule == "constant" and warmup else schedule


def load_rows(plan: Plan, tokenizer: PreTrainedTokenizerBase) -> Rows:
    """Tokenize the training and the test rows. Raises BadInput for rows that cannot be trained on."""
    data, method = plan.job.data, plan.job.method
    settings = {
        "ctx_size": method.ctx_size,
        "prefix_ids": data.prefix_ids,
        "suffix_ids": data.suffix_ids,
        "on_overlong": data.on_overlong,
    }
    parts = [tokenize_dataset(Path(file.path), tokenizer, **settings) for file in data.train]
    test = tokenize_dataset(Path(data.test), tokenizer, **settings) if data.test else None
    files = [file.path for file in data.train] + ([data.test] if data.test else [])
    return Rows(
        TokenizedDataset.joined(parts),
        [len(part) for part in parts],
        test,
        {path: _digest(Path(path)) for path in files},
    )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def test_sample(rows: int, size: int, seed: int) -> list[int]:
    """Return the test rows looked at during training: at random, and the same at every look."""
    return sorted(np.random.default_rng([seed, rows]).permutation(rows)[:size].tolist())


def check_unchanged(checkpoint: Path, files: dict[str, str]) -> None:
    """Raise BadInput when a checkpoint was trained on other rows than these."""
    before = seal.facts(checkpoint).get("files", {})
    changed = [path for path, digest in files.items() if before.get(path, digest) != digest]
    if changed:
        raise BadInput(
            [
                f"{path}: has changed since {checkpoint.name} was trained on it; bring the old file back, "
                "or start anew with --fresh"
                for path in changed
            ]
        )


def build(
    plan: Plan,
    run: RunDirectory,
    attempt: Attempt,
    watch: StopWatch,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Rows,
) -> StepTrainer:
    """Return the trainer of a plan."""
    job = plan.job
    arguments = training_arguments(plan, run)
    steps = Steps(
        rows.train.lengths,
        rows.train.supervised,
        sizes=rows.sizes,
        weights=[file.weight for file in job.data.train],
        rows_per_step=plan.batch.rows_per_step,
        micro_batch_size=plan.batch.micro_batch_size,
        by_length=job.data.order == "by_length",
        seed=job.seed,
        rank=rank(),
        ranks=plan.world_size,
    )
    total = math.ceil(job.method.epochs * len(steps))
    arguments["warmup_steps"] = math.ceil(job.method.learning_rate_warmup * total)
    counters = Counters()
    callbacks: list[Any] = [StopCallback(watch, job.checkpoints.save_steps)]
    if rank() == 0:
        callbacks.append(MetricsCallback(run, attempt.number, counters))
    trainer = SftTrainer(
        model=model,
        args=SFTConfig(
            **arguments, dataset_kwargs={"skip_prepare_dataset": True}, max_length=None, packing=False
        ),
        # TRL insists on a Dataset. Ours holds the rows' numbers; the loader is our own.
        train_dataset=Dataset.from_dict({"row": list(range(len(rows.train)))}),
        data_collator=lambda rows: rows,
        processing_class=tokenizer,
        callbacks=callbacks,
    )
    trainer.steps, trainer.train_rows, trainer.test_rows = steps, rows.train, rows.test
    trainer.test_sample = test_sample(len(rows.test), job.evaluation.sample, job.seed) if rows.test else []
    trainer.test_micro_batch_size = max(8, plan.batch.micro_batch_size)
    trainer.run, trainer.attempt_number, trainer.watch, trainer.counters = (
        run,
        attempt.number,
        watch,
        counters,
    )
    trainer.save_total_limit = job.checkpoints.save_total_limit
    trainer.checkpoint_facts = {"identity": plan.identity, "ranks": plan.world_size, "files": rows.files}
    return trainer


def save_model(trainer: StepTrainer, run: RunDirectory, dtype: torch.dtype, **facts: Any) -> None:
    """Seal the finished model, in `dtype`, with its tokenizer, as a folder that plain transformers loads."""
    state = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    if trainer.is_world_process_zero():
        partial = run.folder / ".partial-model"
        shutil.rmtree(partial, ignore_errors=True)
        model = trainer.accelerator.unwrap_model(trainer.model_wrapped)
        model.config.dtype, model.config.use_cache = dtype, True
        state = {
            name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in state.items()
        }
        model.save_pretrained(partial, state_dict=state)
        trainer.processing_class.save_pretrained(partial)
        seal.seal(partial, run.model, **facts)
        run.record("model sealed", attempt=trainer.attempt_number, step=trainer.state.global_step)
    barrier()


def train(plan: Plan, run: RunDirectory, attempt: Attempt) -> tuple[Exit, str]:
    """Run one attempt in this rank. Returns how it left, and why. Raises BadInput, NotFiniteError, and whatever is a
    fault."""
    job = plan.job
    os.chdir(plan.paths.workdir)
    watch = StopWatch(attempt)
    tokenizer = load_tokenizer(
        job.model.base,
        revision=job.model.revision,
        trust_remote_code=job.model.trust_remote_code,
        chat_template=job.model.chat_template,
    )
    rows = load_rows(plan, tokenizer)
    _say(f"{len(rows.train)} training rows" + (f", {len(rows.test)} test rows" if rows.test else ""))
    model = load_model(
        job.model.base, revision=job.model.revision, trust_remote_code=job.model.trust_remote_code
    )
    trainer = build(plan, run, attempt, watch, model, tokenizer, rows)
    resume = newest_checkpoint(run, attempt.number) if rank() == 0 else None
    resume = _from_rank_zero(resume)
    if resume:
        check_unchanged(resume, rows.files)
        _say(f"resuming from {resume.name}")
    if rows.test and not resume:
        _note_test_loss(trainer, run, "before")
    if watch.look():
        return _stopped(attempt, "before the first step")
    trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    if trainer.state.global_step < trainer.state.max_steps:
        return _stopped(attempt, f"after step {trainer.state.global_step}")
    # From here on a stop only shortens what is left: the weights are ready, and writing them is the quickest end.
    if rows.test:
        _note_test_loss(trainer, run, "after")
    save_model(trainer, run, DTYPES[job.model.dtype], steps=trainer.state.global_step, identity=plan.identity)
    return Exit.FINISHED, "trained"


def _note_test_loss(trainer: StepTrainer, run: RunDirectory, when: str) -> None:
    """Record the loss over the whole test set, before or after training."""
    loss = trainer.test_loss(range(len(trainer.test_rows)))
    if loss is not None and trainer.is_world_process_zero():
        run.record("test loss", attempt=trainer.attempt_number, when=when, loss=loss)
        print(f"test loss {when} training {loss:.4f}", flush=True)


def _from_rank_zero(value: Any) -> Any:
    import torch.distributed as dist

    if not (dist.is_available() and dist.is_initialized()):
        return value
    told = [value]
    dist.broadcast_object_list(told, src=0)
    return told[0]


def _stopped(attempt: Attempt, where: str) -> tuple[Exit, str]:
    stop = attempt.stop()
    assert stop is not None
    return (Exit.REQUEUE if stop.requeue else Exit.STOPPED), f"stopped {where}: {stop.reason}"
