"""One rank under torchrun that makes several attempts in a row, because starting takes most of the time: `python -m
tests.train.ranks '[[RUN, ATTEMPT, STOP_AT, SPOILED], …]'`. It writes the strategy that ran to
attempts/N/ran-RANK.json."""

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState
from torch.distributed.tensor import DTensor

from hatrain.contract.run import Attempt, Exit
from hatrain.runtime.stop import Stop
from hatrain.train import flow
from hatrain.train.__main__ import main
from hatrain.train.looks import Looks
from hatrain.train.trainer import FlowCallback, StepTrainer
from tests import cpu_fsdp
from tests.train.conftest import spoil_gradient

EXPECTED = (Exit.FINISHED, Exit.REQUEUE, Exit.FATAL)


def attempt(folder: str, number: int, stop_at: int | None, spoiled: int | None) -> Exit:
    """Make one attempt, with a stop after step `stop_at`. In step `spoiled` the last rank's gradient is not finite.
    What looks find comes from FOLDER/script.json, by step, where there is one."""
    this_attempt = Attempt(Path(folder) / "attempts" / str(number))
    begin, training_step, prepare = FlowCallback.on_train_begin, StepTrainer.training_step, flow.prepare
    read: list[float] = []

    def report(self: FlowCallback, *args: Any, **kwargs: Any) -> None:
        # Before any forward pass: FSDP frees the last gathered parameters only in the next one.
        (this_attempt.folder / f"ran-{os.environ['RANK']}.json").write_text(
            json.dumps({**what_ran(self.trainer), "read": read[0]})
        )
        begin(self, *args, **kwargs)

    def stopping(self: StepTrainer, *args: Any, **kwargs: Any) -> torch.Tensor:
        loss = training_step(self, *args, **kwargs)
        if self.state.global_step + 1 == stop_at and os.environ["RANK"] == "0":
            this_attempt.request_stop(Stop("the test", requeue=True))
        return loss

    def prepared(*args: Any, **kwargs: Any) -> Any:
        model, added = prepare(*args, **kwargs)
        read.append(_share_held(model))
        return model, added

    FlowCallback.on_train_begin, StepTrainer.training_step, flow.prepare = report, stopping, prepared
    try:
        with fresh_process_state(), pytest.MonkeyPatch.context() as patch:
            scripted(patch, Path(folder) / "script.json")
            if int(os.environ["RANK"]) == int(os.environ["WORLD_SIZE"]) - 1:
                spoil_gradient(patch, spoiled)
            return main(folder, str(number))
    finally:
        FlowCallback.on_train_begin, StepTrainer.training_step, flow.prepare = begin, training_step, prepare


def scripted(patch: pytest.MonkeyPatch, file: Path) -> None:
    """Let looks find what a file says, after they have looked."""
    if not file.exists():
        return
    script, original = json.loads(file.read_text()), Looks.figures

    def figures(self: Looks) -> dict[str, float] | None:
        found = original(self)
        return found and {**found, **script[str(self.trainer.state.global_step)]}

    patch.setattr(Looks, "figures", figures)


@contextlib.contextmanager
def fresh_process_state() -> Iterator[None]:
    """Reset what an attempt configured in accelerate and transformers, so that the next can use another strategy. The
    process group stays."""
    environment = dict(os.environ)
    try:
        yield
    finally:
        from transformers.integrations.deepspeed import unset_hf_deepspeed_config

        os.environ.clear()
        os.environ.update(environment)
        AcceleratorState._reset_state(reset_partial_state=True)
        unset_hf_deepspeed_config()


def what_ran(trainer: StepTrainer) -> dict[str, Any]:
    """The strategy, by accelerate's state and by the parameters: how many there are, how many are sharded, and this
    rank's share of the weights (`held`) and of what the optimizer steps on (`stepped`)."""
    wrapped = trainer.model_wrapped
    parameters = list(wrapped.parameters())
    trained = sum(_size(parameter) for parameter in parameters if parameter.requires_grad)
    optimizer = trainer.optimizer.optimizer
    stepped = getattr(optimizer, "fp32_partitioned_groups_flat", None) or [
        parameter for group in optimizer.param_groups for parameter in group["params"]
    ]
    return {
        "distributed_type": trainer.accelerator.distributed_type.value,
        "wrapper": type(wrapped).__name__,
        "stage": wrapped.zero_optimization_stage() if trainer.is_deepspeed_enabled else None,
        "shards_gradients": type(optimizer).__name__ == "DeepSpeedZeroOptimizer_Stage3"
        or getattr(optimizer, "partition_gradients", False),
        "optimizer": type(getattr(optimizer, "optimizer", optimizer)).__name__,
        "offload": _offload(wrapped) if trainer.is_deepspeed_enabled else "none",
        "parameters": len(parameters),
        "sharded": sum(isinstance(p, DTensor) or _is_partitioned(p) for p in parameters),
        "largest_whole": max(
            (_size(p) for p in parameters if not (isinstance(p, DTensor) or _is_partitioned(p))), default=0
        ),
        "hidden": trainer.model.config.hidden_size,
        "held": _share_held(wrapped),
        "stepped": sum(map(_held, stepped)) / trained,
        "dtypes": sorted({str(p.dtype) for p in parameters}),
        "buffers": sorted({str(buffer.dtype) for buffer in wrapped.buffers()}),
    }


def _offload(engine: Any) -> str:
    """What DeepSpeed's engine offloads, as `hardware.offload`."""
    kept = [
        part is not None and part.device == "cpu"
        for part in (engine.zero_offload_optimizer(), engine.zero_offload_param())
    ]
    return {(True, True): "all", (True, False): "optimizer", (False, False): "none"}[tuple(kept)]


def _is_partitioned(parameter: torch.nn.Parameter) -> bool:
    """Whether ZeRO-3 sharded a parameter, and it is not gathered."""
    return hasattr(parameter, "ds_status") and parameter.ds_status.name == "NOT_AVAILABLE"


def _held(parameter: torch.nn.Parameter) -> int:
    """Elements of a parameter in this rank's memory."""
    if isinstance(parameter, DTensor):
        return parameter.to_local().numel()
    return parameter.ds_tensor.numel() if _is_partitioned(parameter) else parameter.numel()


def _share_held(model: torch.nn.Module) -> float:
    """The share of a model's elements in this rank's memory."""
    parameters = list(model.parameters())
    return sum(map(_held, parameters)) / sum(map(_size, parameters))


def _size(parameter: torch.nn.Parameter) -> int:
    """Elements of a parameter, over all ranks."""
    return getattr(parameter, "ds_numel", parameter.numel())


if __name__ == "__main__":
    cpu_fsdp.switch_on()
    for folder, number, stop_at, spoiled in json.loads(sys.argv[1]):
        torch.seed()  # earlier attempts in this process must not matter
        if attempt(folder, number, stop_at, spoiled) not in EXPECTED:
            sys.exit(1)
