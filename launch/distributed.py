"""The sharding strategy of a Plan as the settings of the library that runs it, in that library's own words. Pure: the
trainer reads the files that are made of them."""

import json
from typing import Any

import yaml

from hatrain.contract.plan import Plan
from launch.strategies import ZERO

BUCKET = 50_000_000
"""Numbers that DeepSpeed moves between the ranks at once: 200 MB of fp32, once for each kind of buffer."""


def files(plan: Plan) -> dict[str, str]:
    """Return the files of a run directory that the trainer reads its strategy's settings from, by their path in it."""
    settings = accelerate(plan)
    if settings is None:
        return {}
    text = yaml.safe_dump(settings, sort_keys=False)
    written = {"launch/accelerate.yaml": f"# How the ranks of {plan.job.name} share its weights.\n{text}"}
    if plan.sharding in ZERO:
        written["launch/deepspeed.json"] = json.dumps(deepspeed(plan), indent=2) + "\n"
    return written


def accelerate(plan: Plan) -> dict[str, Any] | None:
    """Return the `accelerate` configuration of a plan, or None where accelerate has nothing to be told (one rank, DDP).

    The processes are torchrun's on every node, so nothing here starts any: DeepSpeed's own launcher, which would go to
    other nodes by ssh, is told to be `standard`.
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
            "mixed_precision": "no",  # torch_autocast of deepspeed.json says in what is computed
            "num_machines": plan.nodes,
            "num_processes": plan.world_size,
            "use_cpu": False,  # told of processors, accelerate would leave DeepSpeed out
            "deepspeed_config": {
                "deepspeed_config_file": "launch/deepspeed.json",
                "zero3_init_flag": plan.sharding == "zero3",
                "deepspeed_multinode_launcher": "standard",
            },
        }
    return None


def fsdp(plan: Plan) -> dict[str, Any]:
    """Return the settings of FSDP2.

    Each transformer block is gathered for its own forward and backward and let go again; only the first rank of a node
    reads the weights. Checkpoints hold weights that were gathered, so that any of them can be judged as a model, unless
    `checkpoints.state` is `sharded`: then each rank writes its own part. Activations are computed again by
    transformers' own layers, which gathers no block once more: accelerate's wrapper around each block forgets the
    random state, so that dropout's gradients come out wrong, and renames what is in it, so that PEFT saves an adapter
    without weights.
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
    """Return the DeepSpeed configuration of a ZeRO stage.

    Weights, gradients and their sums are fp32, as under every other strategy. Compute in bf16 is torch's autocast, not
    DeepSpeed's `bf16`, which would train a bf16 copy. A step's passes are the trainer's, so accumulation is 1; so are
    the optimizer and its schedule.
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
            # Small weights stay whole on every rank (auto: up to ten times the hidden size), but not with adapters:
            # they are fp32 beside a base of another dtype, and DeepSpeed gathers what it keeps as if all were of one.
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
