"""The settings of a strategy: recorded, read by accelerate itself, and none where there is nothing to say."""

from pathlib import Path

from launch import distributed, planner
from tests.golden import matches
from tests.plans import a_cluster, a_job

GOLDEN = Path(__file__).parent / "golden" / "distributed"


def a_plan(tmp_path, **changes):
    job = a_job(**{"hardware__gpu": "a6000-48gb", "hardware__gpus_per_node": 2, **changes})
    return planner.plan(job, a_cluster(), "desk", workdir=tmp_path, runs_root=tmp_path / "runs")


def test_fsdps_settings_are_as_recorded(tmp_path):
    files = distributed.files(a_plan(tmp_path, hardware__sharding="fsdp"))
    assert list(files) == ["launch/accelerate.yaml"]
    matches(GOLDEN / "accelerate.yaml", files["launch/accelerate.yaml"])


def test_accelerates_own_reader_takes_them(tmp_path):
    from accelerate.commands.config import load_config_from_file

    path = tmp_path / "accelerate.yaml"
    path.write_text(distributed.files(a_plan(tmp_path, hardware__sharding="fsdp"))["launch/accelerate.yaml"])
    read = load_config_from_file(str(path))
    assert (read.distributed_type.value, read.num_processes, read.mixed_precision) == ("FSDP", 2, "bf16")
    assert read.fsdp_config["fsdp_version"] == 2


def test_a_strategy_without_settings_has_no_file(tmp_path):
    assert distributed.files(a_plan(tmp_path, hardware__sharding="ddp")) == {}
    assert distributed.files(a_plan(tmp_path, hardware__gpus_per_node=1)) == {}
