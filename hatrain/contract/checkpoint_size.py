"""How many bytes a checkpoint takes: of one that is there, or as the plan tells before the first is written."""

import json
from pathlib import Path

from hatrain.contract import model_ref
from hatrain.contract.plan import Plan
from hatrain.contract.run import RunDirectory
from hatrain.errors import BadInput
from hatrain.runtime import checkpoints

FP32 = 4
"""Bytes of a trained weight."""
STATE = {"adamw": 2 * FP32, "adamw_8bit": 2, "paged_adamw_8bit": 2, "adafactor": 0}
"""Bytes of a trained weight in the optimizer's state."""
_DTYPES = {"float32": 4, "float16": 2, "bfloat16": 2}


def next_checkpoint(run: RunDirectory, plan: Plan | None) -> int:
    """Return the bytes of a run's newest checkpoint; before there is one, what the plan tells, and 0 where it does not
    tell."""
    for _, path in reversed(checkpoints.by_step(run.checkpoints)):
        if size := sum(file.stat().st_size for file in path.rglob("*") if file.is_file()):
            return size
    return _predicted(plan, run) if plan else 0


def _predicted(plan: Plan, run: RunDirectory) -> int:
    if plan.memory:
        return plan.memory.checkpoint
    if plan.job.method.lora:
        return 0
    return _weights_of_base(plan, run) * (FP32 + STATE[plan.job.method.optimizer])


def _weights_of_base(plan: Plan, run: RunDirectory) -> int:
    """The weights of a base that is a folder, from the size of its files."""
    try:
        folder = model_ref.find_folder(plan.job.model.base, workdir=Path(plan.paths.workdir), runs_root=run.root)
        if folder is None:
            return 0
        config = json.loads((folder / "config.json").read_bytes())
        dtype = config.get("dtype") or config.get("torch_dtype")
        return sum(file.stat().st_size for file in folder.glob("*.safetensors")) // _DTYPES.get(str(dtype), FP32)
    except (BadInput, OSError, ValueError, AttributeError):
        return 0
