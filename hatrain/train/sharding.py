"""Weights, gradients and optimizer state spread over the ranks by FSDP2, as launch/accelerate.yaml says it; and the
checkpoints of such a run. What is sharded stays accelerate's affair."""

import dataclasses
import os
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
import yaml
from accelerate import Accelerator, PartialState
from safetensors.torch import load_file
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from transformers.trainer import SCHEDULER_NAME

from hatrain import seal
from hatrain.errors import BadInput
from hatrain.plan import Plan
from hatrain.run import RunDirectory

OPTIMIZER_FOLDER = "optimizer"
"""Each rank's shard of the optimizer state, in a checkpoint. Any number of ranks can read it."""


def begin(plan: Plan, run: RunDirectory) -> None:
    """Tell accelerate and transformers about FSDP, as `accelerate launch` would: by the environment.

    It comes before the weights are read, which then happens once a node. Raises BadInput when the settings are not
    there.
    """
    if plan.sharding != "fsdp":
        return
    for key, value in {"accelerate_use_fsdp": True, **settings(run)}.items():
        os.environ[key.upper()] = str(value).lower() if isinstance(value, bool) else str(value)
    PartialState(cpu=plan.device == "cpu")


def settings(run: RunDirectory) -> dict[str, Any]:
    """Return the `fsdp_config` of launch/accelerate.yaml. Raises BadInput when it cannot be read."""
    path = run.launch / "accelerate.yaml"
    try:
        return dict(yaml.safe_load(path.read_text(encoding="utf-8"))["fsdp_config"])
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError):
        raise BadInput(
            f"{path}: no FSDP settings can be read there; submit the job again, which writes them"
        ) from None


def require(plan: Plan, accelerator: Accelerator) -> None:
    """Raise BadInput unless accelerate runs what the plan says; it would fall back to DDP without a word."""
    if plan.sharding != "fsdp":
        return
    if not accelerator.is_fsdp2:
        raise BadInput(
            f"hardware.sharding: fsdp, but accelerate would run {accelerator.distributed_type.value} on "
            f"{accelerator.device.type}; write ddp"
        )
    plugin = accelerator.state.fsdp_plugin
    if plugin.mixed_precision_policy:
        # Gradients are summed over the ranks as precisely as DDP sums them.
        plugin.mixed_precision_policy = dataclasses.replace(
            plugin.mixed_precision_policy, reduce_dtype=torch.float32
        )


def check_strategy(checkpoint: Path, plan: Plan) -> None:
    """Raise BadInput when a checkpoint's optimizer state is laid out for a strategy that this plan does not follow."""
    before = seal.facts(checkpoint).get("sharding", plan.sharding)
    if before != plan.sharding and "fsdp" in (before, plan.sharding):
        raise BadInput(
            f"hardware.sharding: {plan.sharding}, but {checkpoint.name} was saved under {before}, whose optimizer "
            f"state only {before} reads; go on with {before}, or start anew with --fresh"
        )


# --- checkpoints --------------------------------------------------------------------------------------------


def once(model: Any, state: dict[str, Any]) -> dict[str, Any]:
    """Return a model's state without the second names of tied weights: gathered, they are copies of the first."""
    tied = getattr(model, "all_tied_weights_keys", {})
    return {name: tensor for name, tensor in state.items() if name not in tied}


def load_weights(model: torch.nn.Module, checkpoint: Path) -> None:
    """Spread a checkpoint's weights over the ranks; rank 0 alone reads them. A collective call."""
    weights: dict[str, Any] = _read(model, checkpoint) if PartialState().is_main_process else {}
    # Not strict: a frozen base and the second names of tied weights are in no checkpoint.
    options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True, strict=False)
    set_model_state_dict(model, weights, options=options)


def _read(model: torch.nn.Module, checkpoint: Path) -> dict[str, torch.Tensor]:
    """Return a checkpoint's tensors by their names in the model: PEFT saves adapters without the adapter's name."""
    names = {
        name.replace(".modules_to_save.default", "").replace(".default", ""): name
        for name, _ in model.named_parameters()
    }
    return {
        names.get(saved, saved): tensor
        for file in sorted(checkpoint.glob("*.safetensors"))
        for saved, tensor in load_file(file).items()
    }


def save_optimizer(trainer: Any, checkpoint: Path) -> None:
    """Write the optimizer state, each rank its own shard, and the schedule's. A collective call."""
    state = get_optimizer_state_dict(trainer.model, trainer.optimizer.optimizer)
    dcp.save(state, checkpoint_id=checkpoint / OPTIMIZER_FOLDER)
    if trainer.is_world_process_zero():
        torch.save(trainer.lr_scheduler.state_dict(), checkpoint / SCHEDULER_NAME)


def load_optimizer(trainer: Any, checkpoint: Path) -> None:
    """Read what `save_optimizer` wrote, each rank its own shard, however many ranks wrote them."""
    optimizer = trainer.optimizer.optimizer
    state = get_optimizer_state_dict(trainer.model, optimizer)
    dcp.load(state, checkpoint_id=checkpoint / OPTIMIZER_FOLDER)
    set_optimizer_state_dict(trainer.model, optimizer, state)
    trainer.lr_scheduler.load_state_dict(torch.load(checkpoint / SCHEDULER_NAME, weights_only=True))
