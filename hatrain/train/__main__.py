"""`python -m hatrain.train RUN`: one rank of one attempt, as torchrun starts it. It leaves its outcome in a file."""

import os
import sys
import traceback
from pathlib import Path

from hatrain.contract.run import Attempt, Exit, RunDirectory
from hatrain.errors import BadInput
from hatrain.model.quiet import quiet
from hatrain.train import stop


def main(folder: str, number: str) -> Exit:
    """Run this rank and return its code; the reason is in `rank-R.json`."""
    run = RunDirectory(Path(folder))
    attempt = Attempt(run.attempts / number)
    stop.listen(attempt)
    rank = int(os.environ.get("RANK", "0"))
    _forget_a_world_of_one()
    code, reason = Exit.FAULT, "died"
    try:
        plan = run.plan()
        quiet()
        from hatrain.train.flow import train

        code, reason = train(plan, run, attempt)
    except BadInput as error:
        code, reason = Exit.FATAL, "\n".join(error.problems)
    except BaseException as error:
        code, reason = _outcome(error)
        if code is Exit.FAULT:
            traceback.print_exc()
    finally:
        attempt.report_exit(rank, code, reason)
    if code in (Exit.FATAL, Exit.FAULT):
        print(reason, file=sys.stderr, flush=True)
    return code


def _forget_a_world_of_one() -> None:
    """torchrun's one rank needs no process group; with these gone nothing makes one, and no DDP wraps the model."""
    if os.environ.get("WORLD_SIZE") == "1":
        for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
            os.environ.pop(name, None)


def status(code: Exit) -> int:
    """Return this process's own exit status. Entry reads the rank's word; torchrun would print its traceback on a
    stop, and end the ranks that are still leaving."""
    return int(code) if code in (Exit.FATAL, Exit.FAULT) else 0


def _outcome(error: BaseException) -> tuple[Exit, str]:
    """Return what an exception means for the run: only what cannot pass by trying again is fatal."""
    import torch

    from hatrain.train.trainer import NotFiniteError

    if isinstance(error, NotFiniteError):
        return (
            Exit.FATAL,
            f"{error}: training diverged; lower method.learning_rate or raise learning_rate_warmup",
        )
    if isinstance(error, torch.OutOfMemoryError):
        return Exit.FATAL, (
            "out of GPU memory; lower method.micro_batch_size or ctx_size, set gradient_checkpointing: true, "
            f"or use lora ({str(error).splitlines()[0]})"
        )
    return Exit.FAULT, f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    sys.exit(status(main(sys.argv[1], os.environ["HATRAIN_ATTEMPT"])))
