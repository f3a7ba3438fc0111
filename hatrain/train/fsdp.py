"""FSDP2: checkpoints of weights and optimizer state that are sharded over the ranks. accelerate does the sharding."""

import dataclasses
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from accelerate import Accelerator, PartialState
from safetensors.torch import load_file
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from transformers.trainer import SCHEDULER_NAME

OPTIMIZER_FOLDER = "optimizer"
"""Subfolder of a checkpoint for the ranks' shards of the optimizer state. Any number of ranks can read it."""
WEIGHTS_FOLDER = "weights"
"""Subfolder for the ranks' shards of the weights, with `checkpoints.state: sharded`. As readable as the other."""


def reduce_in_fp32(accelerator: Accelerator) -> None:
    """Reduce gradients as precisely as DDP does."""
    plugin = accelerator.state.fsdp_plugin
    if plugin.mixed_precision_policy:
        plugin.mixed_precision_policy = dataclasses.replace(plugin.mixed_precision_policy, reduce_dtype=torch.float32)


def save_weights(model: torch.nn.Module, checkpoint: Path) -> None:
    """Write the trained weights, each rank its own shard. A collective call."""
    dcp.save(_trained(model), checkpoint_id=checkpoint / WEIGHTS_FOLDER)


def _trained(model: torch.nn.Module) -> dict[str, Any]:
    """This rank's shards of the trained weights, by name."""
    names = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    state = get_model_state_dict(model)
    return {name: tensor for name, tensor in state.items() if name in names}


def load_weights(model: torch.nn.Module, checkpoint: Path) -> None:
    """Load a checkpoint's weights: each rank its own shard, or rank 0 whole weights that it broadcasts. A collective
    call."""
    # Not strict: checkpoints leave out a frozen base and the second names of tied weights.
    if (checkpoint / WEIGHTS_FOLDER).is_dir():
        shards = _trained(model)
        dcp.load(shards, checkpoint_id=checkpoint / WEIGHTS_FOLDER)
        set_model_state_dict(model, shards, options=StateDictOptions(strict=False))
        return
    weights: dict[str, Any] = _read_whole(model, checkpoint) if PartialState().is_main_process else {}
    options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True, strict=False)
    set_model_state_dict(model, weights, options=options)


def _read_whole(model: torch.nn.Module, checkpoint: Path) -> dict[str, torch.Tensor]:
    """Return a checkpoint's tensors by their names in the model. PEFT saves adapters without the adapter's name."""
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
    """Write the optimizer state, each rank its own shard, and the schedule's state. A collective call."""
    state = get_optimizer_state_dict(trainer.model, trainer.optimizer.optimizer)
    dcp.save(state, checkpoint_id=checkpoint / OPTIMIZER_FOLDER)
    if trainer.is_world_process_zero():
        save_scheduler(trainer, checkpoint)


def save_scheduler(trainer: Any, checkpoint: Path) -> None:
    torch.save(trainer.lr_scheduler.state_dict(), checkpoint / SCHEDULER_NAME)


def load_optimizer(trainer: Any, checkpoint: Path) -> None:
    """Read what `save_optimizer` wrote, on any number of ranks. A collective call."""
    optimizer = trainer.optimizer.optimizer
    state = get_optimizer_state_dict(trainer.model, optimizer)
    dcp.load(state, checkpoint_id=checkpoint / OPTIMIZER_FOLDER)
    set_optimizer_state_dict(trainer.model, optimizer, state)
    trainer.lr_scheduler.load_state_dict(torch.load(checkpoint / SCHEDULER_NAME, weights_only=True))
