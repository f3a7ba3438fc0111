"""What a fault says to change: memory, full disks."""

import pytest

from hatrain.contract.cluster import SlurmCluster
from hatrain.entry import why
from hatrain.runtime import memory
from tests.plans import a_plan


@pytest.fixture
def plan(tmp_path):
    plan = a_plan(tmp_path, SlurmCluster(kind="slurm"))
    (tmp_path / "runs" / plan.job.name).mkdir(parents=True)
    return plan


@pytest.mark.parametrize(
    ("own", "file"),
    [
        ("0::/system/job_7/task_0\n", "system/job_7/task_0/memory.events"),
        ("9:memory:/slurm/job_7\n2:cpu,cpuacct:/\n", "memory/slurm/job_7/memory.oom_control"),
    ],
)
def test_processes_that_the_kernel_killed_for_their_memory_are_counted(tmp_path, monkeypatch, own, file):
    (tmp_path / "own").write_text(own)
    (tmp_path / "machine").write_text("oom_kill 9\n")
    for name, path in (("_CGROUPS", "cgroup"), ("_SELF", "own"), ("_VMSTAT", "machine")):
        monkeypatch.setattr(memory, name, tmp_path / path)
    counted = tmp_path / "cgroup" / file
    counted.parent.mkdir(parents=True)
    counted.write_text("low 0\noom 5\noom_kill 2\n")
    assert memory.kills() == 2
    counted.unlink()
    assert memory.kills() == 9, "of the whole machine"


def test_a_kill_for_memory_names_the_key_to_change(plan):
    assert "raise memory in the cluster file" in why.explained("ended without an exit report", plan, killed=True)


def test_a_rank_that_could_not_even_report_on_a_full_disk_says_so(plan, monkeypatch):
    assert why.explained("ended without an exit report", plan, killed=False) == "ended without an exit report"
    monkeypatch.setattr(why, "LEAST_DISK", 2**60)
    told = why.explained("ended without an exit report", plan, killed=False)
    assert f"the disk of {plan.paths.run} has" in told
    assert "remove files there" in told
