"""`python -m hatrain.train RUN`: one rank of one attempt, started by torchrun. It reports its exit in a file."""

import faulthandler
import os
import signal
import sys
import traceback
from pathlib import Path

from hatrain.contract.plan import Plan
from hatrain.contract.run import Attempt, Exit, RunDirectory
from hatrain.contract.stage import full_disk
from hatrain.errors import BadInput
from hatrain.model.quiet import quiet
from hatrain.runtime import reserve, stop, streams
from hatrain.runtime.waiting import waiting


def main(folder: str, number: str) -> Exit:
    """Run this rank and return its exit code; the reason is in `rank-R.json`."""
    run = RunDirectory(Path(folder))
    attempt = Attempt(run.attempts / number)
    stop.on_signals(attempt.request_stop)
    # On this signal the watchdog gets the stacks of a rank that hangs, even within C.
    faulthandler.register(signal.SIGUSR2, file=2, all_threads=True)
    rank = int(os.environ.get("RANK", "0"))
    _unset_single_rank()
    code, reason = Exit.FAULT, "ended unexpectedly"
    plan, decides = None, False
    try:
        plan = run.plan()
        with waiting("loading torch and transformers"):
            quiet()
            from hatrain.train.flow import train

        code, reason = train(plan, run, attempt)
    except BadInput as error:
        code, reason = Exit.FATAL, "\n".join(error.problems)
    except BaseException as error:
        # The disk is full on one rank, and the others fault because it leaves.
        decides = reserve.is_full(error)
        code, reason = full_disk(run, error) if decides else _outcome(error, plan, run, attempt)
        if code is Exit.FAULT:
            traceback.print_exc()
    finally:
        attempt.report_exit(rank, code, reason, decides=decides)
    if code in (Exit.FATAL, Exit.FAULT) or decides:
        print(reason, file=sys.stderr, flush=True)
    return code


def _unset_single_rank() -> None:
    """A single rank needs no process group. With torchrun's variables accelerate would create one and use DDP."""
    if os.environ.get("WORLD_SIZE") == "1":
        for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
            os.environ.pop(name, None)


def status(code: Exit, others_wait: bool) -> int:
    """The exit status of this process. hatrain.entry reads the rank's report. On a stop the status must be 0: torchrun
    would print a traceback, and kill the ranks that are still saving. It must end those that wait for this one
    (`others_wait`) where this one leaves alone, for a full disk."""
    return int(code) if code in (Exit.FATAL, Exit.FAULT) or others_wait else 0


def _outcome(error: BaseException, plan: Plan | None, run: RunDirectory, attempt: Attempt) -> tuple[Exit, str]:
    """Only what a retry cannot fix is fatal."""
    import torch

    from hatrain.train import peak
    from hatrain.train.stop import Superseded
    from hatrain.train.trainer import NotFiniteError

    if isinstance(error, Superseded):
        return Exit.REQUEUE, str(error)
    if isinstance(error, NotFiniteError):
        return (
            Exit.FATAL,
            f"{error}: training diverged; lower method.learning_rate, raise learning_rate_warmup, or correct the "
            "rows; method.skip_steps allows some such steps",
        )
    if isinstance(error, torch.OutOfMemoryError) and plan is not None:
        peak.record(plan, run, attempt, ended="out of memory")
        return Exit.FATAL, peak.out_of_memory(plan, error)
    return Exit.FAULT, f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    streams.write_whole_lines()
    number = os.environ["HATRAIN_ATTEMPT"]
    ranks = int(os.environ.get("WORLD_SIZE", "1"))
    code = main(sys.argv[1], number)
    is_stop = Attempt(RunDirectory(Path(sys.argv[1])).attempts / number).stop() is not None
    sys.exit(status(code, others_wait=ranks > 1 and code is Exit.REQUEUE and not is_stop))
