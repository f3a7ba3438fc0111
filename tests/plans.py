"""Jobs and plans for tests: complete, tiny, on plain processors."""

from pathlib import Path
from typing import Any

from hatrain.contract.cluster import ClusterSpec, LocalCluster
from hatrain.contract.plan import Plan
from hatrain.contract.spec import JobSpec
from launch.planner import plan


def a_job(**changes: Any) -> JobSpec:
    """Return a job; `method__batch_size=4` sets a key of a part, `name="x"` one of the job."""
    written: dict[str, Any] = {
        "name": "kitchen",
        "model": {"base": "some/base"},
        "data": {"train": "train.jsonl"},
        "hardware": {"gpu": "cpu"},
    }
    for key, value in changes.items():
        at = written
        *parts, last = key.split("__")
        for part in parts:
            at = at.setdefault(part, {})
        at[last] = value
    return JobSpec.model_validate(written)


def a_cluster(**changes: Any) -> LocalCluster:
    """Return a cluster on this machine."""
    return LocalCluster.model_validate({"kind": "local", **changes})


def a_plan(folder: Path, cluster: ClusterSpec | None = None, rows: int = 8, **changes: Any) -> Plan:
    """Return the plan of a job whose rows are made in `folder`, and whose runs go to `folder/runs`."""
    (folder / "train.jsonl").write_text('{"text": "hello"}\n' * rows, encoding="utf-8")
    job = a_job(**changes)
    return plan(job, cluster or a_cluster(), "local", workdir=folder, runs_root=folder / "runs")
