"""Runs hatrain's trainer and TRL's on the same rows, for some warm-up steps and then for some seconds."""

import contextlib
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from transformers import TrainerCallback

from bench.gpu.inputs import NEVER, adopt
from hatrain.contract.plan import Plan
from hatrain.contract.run import Attempt
from hatrain.train import flow
from hatrain.train.build import CHECKPOINTING

WARMUP = 3
"""Steps before the clock starts: kernels are chosen and the optimizer's state is allocated."""
LEAST = 2
"""Steps that are timed at least."""


class Enough(Exception):
    """Raised in a callback to leave a trainer, without its saving anything."""


@dataclass(frozen=True)
class Measured:
    """What a trainer did in the timed steps."""

    steps: int
    seconds: float
    rows: float
    tokens: int
    """Without padding."""
    weights: int
    """Of the model, without adapters."""
    memory: int | None
    """Peak bytes allocated on the GPU, from the loading of the model on."""
    packing: str | None = None
    """How hatrain laid the rows out."""


def run_hatrain(plan: Plan, watch: Callable[[Any], None]) -> None:
    """Run hatrain's training of a plan in this process. `watch` gets the trainer before the first step, and may add a
    callback that raises Enough."""
    run = adopt(plan)
    attempt = Attempt(run.attempts / "1")
    attempt.folder.mkdir(parents=True)
    build = flow.build

    def watched(*args: Any, **kwargs: Any) -> Any:
        trainer = build(*args, **kwargs)
        watch(trainer)
        return trainer

    with patch.object(flow, "build", watched):
        try:
            flow.train(plan, run, attempt)
        except Enough:
            return
    raise RuntimeError("the rows ended before the measurement did")


class Clock(TrainerCallback):
    """Times steps after the warm-up, then leaves the trainer."""

    def __init__(self, seconds: float, on_start: Callable[[], None] = lambda: None):
        self.limit, self.on_start = seconds, on_start
        self.first = self.last = 0
        self.started = self.seconds = 0.0

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == WARMUP:
            synchronize()
            self.first, self.started = state.global_step, time.perf_counter()
            self.on_start()
        elif state.global_step >= WARMUP + LEAST and time.perf_counter() - self.started >= self.limit:
            synchronize()
            self.seconds, self.last = time.perf_counter() - self.started, state.global_step
            raise Enough

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        raise RuntimeError(f"the rows ended after {state.global_step} steps, before the measurement did")


def time_hatrain(plan: Plan, seconds: float) -> Measured:
    clock = Clock(seconds)
    found: list[Measured] = []

    def watch(trainer: Any) -> None:
        trainer.add_callback(clock)
        found.append(trainer)

    run_hatrain(plan, watch)
    trainer: Any = found.pop()
    steps = [_step(trainer.context.steps, number) for number in range(clock.first, clock.last)]
    return Measured(
        len(steps),
        clock.seconds,
        sum(step.rows for step in steps),
        sum(step.tokens for step in steps),
        base_weights(trainer.model),
        peak_memory(),
        trainer.packing,
    )


def _step(steps: Any, number: int) -> Any:
    """A step of a run by its number, from 0, through all epochs."""
    steps.epoch, index = divmod(number, len(steps))
    return steps[index]


@dataclass(frozen=True)
class Setting:
    """How TRL is set up: packing, attention, and the rows or packs of a micro-batch."""

    name: str
    attention: str
    packing: str | None
    micro_batch: int
    accumulation: int
    isolates: bool = True
    """Whether rows of a pack do not attend to each other, as in hatrain."""


def time_trl(
    plan: Plan, setting: Setting, rows: Any, tokenizer: Any, folder: Path, tokens_per_row: float, seconds: float
) -> Measured:
    """Train what a plan trains with TRL: SFTTrainer on tokenized rows, or DPOTrainer on pairs."""
    from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

    method = plan.job.method
    is_dpo = method.kind == "dpo"
    # The same for both sides; all else is TRL's default.
    settings: dict[str, Any] = {
        "output_dir": str(folder),
        "per_device_train_batch_size": setting.micro_batch,
        "gradient_accumulation_steps": setting.accumulation,
        "learning_rate": method.learning_rate,
        "weight_decay": method.weight_decay,
        "num_train_epochs": 100,
        "max_length": method.ctx_size,
        CHECKPOINTING: plan.gradient_checkpointing,
        "bf16": plan.device == "cuda",
        "use_cpu": plan.device == "cpu",
        "save_strategy": "no",
        "report_to": "none",
        "logging_steps": NEVER,
        "disable_tqdm": True,
    }
    base: Any = DPOTrainer if is_dpo else SFTTrainer
    arguments: Any
    if method.kind == "dpo":
        arguments = DPOConfig(**settings, beta=method.beta, precompute_ref_log_probs=True)
    elif setting.packing:
        arguments = SFTConfig(**settings, packing=True, packing_strategy=setting.packing)
    else:
        arguments = SFTConfig(**settings, train_sampling_strategy="group_by_length")
    counts: list[Any] = []

    class Counting(base):
        def training_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            mask = inputs.get("attention_mask")
            counts.append(inputs["input_ids"].numel() if mask is None else mask.sum())
            return super().training_step(model, inputs, *args, **kwargs)

        def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
            """Pairs are tokenized already, which DPOTrainer does not look for."""
            return dataset if is_dpo else super()._prepare_dataset(dataset, *args, **kwargs)

    clock = Clock(seconds, counts.clear)
    trainer = Counting(
        model=trl_model(plan, setting),
        args=arguments,
        train_dataset=rows,
        processing_class=tokenizer,
        peft_config=trl_adapters(plan),
        callbacks=[clock],
    )
    with contextlib.suppress(Enough):
        trainer.train()
    tokens = int(sum(int(count) for count in counts))
    shutil.rmtree(folder, ignore_errors=True)
    return Measured(
        clock.last - clock.first,
        clock.seconds,
        tokens / tokens_per_row,
        tokens,
        base_weights(trainer.model),
        peak_memory(),
    )


def trl_model(plan: Plan, setting: Setting) -> Any:
    """The base as hatrain holds it: trained weights in fp32, a frozen base in bf16 or 4 bits."""
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    options: dict[str, Any] = {}
    if plan.job.model.quantization:
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        )
        options["device_map"] = {"": plan.device}
    dtype = torch.bfloat16 if plan.job.method.lora else torch.float32
    return AutoModelForCausalLM.from_pretrained(
        plan.job.model.base, dtype=dtype, attn_implementation=setting.attention, **options
    )


def trl_adapters(plan: Plan) -> Any:
    from peft import LoraConfig

    lora = plan.job.method.lora
    if lora is None:
        return None
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=lora.rank,
        lora_alpha=lora.alpha,  # type: ignore[arg-type]
        lora_dropout=lora.dropout,
        target_modules=list(lora.modules or ()),
    )


def base_weights(model: Any) -> int:
    """Weights of a model without its adapters; a 4-bit weight counts as one."""
    from peft import PeftModel

    base: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    adapters = sum(parameter.numel() for name, parameter in base.named_parameters() if "lora_" in name)
    return int(base.num_parameters()) - adapters


def synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def peak_memory() -> int | None:
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None
