"""One rank under torchrun that makes several attempts in a row, since starting costs most of their time: `python -m
tests.train.ranks '[[RUN, ATTEMPT, STOP_AT], …]'`. It notes what ran in attempts/N/ran-RANK.json."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
from torch.distributed.tensor import DTensor

from hatrain.run import Attempt, Exit, Stop
from hatrain.train.__main__ import main
from hatrain.train.trainer import StepTrainer
from tests import cpu_fsdp

STOPPED = (Exit.FINISHED, Exit.REQUEUE)


def attempt(folder: str, number: int, stop_at: int | None) -> Exit:
    """Make one attempt, asked to stop once step `stop_at` is done."""
    here = Attempt(Path(folder) / "attempts" / str(number))
    begin, training_step = StepTrainer.begin, StepTrainer.training_step

    def noted(self: StepTrainer) -> None:
        (here.folder / f"ran-{os.environ['RANK']}.json").write_text(json.dumps(what_ran(self)))
        begin(self)

    def stopping(self: StepTrainer, *args: Any, **kwargs: Any) -> torch.Tensor:
        loss = training_step(self, *args, **kwargs)
        if self.state.global_step + 1 == stop_at and os.environ["RANK"] == "0":
            here.request_stop(Stop("the test", requeue=True))
        return loss

    StepTrainer.begin, StepTrainer.training_step = noted, stopping
    try:
        return main(folder, str(number))
    finally:
        StepTrainer.begin, StepTrainer.training_step = begin, training_step


def what_ran(trainer: StepTrainer) -> dict[str, Any]:
    """The strategy as accelerate says it, and as the parameters show it: how many there are, how many are sharded, and
    the share of all numbers that this rank holds."""
    parameters = list(trainer.model_wrapped.parameters())
    local = [p.to_local() if isinstance(p, DTensor) else p for p in parameters]
    return {
        "distributed_type": trainer.accelerator.distributed_type.value,
        "wrapper": type(trainer.model_wrapped).__name__,
        "parameters": len(parameters),
        "sharded": sum(isinstance(p, DTensor) for p in parameters),
        "held": sum(p.numel() for p in local) / sum(p.numel() for p in parameters),
        "dtypes": sorted({str(p.dtype) for p in parameters}),
    }


if __name__ == "__main__":
    cpu_fsdp.switch_on()
    for folder, number, stop_at in json.loads(sys.argv[1]):
        torch.seed()  # what came before in this process must not matter
        if attempt(folder, number, stop_at) not in STOPPED:
            sys.exit(1)
