"""DeepSpeed's ZeRO, configured by the run's launch/deepspeed.json. Its engine runs our step; accumulation, the check
for finite losses and the schedule are ours."""

import json
import os
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import DistributedType
from transformers.integrations.deepspeed import HfDeepSpeedConfig, unset_hf_deepspeed_config

from hatrain.contract import extras
from hatrain.contract.plan import Plan
from hatrain.contract.run import RunDirectory
from hatrain.errors import BadInput

STAGES = {"zero1": 1, "zero2": 2, "zero3": 3}
"""DeepSpeed's stages: 1 shards optimizer state, 2 also gradients, 3 also weights."""


def configure(plan: Plan, run: RunDirectory, settings: dict[str, Any]) -> HfDeepSpeedConfig:
    """Set up accelerate, transformers and the process group. `settings` are the `deepspeed_config` of accelerate.yaml.
    Under ZeRO-3 weights are sharded while they are read, as long as the returned value is referenced.

    Raises BadInput when DeepSpeed or its configuration is missing.
    """
    if problems := extras.problems("deepspeed", f"hardware.sharding: {plan.sharding}"):
        raise BadInput(problems)
    file = run.folder / settings["deepspeed_config_file"]
    if not file.is_file():
        raise BadInput(f"{file}: no such file; submit the job again to write it")
    os.environ["ACCELERATE_USE_DEEPSPEED"] = "true"
    os.environ["ACCELERATE_DEEPSPEED_CONFIG_FILE"] = str(file)
    os.environ["ACCELERATE_DEEPSPEED_ZERO3_INIT"] = str(settings["zero3_init_flag"]).lower()
    if plan.device == "cpu":
        _use_cpu()
    # Without a backend accelerate assumes a single process on a machine without GPUs.
    PartialState(backend="gloo" if plan.device == "cpu" else None)
    return HfDeepSpeedConfig(_settings_for_loading(plan, json.loads(file.read_text(encoding="utf-8"))))


def _settings_for_loading(plan: Plan, settings: dict[str, Any]) -> dict[str, Any]:
    """The settings to load the base with: a frozen base is held in `model.dtype`."""
    if plan.job.method.lora is None:
        return settings
    return {
        **settings,
        "bf16": {"enabled": plan.job.model.dtype == "bf16"},
        "torch_autocast": {"enabled": False},
    }


def _use_cpu() -> None:
    """Run DeepSpeed on CPUs, without its shared-memory collectives: only tensor-parallel inference uses them, and
    compiling them takes a minute."""
    os.environ["DS_ACCELERATOR"] = "cpu"
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # accelerate would use a visible GPU
    import deepspeed.ops

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


def stage(accelerator: Accelerator) -> int | None:
    """The ZeRO stage that accelerate runs; None without DeepSpeed."""
    if accelerator.distributed_type is not DistributedType.DEEPSPEED:
        return None
    return int(accelerator.state.deepspeed_plugin.zero_stage)


def backward(engine: Any, loss: torch.Tensor, is_last: bool) -> None:
    """Add a micro-batch's gradients. ZeRO-1 reduces them in a step's last micro-batch; 2 and 3 reduce in each, for a
    rank keeps only its shard."""
    engine.set_gradient_accumulation_boundary(is_last)
    engine.backward(loss)


def gather_weights(trainer: Any) -> dict[str, Any] | None:
    """Return the trained weights, whole; under ZeRO-3 only on rank 0, and None on the others. A collective call."""
    engine = trainer.model_wrapped
    if trainer.accelerator.state.deepspeed_plugin.zero_stage == 3:
        state: dict[str, Any] | None = engine._zero3_consolidated_16bit_state_dict(exclude_frozen_parameters=True)
        return state
    return engine.module_state_dict(exclude_frozen_parameters=True)


def unset() -> None:
    """Load later models whole: until this call transformers shards them too."""
    unset_hf_deepspeed_config()
