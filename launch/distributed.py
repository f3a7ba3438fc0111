"""The sharding strategy of a Plan as the settings of the library that runs it, in that library's own words. Pure: the
trainer reads the files that are made of them."""

from typing import Any

import yaml

from hatrain.plan import Plan


def files(plan: Plan) -> dict[str, str]:
    """Return the files of a run directory that the trainer reads its strategy's settings from, by their path in it."""
    settings = accelerate(plan)
    if settings is None:
        return {}
    text = yaml.safe_dump(settings, sort_keys=False)
    return {"launch/accelerate.yaml": f"# How the ranks of {plan.job.name} share its weights.\n{text}"}


def accelerate(plan: Plan) -> dict[str, Any] | None:
    """Return the `accelerate` configuration of a plan, or None where accelerate has nothing to be told (one rank, DDP).

    FSDP2: each transformer block is gathered for its own forward and backward and let go again; only the first rank
    of a node reads the weights. Checkpoints hold weights that were gathered, so that any of them can be judged as a
    model. Activations are computed again by transformers' own layers, which gathers no block once more: accelerate's
    wrapper around each block forgets the random state, so that dropout's gradients come out wrong, and renames what
    is in it, so that PEFT saves an adapter without weights.
    """
    if plan.sharding != "fsdp":
        return None
    return {
        "compute_environment": "LOCAL_MACHINE",
        "distributed_type": "FSDP",
        "mixed_precision": {"bf16": "bf16", "fp16": "fp16", "fp32": "no"}[plan.job.model.dtype],
        "num_machines": plan.nodes,
        "num_processes": plan.world_size,
        "use_cpu": plan.device == "cpu",
        "fsdp_config": {
            "fsdp_version": 2,
            "fsdp_auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
            "fsdp_reshard_after_forward": True,
            "fsdp_state_dict_type": "FULL_STATE_DICT",
            "fsdp_cpu_ram_efficient_loading": True,
            "fsdp_activation_checkpointing": False,
        },
    }
