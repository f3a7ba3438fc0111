"""A stage after training, as a process of its own: it hears a stop, and reports its exit code and the reason."""

import traceback
from collections.abc import Callable
from pathlib import Path

from hatrain.contract.plan import Plan
from hatrain.contract.run import Attempt, Exit, RunDirectory
from hatrain.errors import BadInput
from hatrain.runtime import checkpoints, reserve, seal, stop

Work = Callable[[Plan, RunDirectory, Attempt], tuple[Exit, str]]
"""What a stage does. It returns its exit code and the reason, and raises BadInput for what no retry can fix."""


def run_stage(name: str, folder: str, number: str, work: Work) -> Exit:
    """Do a stage of the run in `folder`, in its attempt `number`, and return the exit code. The reason is in
    `rank-NAME.json`."""
    run = RunDirectory(Path(folder))
    attempt = Attempt(run.attempts / number)
    stop.on_signals(attempt.request_stop)
    code, reason = Exit.FAULT, "ended unexpectedly"
    try:
        code, reason = work(run.plan(), run, attempt)
    except BadInput as error:
        code, reason = Exit.FATAL, "\n".join(error.problems)
    except Exception as error:
        if reserve.is_full(error):
            code, reason = full_disk(run, error)
        else:
            traceback.print_exc()
            reason = f"{type(error).__name__}: {error}"
    finally:
        attempt.report_exit(name, code, reason)
    return code


def full_disk(run: RunDirectory, error: BaseException) -> tuple[Exit, str]:
    """Return how a process ends that found a disk full: queue again, for room may come. The next attempt does not start
    before there is some."""
    file = getattr(error, "filename", None)
    folder = run.folder if not isinstance(file, str) or Path(file).is_relative_to(run.folder) else Path(file).parent
    steps = [step for step, path in checkpoints.by_step(run.checkpoints) if seal.verify(path, checksums=False) is None]
    safe = f"checkpoint-{steps[-1]} is whole" if steps else "no checkpoint was sealed yet"
    free = f"{(reserve.free_bytes(folder) or 0) / 2**20:.1f} MiB free"
    return Exit.REQUEUE, (
        f"the disk of {folder} is full ({free}); free some space, or lower checkpoints.save_total_limit; {safe}"
    )


def stopped(attempt: Attempt, while_doing: str) -> tuple[Exit, str]:
    """Return how a stage ends that a stop cut short."""
    request = attempt.stop()
    code = Exit.REQUEUE if request is None or request.requeue else Exit.STOPPED
    return code, f"stopped while {while_doing}"
