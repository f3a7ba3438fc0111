"""The settings of a strategy: recorded, read by accelerate and by DeepSpeed themselves, and none where there is nothing
to say."""

import json
from pathlib import Path

import pytest

from launch import distributed, planner
from launch.strategies import ZERO
from tests.golden import matches
from tests.plans import a_cluster, a_job

GOLDEN = Path(__file__).parent / "golden" / "distributed"
LORA = {"method__lora": {"rank": 8}}


def a_plan(tmp_path, **changes):
    job = a_job(**{"hardware__gpu": "a6000-48gb", "hardware__gpus_per_node": 2, **changes})
    return planner.plan(job, a_cluster(), "desk", workdir=tmp_path, runs_root=tmp_path / "runs")


def settings(tmp_path, **changes):
    """What DeepSpeed is told."""
    return json.loads(distributed.files(a_plan(tmp_path, **changes))["launch/deepspeed.json"])


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("fsdp", {}),
        ("zero1", {}),
        ("zero2", {"hardware__offload": "optimizer"}),
        ("zero3", {"hardware__offload": "all", **LORA}),
    ],
)
def test_settings_are_as_recorded(tmp_path, name, changes):
    files = distributed.files(a_plan(tmp_path, hardware__sharding=name, **changes))
    expected = ["launch/accelerate.yaml", *(["launch/deepspeed.json"] if name in ZERO else [])]
    assert list(files) == expected
    for path, text in files.items():
        matches(GOLDEN / name / Path(path).name, text)


@pytest.mark.parametrize("strategy", ["fsdp", *ZERO])
def test_accelerates_own_reader_takes_them(tmp_path, strategy):
    from accelerate.commands.config import load_config_from_file

    path = tmp_path / "accelerate.yaml"
    path.write_text(
        distributed.files(a_plan(tmp_path, hardware__sharding=strategy))["launch/accelerate.yaml"]
    )
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
def test_deepspeeds_own_reader_takes_them(tmp_path, strategy, stage, offload):
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
    told = settings(tmp_path, hardware__sharding="zero2", model__dtype=dtype)
    assert told["torch_autocast"]["enabled"] is autocast
    assert told["torch_autocast"]["lower_precision_safe_modules"] == []
    assert told["bf16"] == told["fp16"] == {"enabled": False}


def test_nodes_and_ranks_are_the_plans(tmp_path):
    plan = a_plan(tmp_path, hardware__sharding="zero3").model_copy(update={"nodes": 4})
    told = distributed.accelerate(plan)
    assert (told["num_machines"], told["num_processes"]) == (4, 8)


@pytest.mark.parametrize(("state", "kind"), [("full", "FULL_STATE_DICT"), ("sharded", "SHARDED_STATE_DICT")])
def test_a_sharded_state_is_said_to_fsdp(tmp_path, state, kind):
    plan = a_plan(tmp_path, hardware__sharding="fsdp", checkpoints__state=state)
    assert distributed.fsdp(plan)["fsdp_state_dict_type"] == kind


def test_a_strategy_without_settings_has_no_file(tmp_path):
    assert distributed.files(a_plan(tmp_path, hardware__sharding="ddp")) == {}
    assert distributed.files(a_plan(tmp_path, hardware__gpus_per_node=1)) == {}
