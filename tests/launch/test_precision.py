"""The type of compute: decided by the hardware, kept by a run, and noted where it is slow."""

import json

import pytest

from hatrain.contract.run import RunDirectory
from launch import planner, precision
from tests.plans import a_cluster, a_job, a_plan


def test_a_plan_has_the_type_that_was_decided(tmp_path):
    assert a_plan(tmp_path).job.model.dtype == "fp32"
    assert a_plan(tmp_path, hardware__gpu="a100-80gb").job.model.dtype == "bf16"


def again(tmp_path, *, fresh=False, **changes):
    return planner.plan(
        a_job(**changes), a_cluster(), "local", workdir=tmp_path, runs_root=tmp_path / "runs", fresh=fresh
    )


def test_a_run_of_an_older_version_keeps_its_type_unless_it_starts_anew(tmp_path):
    old = a_plan(tmp_path, model__dtype="bf16")
    run = RunDirectory(tmp_path / "runs/kitchen")
    run.adopt(old, {})
    plan = again(tmp_path)
    assert plan.identity == old.identity and plan.job.model.dtype == "bf16"
    run.adopt(plan, {})
    assert again(tmp_path, fresh=True).job.model.dtype == "fp32"
    assert again(tmp_path, model__dtype="fp32").job.model.dtype == "fp32"


def test_a_plan_of_an_older_version_has_the_type_that_it_was_made_with(tmp_path):
    """It wrote every default."""
    run = RunDirectory(tmp_path / "runs/kitchen")
    run.adopt(a_plan(tmp_path, model__dtype="bf16"), {})
    assert json.loads(run.plan_file.read_text())["job"]["model"]["dtype"] == "bf16"
    assert run.plan().job.model.dtype == run.job().model.dtype == "bf16"


@pytest.mark.parametrize(
    ("flags", "has"),
    [
        ("flags\t\t: fpu avx2 fma", False),
        ("flags\t\t: fpu avx2 avx512_bf16", True),
        ("flags\t\t: fpu amx_bf16 amx_tile", True),
        ("Features\t: fp asimd bf16", True),
        ("Features\t: fp asimd", False),
        ("nothing of the kind", True),
    ],
)
def test_a_processor_says_whether_it_has_bf16(tmp_path, flags, has):
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\n{flags}\nbogomips\t: 1\n")
    assert precision.processor_has_bf16(tmp_path / "cpuinfo") is has
    assert precision.processor_has_bf16(tmp_path / "missing")


@pytest.mark.parametrize("has", [True, False])
def test_bf16_on_a_processor_without_it_is_noted(tmp_path, monkeypatch, has):
    monkeypatch.setattr(precision, "processor_has_bf16", lambda: has)
    slow = [note for note in planner.notes(a_plan(tmp_path, model__dtype="bf16")) if "bf16" in note]
    assert bool(slow) is not has
    assert not [note for note in planner.notes(a_plan(tmp_path)) if "bf16" in note]


def test_a_gpu_without_bf16_gets_fp32_and_a_note(tmp_path):
    plan = a_plan(tmp_path, hardware__gpu="t4-16gb")
    assert plan.job.model.dtype == "fp32"
    assert [note for note in planner.notes(plan) if "fp16 takes less memory" in note]
    assert not [note for note in planner.notes(a_plan(tmp_path, hardware__gpu="a100-80gb")) if "fp16" in note]
