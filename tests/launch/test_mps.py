"""`gpu: mps`: what a Mac can train, as far as that can be told without one."""

import sys

import pytest

from hatrain.contract.cluster import SlurmCluster
from launch import planner
from launch.planner import Refusal
from tests.plans import a_cluster, a_job


def planned(tmp_path, monkeypatch, system="darwin", cluster=None, **changes):
    monkeypatch.setattr(sys, "platform", system)
    job = a_job(hardware__gpu="mps", **changes)
    cluster = cluster or a_cluster()
    return planner.plan(job, cluster, "local", workdir=tmp_path, runs_root=tmp_path / "runs")


def test_a_mac_trains_padded_rows_in_fp32_and_the_plan_says_that_nobody_tried_it(tmp_path, monkeypatch):
    plan = planned(tmp_path, monkeypatch)
    assert (plan.device, plan.world_size, plan.sharding) == ("mps", 1, "none")
    assert (plan.job.model.dtype, plan.job.method.packing) == ("fp32", "off")
    assert any("mps is untested" in note for note in planner.notes(plan))


@pytest.mark.parametrize(
    ("changes", "key", "text"),
    [
        ({"system": "linux"}, "hardware.gpu", "this machine is no Mac"),
        ({"hardware__gpus_per_node": 2}, "hardware.gpus_per_node", "a Mac has one: write 1"),
        ({"model__dtype": "bf16"}, "model.dtype", "write auto or fp32"),
        ({"model__quantization": "4bit", "method__lora": {}}, "model.quantization", "it needs CUDA"),
        ({"method__optimizer": "adamw_8bit"}, "method.optimizer", "write adamw or adafactor"),
        ({"method__packing": "tree"}, "method.packing", "write auto or off"),
        ({"hardware__compile": True, "method__gradient_checkpointing": False}, "hardware.compile", "write false"),
    ],
)
def test_what_it_cannot_have_is_refused_by_its_key(tmp_path, monkeypatch, changes, key, text):
    with pytest.raises(Refusal) as raised:
        planned(tmp_path, monkeypatch, **changes)
    assert text in dict(raised.value.reasons)[key]


def test_a_cluster_has_none(tmp_path, monkeypatch):
    with pytest.raises(Refusal) as raised:
        planned(tmp_path, monkeypatch, cluster=SlurmCluster(kind="slurm"))
    assert "found mps on a slurm cluster" in dict(raised.value.reasons)["hardware.gpu"]
