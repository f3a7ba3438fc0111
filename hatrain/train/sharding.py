"""Which strategy spreads a run over its ranks, as the files of its run directory say it: told to accelerate before
anything is read, held to once the trainer stands, and asked of each checkpoint. fsdp.py and zero.py do the work."""

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
"""Strategies whose checkpoints hold optimizer state in a layout that no other reads."""


def begin(plan: Plan, run: RunDirectory) -> Any:
    """Tell accelerate and transformers about the strategy, as `accelerate launch` would: by the environment.

    It comes before the weights are read. What is returned must be kept until the trainer stands. Raises BadInput when
    the settings are not there.
    """
    if plan.sharding == "fsdp":
        _environment({"accelerate_use_fsdp": True, **_settings(run, "fsdp_config", "FSDP")})
        PartialState(cpu=plan.device == "cpu")
    elif plan.sharding in zero.STAGES:
        return zero.begin(plan, run, _settings(run, "deepspeed_config", "DeepSpeed"))
    return None


def _settings(run: RunDirectory, section: str, library: str) -> dict[str, Any]:
    """Return a section of launch/accelerate.yaml. Raises BadInput when it cannot be read."""
    path = run.launch / "accelerate.yaml"
    try:
        return dict(yaml.safe_load(path.read_text(encoding="utf-8"))[section])
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError):
        raise BadInput(
            f"{path}: no {library} settings can be read there; submit the job again, which writes them"
        ) from None


def _environment(settings: dict[str, Any]) -> None:
    for key, value in settings.items():
        os.environ[key.upper()] = str(value).lower() if isinstance(value, bool) else str(value)


def require(plan: Plan, accelerator: Accelerator) -> None:
    """Raise BadInput unless accelerate runs what the plan says; it would fall back to DDP without a word."""
    if plan.sharding == "fsdp":
        runs = accelerator.is_fsdp2
    elif plan.sharding in zero.STAGES:
        runs = zero.stage(accelerator) == zero.STAGES[plan.sharding]
    else:
        return
    if not runs:
        raise BadInput(
            f"hardware.sharding: {plan.sharding}, but accelerate would run {accelerator.distributed_type.value} on "
            f"{accelerator.device.type}; write ddp"
        )
    if plan.sharding == "fsdp":
        fsdp.sum_in_fp32(accelerator)


def check_strategy(checkpoint: Path, plan: Plan) -> None:
    """Raise BadInput when a checkpoint's optimizer state is laid out for a strategy that this plan does not follow;
    under ZeRO also for another number of ranks, or another offload."""
    facts = seal.facts(checkpoint)
    before, now = facts.get("sharding", plan.sharding), plan.sharding
    if before != now and (before in OWN_LAYOUT or now in OWN_LAYOUT):
        raise BadInput(
            f"hardware.sharding: {now}, but {checkpoint.name} was saved under {before}, whose optimizer "
            f"state only {before} reads; go on with {before}, or start anew with --fresh"
        )
    if now not in zero.STAGES:
        return
    offloaded, offload = facts.get("offload", plan.job.hardware.offload), plan.job.hardware.offload
    if offloaded != offload:
        raise BadInput(
            f"hardware.offload: {offload}, but {checkpoint.name} was saved with {offloaded}, by another AdamW; go on "
            f"with {offloaded}, or start anew with --fresh"
        )
    ranks = facts.get("ranks", plan.world_size)
    if ranks != plan.world_size:
        raise BadInput(
            f"hardware.gpus_per_node: {plan.world_size} ranks, but {checkpoint.name} was saved under {now} on {ranks}, "
            f"and DeepSpeed reads its optimizer state on {ranks} alone; go on with {ranks}, or start anew with --fresh"
        )


def writes_shards(plan: Plan) -> bool:
    """Return whether each rank writes its own part of the weights into a checkpoint, and nothing is gathered."""
    return plan.job.checkpoints.state == "sharded" and plan.sharding in ("fsdp", "zero3")


def end(plan: Plan) -> None:
    """The weights are trained and gathered: a model that is read after this is nobody's part."""
    if plan.sharding in zero.STAGES:
        zero.end()


def gathered(trainer: Any) -> dict[str, Any] | None:
    """Return the trained weights whole, in rank 0; the others may get None. A collective call.

    Under ZeRO a frozen base is left out.
    """
    if trainer.is_deepspeed_enabled:
        state = zero.gathered(trainer)
    else:
        state = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    return once(trainer.model, state) if state is not None else None


def once(model: Any, state: dict[str, Any]) -> dict[str, Any]:
    """Return a model's state without the second names of tied weights: gathered, they are copies of the first."""
    tied = getattr(model, "all_tied_weights_keys", {})
    return {name: tensor for name, tensor in state.items() if name not in tied}
