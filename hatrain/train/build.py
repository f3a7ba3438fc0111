"""From a plan to a trainer: the one place that turns our settings into transformers' and TRL's."""

import math
import os
from typing import Any

import numpy as np
from datasets import Dataset
from transformers import PreTrainedTokenizerBase
from transformers.trainer_callback import PrinterCallback
from trl import DPOConfig, SFTConfig

from hatrain.contract.plan import Plan
from hatrain.contract.run import Attempt, RunDirectory
from hatrain.contract.spec import Dpo
from hatrain.model import lora as adapters
from hatrain.train import sharding, zero
from hatrain.train.dpo import LABEL_SMOOTHING, DpoTrainer
from hatrain.train.metrics import Counters, MetricsCallback
from hatrain.train.mirror import Mirror
from hatrain.train.rows import Rows
from hatrain.train.sft import SftTrainer
from hatrain.train.steps import Steps
from hatrain.train.stop import StopWatch
from hatrain.train.trainer import PaceCallback, StepTrainer

OPTIMIZERS = {
    "adamw": "adamw_torch",
    "adamw_8bit": "adamw_8bit",
    "paged_adamw_8bit": "paged_adamw_8bit",
    "adafactor": "adafactor",
}
TEST_ROWS_PER_PASS = 8
"""Test rows per rank per pass, where the micro-batch is not larger: without gradients there is room for more."""


def rank() -> int:
    """Return this process's rank over all nodes."""
    return int(os.environ.get("RANK", "0"))


def training_arguments(plan: Plan, run: RunDirectory, steps: int) -> dict[str, Any]:
    """Return what transformers' TrainingArguments are given, for every method; `steps` are those of an epoch.

    Accumulation is 1, for one loader item is a whole step; saving, evaluating and stopping are ours.
    """
    method, job = plan.job.method, plan.job
    schedule = method.learning_rate_schedule
    warmup = math.ceil(method.learning_rate_warmup * math.ceil(method.epochs * steps))
    return {
        "output_dir": str(run.checkpoints),
        "seed": job.seed,
        "learning_rate": method.learning_rate,
        "lr_scheduler_type": "constant_with_warmup" if schedule == "constant" else schedule,
        "warmup_steps": warmup,
        "optim": OPTIMIZERS[method.optimizer],
        "weight_decay": method.weight_decay,
        "max_grad_norm": method.gradient_clip,
        "num_train_epochs": method.epochs,
        "per_device_train_batch_size": plan.batch.micro_batch_size,
        "gradient_accumulation_steps": 1,
        "activation_checkpointing": plan.gradient_checkpointing,
        "activation_checkpointing_kwargs": {"use_reentrant": False},
        **precision_and_device(plan),
        "save_strategy": "no",
        "eval_strategy": "no",
        "logging_steps": job.logging.logging_steps,
        "logging_first_step": True,
        "logging_nan_inf_filter": False,
        "report_to": "none",
        "disable_tqdm": True,
        "remove_unused_columns": False,
        "average_tokens_across_devices": False,
        "dataloader_pin_memory": False,
        "ddp_find_unused_parameters": False,
    }


def precision_and_device(plan: Plan) -> dict[str, Any]:
    """Return what TrainingArguments are told of both. DeepSpeed has them from its own settings, and accelerate would
    not run it where it is told of a processor."""
    dtype = plan.job.model.dtype
    if plan.sharding in zero.STAGES:
        return {"bf16": False, "fp16": False, "ddp_backend": "gloo" if plan.device == "cpu" else None}
    return {"bf16": dtype == "bf16", "fp16": dtype == "fp16", "use_cpu": plan.device == "cpu"}


def build(
    plan: Plan,
    run: RunDirectory,
    attempt: Attempt,
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    rows: Rows,
) -> StepTrainer:
    """Return the trainer of a plan."""
    job, method = plan.job, plan.job.method
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
    watch, counters = StopWatch(attempt), Counters()
    arguments = training_arguments(plan, run, len(steps))
    common = {
        "model": model,
        # TRL insists on a Dataset. Ours holds the rows' numbers; the loader is our own.
        "train_dataset": Dataset.from_dict({"row": list(range(len(rows.train)))}),
        "data_collator": list,
        "processing_class": tokenizer,
    }
    trainer: StepTrainer
    if isinstance(method, Dpo):
        arguments |= {
            "beta": method.beta,
            "loss_type": [method.loss],
            "label_smoothing": LABEL_SMOOTHING.get(method.loss, 0.0),
            "precompute_ref_log_probs": True,
            "max_length": None,
        }
        trainer = DpoTrainer(args=DPOConfig(**arguments), **common)
    else:
        arguments |= {"dataset_kwargs": {"skip_prepare_dataset": True}, "max_length": None, "packing": False}
        trainer = SftTrainer(args=SFTConfig(**arguments), **common)
    sharding.require(plan, trainer.accelerator)
    # TRL turns the adapters of a quantised base into bf16, where a small learning rate rounds away.
    for parameter in adapters.trained(model):
        parameter.data = parameter.data.float()
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(
        PaceCallback(trainer, job.checkpoints.save_steps, job.evaluation.eval_steps if rows.test else None)
    )
    if rank() == 0:
        trainer.add_callback(MetricsCallback(run, attempt.number, counters))
    trainer.run, trainer.attempt_number, trainer.watch, trainer.counters = (
        run,
        attempt.number,
        watch,
        counters,
    )
    trainer.steps, trainer.train_rows, trainer.test_rows = steps, rows.train, rows.test
    trainer.test_sample = test_sample(len(rows.test), job.evaluation.sample, job.seed) if rows.test else []
    trainer.test_micro_batch_size = max(TEST_ROWS_PER_PASS, plan.batch.micro_batch_size)
    trainer.save_total_limit = job.checkpoints.save_total_limit
    trainer.sharded_checkpoints = sharding.writes_shards(plan)
    sync_to = job.checkpoints.sync_to
    trainer.mirror = Mirror(sync_to, run) if sync_to and rank() == 0 else None
    trainer.checkpoint_facts = {
        "identity": plan.identity,
        "ranks": plan.world_size,
        "sharding": plan.sharding,
        "offload": job.hardware.offload,
        "data": rows.files,
    }
    return trainer


def test_sample(rows: int, size: int, seed: int) -> list[int]:
    """Return the test rows looked at during training: at random, and the same at every look."""
    return sorted(np.random.default_rng([seed, rows]).permutation(rows)[:size].tolist())
