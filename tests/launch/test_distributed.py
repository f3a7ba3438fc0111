"""The settings of sharding strategies, checked also by the readers of accelerate and DeepSpeed."""

import json

import pytest
import yaml

from launch import distributed, planner
from launch.strategies import ZERO
from tests.plans import a_cluster, a_job

LORA = {"method__lora": {"rank": 8}}


def a_plan(tmp_path, **changes):
    job = a_job(**{"hardware__gpu": "a6000-48gb", "hardware__gpus_per_node": 2, **changes})
    return planner.plan(job, a_cluster(), "workstation", workdir=tmp_path, runs_root=tmp_path / "runs")


def settings(tmp_path, **changes):
    """The settings of DeepSpeed."""
    return json.loads(distributed.files(a_plan(tmp_path, **changes))["launch/deepspeed.json"])


@pytest.mark.parametrize("strategy", ["fsdp", *ZERO])
def test_accelerate_starts_no_processes_and_computes_in_the_dtype_of_the_job(tmp_path, strategy):
    plan = a_plan(tmp_path, hardware__sharding=strategy)
    files = distributed.files(plan)
    assert list(files) == ["launch/accelerate.yaml", *(["launch/deepspeed.json"] if strategy in ZERO else [])]
    assert yaml.safe_load(files["launch/accelerate.yaml"]) == distributed.accelerate(plan)
    settings = distributed.accelerate(plan)
    assert (settings["num_machines"], settings["num_processes"], settings["use_cpu"]) == (1, 2, False)
    # DeepSpeed's own autocast settings decide under ZeRO.
    assert settings["mixed_precision"] == ("bf16" if strategy == "fsdp" else "no")


def test_fsdp_shards_each_block_and_keeps_checkpoints_whole(tmp_path):
    assert distributed.fsdp(a_plan(tmp_path, hardware__sharding="fsdp")) == {
        "fsdp_version": 2,
        "fsdp_auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
        "fsdp_reshard_after_forward": True,
        "fsdp_state_dict_type": "FULL_STATE_DICT",
        "fsdp_cpu_ram_efficient_loading": True,
        "fsdp_activation_checkpointing": False,
    }


@pytest.mark.parametrize("stage", [1, 2, 3])
@pytest.mark.parametrize("lora", [{}, LORA])
def test_a_zero_stage_has_buckets_and_keeps_small_weights_whole_only_without_adapters(tmp_path, stage, lora):
    zero = settings(tmp_path, hardware__sharding=f"zero{stage}", **lora)["zero_optimization"]
    assert (zero["stage"], zero["reduce_bucket_size"], zero["overlap_comm"]) == (stage, 50_000_000, True)
    assert ("allgather_bucket_size" in zero) == (stage < 3)
    threshold = (0 if lora else "auto") if stage == 3 else None
    assert zero.get("stage3_param_persistence_threshold") == threshold
    assert zero.get("stage3_gather_16bit_weights_on_model_save", False) == (stage == 3)


def test_the_trainer_divides_steps_and_clips_by_the_setting_of_the_job(tmp_path):
    read = settings(tmp_path, hardware__sharding="zero2", method__gradient_clip=0.5)
    assert (read["gradient_accumulation_steps"], read["gradient_clipping"]) == (1, 0.5)
    assert read["communication_data_type"] == "fp32"


@pytest.mark.parametrize(
    ("offload", "parts"),
    [("none", set()), ("optimizer", {"offload_optimizer"}), ("all", {"offload_optimizer", "offload_param"})],
)
def test_offload_moves_what_the_job_names_to_pinned_memory(tmp_path, offload, parts):
    zero = settings(tmp_path, hardware__sharding="zero3", hardware__offload=offload)["zero_optimization"]
    assert {key for key in zero if key.startswith("offload")} == parts
    assert all(zero[part] == {"device": "cpu", "pin_memory": True} for part in parts)


@pytest.mark.parametrize("strategy", ["fsdp", *ZERO])
def test_accelerate_reads_the_settings(tmp_path, strategy):
    from accelerate.commands.config import load_config_from_file

    path = tmp_path / "accelerate.yaml"
    path.write_text(distributed.files(a_plan(tmp_path, hardware__sharding=strategy))["launch/accelerate.yaml"])
    read = load_config_from_file(str(path))
    if strategy == "fsdp":
        assert (read.distributed_type.value, read.num_processes, read.mixed_precision) == ("FSDP", 2, "bf16")
        assert read.fsdp_config["fsdp_version"] == 2
    else:
        assert (read.distributed_type.value, read.num_processes, read.mixed_precision) == (
            "DEEPSPEED",
            2,
            "no",
        )
        assert read.deepspeed_config["deepspeed_config_file"] == "launch/deepspeed.json"
        assert read.deepspeed_config["deepspeed_multinode_launcher"] == "standard"


@pytest.mark.parametrize(("strategy", "stage"), [("zero1", 1), ("zero2", 2), ("zero3", 3)])
@pytest.mark.parametrize("offload", ["none", "optimizer"])
def test_deepspeed_reads_the_settings(tmp_path, strategy, stage, offload):
    from deepspeed.runtime.config import DeepSpeedConfig

    read = DeepSpeedConfig(settings(tmp_path, hardware__sharding=strategy, hardware__offload=offload))
    assert read.zero_optimization_stage == stage
    assert (read.gradient_clipping, read.gradient_accumulation_steps) == (1.0, 1)
    assert (read.float16_config.enabled, read.bfloat16_config.enabled) == (False, False)
    assert (read.torch_autocast_enabled, str(read.torch_autocast_dtype)) == (True, "torch.bfloat16")
    assert (str(read.communication_data_type), read.grad_accum_dtype) == ("torch.float32", "fp32")
    assert (read.zero_config.offload_optimizer is not None) == (offload == "optimizer")


@pytest.mark.parametrize(("dtype", "autocast"), [("bf16", True), ("fp32", False)])
def test_weights_are_fp32_and_compute_is_in_the_jobs_dtype(tmp_path, dtype, autocast):
    read = settings(tmp_path, hardware__sharding="zero2", model__dtype=dtype)
    assert read["torch_autocast"]["enabled"] is autocast
    assert read["torch_autocast"]["lower_precision_safe_modules"] == []
    assert read["bf16"] == read["fp16"] == {"enabled": False}


def test_nodes_and_ranks_come_from_the_plan(tmp_path):
    plan = a_plan(tmp_path, hardware__sharding="zero3").model_copy(update={"nodes": 4})
    read = distributed.accelerate(plan)
    assert (read["num_machines"], read["num_processes"]) == (4, 8)


@pytest.mark.parametrize(("state", "kind"), [("full", "FULL_STATE_DICT"), ("sharded", "SHARDED_STATE_DICT")])
def test_fsdp_saves_a_sharded_state_if_the_job_asks_for_it(tmp_path, state, kind):
    plan = a_plan(tmp_path, hardware__sharding="fsdp", checkpoints__state=state)
    assert distributed.fsdp(plan)["fsdp_state_dict_type"] == kind


def test_a_strategy_without_settings_has_no_files(tmp_path):
    assert distributed.files(a_plan(tmp_path, hardware__sharding="ddp")) == {}
    assert distributed.files(a_plan(tmp_path, hardware__gpus_per_node=1)) == {}
