"""The settings of accelerate and DeepSpeed for the sharding strategy of a plan. The trainer reads the files."""

import json
from typing import Any

import yaml

from hatrain.contract.plan import Plan
from launch.strategies import ZERO

BUCKET = 50_000_000
"""Elements of one communication buffer of DeepSpeed: 200 MB in fp32, for each kind of buffer."""


def files(plan: Plan) -> dict[str, str]:
    """The settings as files, by their path in the run directory."""
    settings = accelerate(plan)
    if settings is None:
        return {}
    text = yaml.safe_dump(settings, sort_keys=False)
    rendered = {"launch/accelerate.yaml": f"# Sharding of {plan.job.name}.\n{text}"}
    if plan.sharding in ZERO:
        rendered["launch/deepspeed.json"] = json.dumps(deepspeed(plan), indent=2) + "\n"
    return rendered


def accelerate(plan: Plan) -> dict[str, Any] | None:
    """The configuration of accelerate, or None if it needs none (one rank, DDP).

    torchrun starts the processes on every node. `standard` keeps DeepSpeed's own launcher from starting some by ssh.
    """
    if plan.sharding == "fsdp":
        return {
            "compute_environment": "LOCAL_MACHINE",
            "distributed_type": "FSDP",
            "mixed_precision": {"bf16": "bf16", "fp16": "fp16", "fp32": "no"}[plan.job.model.dtype],
            "num_machines": plan.nodes,
            "num_processes": plan.world_size,
            "use_cpu": plan.device == "cpu",
            "fsdp_config": fsdp(plan),
        }
    if plan.sharding in ZERO:
        return {
            "compute_environment": "LOCAL_MACHINE",
            "distributed_type": "DEEPSPEED",
            "mixed_precision": "no",  # torch_autocast in deepspeed.json decides
            "num_machines": plan.nodes,
            "num_processes": plan.world_size,
            "use_cpu": False,  # with True, accelerate would not use DeepSpeed
            "deepspeed_config": {
                "deepspeed_config_file": "launch/deepspeed.json",
                "zero3_init_flag": plan.sharding == "zero3",
                "deepspeed_multinode_launcher": "standard",
            },
        }
    return None


def fsdp(plan: Plan) -> dict[str, Any]:
    """The settings of FSDP2.

    Each transformer block is gathered for its forward and its backward pass, and resharded after each. Only the first
    rank of a node reads the weights. Checkpoints hold gathered weights, so that each can be evaluated as a model,
    unless `checkpoints.state` is `sharded`: then each rank writes its own shard.

    Activation checkpointing is done by transformers' layers, which gathers no block a second time. accelerate's wrapper
    does not restore the random state, so dropout has wrong gradients, and it renames parameters, so PEFT saves an
    adapter without weights.
    """
    state = plan.job.checkpoints.state
    return {
        "fsdp_version": 2,
        "fsdp_auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
        "fsdp_reshard_after_forward": True,
        "fsdp_state_dict_type": "SHARDED_STATE_DICT" if state == "sharded" else "FULL_STATE_DICT",
        "fsdp_cpu_ram_efficient_loading": True,
        "fsdp_activation_checkpointing": False,
    }


def deepspeed(plan: Plan) -> dict[str, Any]:
    """The DeepSpeed configuration of a ZeRO stage.

    Weights, gradients and their sums are fp32, as with every other strategy. bf16 compute is torch's autocast:
    DeepSpeed's `bf16` would train a bf16 copy. The trainer accumulates gradients, so accumulation is 1 here, and it
    owns the optimizer and its schedule.
    """
    job, stage = plan.job, int(plan.sharding[-1])
    zero: dict[str, Any] = {
        "stage": stage,
        "reduce_bucket_size": BUCKET,
        "contiguous_gradients": True,
        "overlap_comm": plan.device == "cuda",
    }
    if stage < 3:
        zero["allgather_bucket_size"] = BUCKET
    else:
        zero |= {
            "stage3_prefetch_bucket_size": BUCKET,
            # Small weights stay whole on every rank (auto: up to ten times the hidden size). Not with adapters, which
            # are fp32 beside a base of another dtype: DeepSpeed gathers whole weights as if all had one dtype.
            "stage3_param_persistence_threshold": 0 if job.method.lora else "auto",
            "stage3_gather_16bit_weights_on_model_save": True,
        }
    pinned = {"device": "cpu", "pin_memory": plan.device == "cuda"}
    if job.hardware.offload != "none":
        zero["offload_optimizer"] = pinned
    if job.hardware.offload == "all":
        zero["offload_param"] = pinned
    return {
        "train_micro_batch_size_per_gpu": plan.batch.micro_batch_size,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": job.method.gradient_clip,
        "zero_optimization": zero,
        "communication_data_type": "fp32",
        "data_types": {"grad_accum_dtype": "fp32"},
        "fp16": {"enabled": False},
        "bf16": {"enabled": False},
        "torch_autocast": {
            "enabled": job.model.dtype == "bf16",
            "dtype": "bfloat16",
            "lower_precision_safe_modules": [],
        },
    }
