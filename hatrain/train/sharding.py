"""The sharding strategy of a run: configured before the weights are read, checked once the trainer exists, and compared
with each checkpoint's. fsdp.py and zero.py do the work."""

import os
from pathlib import Path
from typing import Any

import yaml
from accelerate import Accelerator, PartialState

from hatrain.contract.plan import Plan
from hatrain.contract.run import RunDirectory
from hatrain.errors import BadInput
from hatrain.runtime import seal
from hatrain.train import fsdp, zero

OWN_LAYOUT = ("fsdp", *zero.STAGES)
"""Strategies whose optimizer state no other strategy can read."""


def configure(plan: Plan, run: RunDirectory) -> Any:
    """Set accelerate's environment variables, as `accelerate launch` would. Call it before the weights are read, and
    keep the returned value until the trainer exists.

    Raises BadInput when the run directory has no settings for the strategy.
    """
    if plan.sharding == "fsdp":
        _environment({"accelerate_use_fsdp": True, **_settings(run, "fsdp_config", "FSDP")})
        PartialState(cpu=plan.device == "cpu")
    elif plan.sharding in zero.STAGES:
        return zero.configure(plan, run, _settings(run, "deepspeed_config", "DeepSpeed"))
    return None


def _settings(run: RunDirectory, section: str, library: str) -> dict[str, Any]:
    """Read a section of launch/accelerate.yaml."""
    path = run.launch / "accelerate.yaml"
    try:
        return dict(yaml.safe_load(path.read_text(encoding="utf-8"))[section])
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError):
        raise BadInput(f"{path}: found no {library} settings; submit the job again to write them") from None


def _environment(settings: dict[str, Any]) -> None:
    for key, value in settings.items():
        os.environ[key.upper()] = str(value).lower() if isinstance(value, bool) else str(value)


def check_active(plan: Plan, accelerator: Accelerator) -> None:
    """Raise BadInput unless accelerate runs the plan's strategy. It falls back to DDP silently."""
    if plan.sharding == "fsdp":
        is_active = accelerator.is_fsdp2
    elif plan.sharding in zero.STAGES:
        is_active = zero.stage(accelerator) == zero.STAGES[plan.sharding]
    else:
        return
    if not is_active:
        raise BadInput(
            f"hardware.sharding: {plan.sharding}, but accelerate would run {accelerator.distributed_type.value} on "
            f"{accelerator.device.type}; write ddp"
        )
    if plan.sharding == "fsdp":
        fsdp.reduce_in_fp32(accelerator)


def check_strategy(checkpoint: Path, plan: Plan) -> None:
    """Raise BadInput when the plan's strategy cannot read a checkpoint's optimizer state: under FSDP and ZeRO another
    strategy's, under ZeRO also that of another number of ranks or another offload."""
    facts = seal.facts(checkpoint)
    before, now = facts.get("sharding", plan.sharding), plan.sharding
    if before != now and (before in OWN_LAYOUT or now in OWN_LAYOUT):
        raise BadInput(
            f"hardware.sharding: {now}, but {checkpoint.name} was saved under {before}, and their optimizer states "
            f"differ; write {before}, or start over with --fresh"
        )
    if now not in zero.STAGES:
        return
    saved_offload, offload = facts.get("offload", plan.job.hardware.offload), plan.job.hardware.offload
    if saved_offload != offload:
        raise BadInput(
            f"hardware.offload: {offload}, but {checkpoint.name} was saved with {saved_offload}, by another AdamW; "
            f"write {saved_offload}, or start over with --fresh"
        )
    ranks = facts.get("ranks", plan.world_size)
    if ranks != plan.world_size:
        raise BadInput(
            f"hardware.gpus_per_node: {plan.world_size} ranks, but {checkpoint.name} was saved under {now} on {ranks}, "
            f"and DeepSpeed reads its optimizer state only on {ranks}; use {ranks}, or start over with --fresh"
        )


def writes_shards(plan: Plan) -> bool:
    """Whether each rank writes its own shard of the weights into a checkpoint."""
    return plan.job.checkpoints.state == "sharded" and plan.sharding in ("fsdp", "zero3")


def unset(plan: Plan) -> None:
    """Load later models whole. Call it once the trained weights are gathered."""
    if plan.sharding in zero.STAGES:
        zero.unset()


def gather_weights(trainer: Any) -> dict[str, Any] | None:
    """Return the trained weights on rank 0; others may get None. A collective call. ZeRO leaves out a frozen base."""
    if trainer.is_deepspeed_enabled:
        state = zero.gather_weights(trainer)
    else:
        state = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    return without_tied_copies(trainer.model, state) if state is not None else None


def without_tied_copies(model: Any, state: dict[str, Any]) -> dict[str, Any]:
    """Drop the second names of tied weights: in a gathered state they are copies."""
    tied = getattr(model, "all_tied_weights_keys", {})
    return {name: tensor for name, tensor in state.items() if name not in tied}
