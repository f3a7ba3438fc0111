"""From a plan to a trainer: the one place that translates our settings into transformers' and TRL's."""

import os
from typing import Any

from transformers import PreTrainedTokenizerBase, TrainingArguments
from trl import DPOConfig

from hatrain.contract import extras
from hatrain.contract.plan import Plan
from hatrain.contract.run import Attempt, RunDirectory
from hatrain.contract.spec import Dpo
from hatrain.contract.steps import count_steps, warmup_steps
from hatrain.contract.sync import SyncTarget
from hatrain.data.prefixes import prefix_groups
from hatrain.errors import BadInput
from hatrain.train import packing, sharding, zero
from hatrain.train.dpo import LABEL_SMOOTHING, DpoTrainer
from hatrain.train.rows import Rows, layout_of
from hatrain.train.sft import SftTrainer
from hatrain.train.step_dataset import StepDataset
from hatrain.train.trainer import StepTrainer, TrainingContext

OPTIMIZERS = {
    "adamw": "adamw_torch_fused",
    "adamw_8bit": "adamw_8bit",
    "paged_adamw_8bit": "paged_adamw_8bit",
    "adafactor": "adafactor",
}
CHECKPOINTING = (
    "activation_checkpointing"
    if "activation_checkpointing" in TrainingArguments.__dataclass_fields__
    else "gradient_checkpointing"
)
"""What transformers calls the recomputing of activations: 5.17 knows the second name only."""


def _optimizer(name: str) -> str:
    """Return transformers' name. Raises BadInput where its library is not installed."""
    if "8bit" in name and (problems := extras.problems("quant", f"method.optimizer: {name}")):
        raise BadInput(problems)
    return OPTIMIZERS[name]


def rank() -> int:
    """This process's rank over all nodes."""
    return int(os.environ.get("RANK", "0"))


def training_arguments(plan: Plan, run: RunDirectory, rows: int) -> dict[str, Any]:
    """Return transformers' TrainingArguments, for every method; `rows` are those of an epoch, weighted.

    Accumulation is 1, for one loader item is a whole step. Saving, evaluating and stopping are FlowCallback's.
    """
    method, job = plan.job.method, plan.job
    schedule = method.learning_rate_schedule
    steps = count_steps(rows, method)
    # Adapters under ZeRO-3 need reentrant checkpointing: huggingface/trl#2514, until deepspeedai/DeepSpeed#8130.
    reentrant = plan.sharding == "zero3" and method.lora is not None
    return {
        "output_dir": str(run.checkpoints),
        "seed": job.seed,
        "learning_rate": method.learning_rate,
        "lr_scheduler_type": "constant_with_warmup" if schedule == "constant" else schedule,
        "warmup_steps": warmup_steps(steps, method),
        "optim": _optimizer(method.optimizer),
        "weight_decay": method.weight_decay,
        "max_grad_norm": method.gradient_clip,
        "num_train_epochs": method.epochs,
        "max_steps": steps.total if method.max_steps else -1,
        "per_device_train_batch_size": plan.batch.micro_batch_size,
        "gradient_accumulation_steps": 1,
        CHECKPOINTING: plan.gradient_checkpointing,
        f"{CHECKPOINTING}_kwargs": {"use_reentrant": reentrant},
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
    """DeepSpeed takes both from its own settings, and accelerate would not run it with `use_cpu`."""
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
    job, method = plan.job, plan.job.method
    steps = StepDataset(
        rows.train.lengths,
        rows.train.supervised,
        layout_of(rows.train, packing.wanted(plan), plan.batch.micro_batch_size, method.ctx_size, plan.world_size),
        sizes=rows.sizes,
        weights=[file.weight for file in job.data.train],
        rows_per_step=plan.batch.rows_per_step,
        order=job.data.order,
        groups=prefix_groups([example.input_ids for example in rows.examples])
        if job.data.order == "by_prefix"
        else None,
        seed=job.seed,
        rank=rank(),
        ranks=plan.world_size,
    )
    sync_to = job.checkpoints.sync_to
    sync = SyncTarget(sync_to, run) if sync_to and rank() == 0 else None
    context = TrainingContext(plan, run, attempt, rows, steps, sync)
    arguments = training_arguments(plan, run, steps.rows)
    trainer: StepTrainer
    if isinstance(method, Dpo):
        arguments |= {
            "beta": method.beta,
            "loss_type": [method.loss],
            "label_smoothing": LABEL_SMOOTHING.get(method.loss, 0.0),
            "precompute_ref_log_probs": True,
            "max_length": None,
        }
        trainer = DpoTrainer(context, model, args=one_gpu(DPOConfig(**arguments)), processing_class=tokenizer)
    else:
        trainer = SftTrainer(context, model, args=one_gpu(TrainingArguments(**arguments)), processing_class=tokenizer)
    sharding.check_active(plan, trainer.accelerator)
    return trainer


def one_gpu(arguments: TrainingArguments) -> TrainingArguments:
    """Use one GPU in this process. A single rank that sees several would make transformers wrap the model in
    DataParallel."""
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1
    return arguments
