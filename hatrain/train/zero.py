"""Optimizer state, gradients and weights spread over the ranks by DeepSpeed's ZeRO, as launch/deepspeed.json says it.
Its engine works through our step; accumulation, the finite check and the schedule stay ours."""

import importlib.util
import json
import os
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import DistributedType
from transformers.integrations.deepspeed import HfDeepSpeedConfig, unset_hf_deepspeed_config

from hatrain.contract.plan import Plan
from hatrain.contract.run import RunDirectory
from hatrain.errors import BadInput

STAGES = {"zero1": 1, "zero2": 2, "zero3": 3}
"""A strategy's name → DeepSpeed's stage: optimizer state is spread from 1 on, gradients from 2, weights from 3."""


def begin(plan: Plan, run: RunDirectory, settings: dict[str, Any]) -> HfDeepSpeedConfig:
    """Tell accelerate and transformers of DeepSpeed, and make the process group: under ZeRO-3 weights are spread while
    they are read, as long as what is returned is kept. `settings` are the `deepspeed_config` of accelerate.yaml.

    Raises BadInput when DeepSpeed or its configuration is not there.
    """
    if importlib.util.find_spec("deepspeed") is None:
        raise BadInput(
            f"hardware.sharding: {plan.sharding} needs deepspeed, which is not installed here; what installs it is: "
            "make setup"
        )
    file = run.folder / settings["deepspeed_config_file"]
    if not file.is_file():
        raise BadInput(f"{file}: not there; submit the job again, which writes it")
    os.environ["ACCELERATE_USE_DEEPSPEED"] = "true"
    os.environ["ACCELERATE_DEEPSPEED_CONFIG_FILE"] = str(file)
    os.environ["ACCELERATE_DEEPSPEED_ZERO3_INIT"] = str(settings["zero3_init_flag"]).lower()
    if plan.device == "cpu":
        _on_processors()
    # Without a name accelerate takes a machine without GPUs for a world of one.
    PartialState(backend="gloo" if plan.device == "cpu" else None)
    return HfDeepSpeedConfig(_of_reading(plan, json.loads(file.read_text(encoding="utf-8"))))


def _of_reading(plan: Plan, settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings as reading the base wants them: a base that stays frozen is held in `model.dtype`."""
    if plan.job.method.lora is None:
        return settings
    return {
        **settings,
        "bf16": {"enabled": plan.job.model.dtype == "bf16"},
        "torch_autocast": {"enabled": False},
    }


def _on_processors() -> None:
    """Have DeepSpeed work on processors. Its collectives in shared memory are left out: they serve tensor-parallel
    answering alone, and compiling them takes a minute."""
    os.environ["DS_ACCELERATOR"] = "cpu"
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # accelerate would take a GPU that it sees
    import deepspeed.ops

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


def stage(accelerator: Accelerator) -> int | None:
    """Return the ZeRO stage that accelerate runs, or None when it does not run DeepSpeed."""
    if accelerator.distributed_type is not DistributedType.DEEPSPEED:
        return None
    return int(accelerator.state.deepspeed_plugin.zero_stage)


def backward(engine: Any, loss: torch.Tensor, last: bool) -> None:
    """Add a pass's gradients; ranks sum them up on a step's last pass (ZeRO-1), or on each (2 and 3, which keep no
    more than a rank's own part)."""
    engine.set_gradient_accumulation_boundary(last)
    engine.backward(loss)


def gathered(trainer: Any) -> dict[str, Any] | None:
    """Return what is trained, whole and in rank 0's memory; under ZeRO-3 None in the others. A collective call."""
    engine = trainer.model_wrapped
    if trainer.accelerator.state.deepspeed_plugin.zero_stage == 3:
        state: dict[str, Any] | None = engine._zero3_consolidated_16bit_state_dict(
            exclude_frozen_parameters=True
        )
        return state
    return engine.module_state_dict(exclude_frozen_parameters=True)


def end() -> None:
    """Read models whole from here on: transformers would spread them over the ranks as well."""
    unset_hf_deepspeed_config()
