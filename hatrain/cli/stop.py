"""`hatrain stop`: ask a run to save a checkpoint and exit for good. It kills nothing."""

import argparse
import sys

from hatrain.cli.jobs import SubmittedRun, add_run, submitted_runs
from hatrain.errors import BadInput
from hatrain.runtime import provenance


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_run(parser)


def run(args: argparse.Namespace) -> int:
    """Returns 1 if a run cannot be stopped, for example because it has ended."""
    code = 0
    for target in submitted_runs(args.run):
        try:
            print(f"{target.name}: {_stop(target)}")
        except BadInput as error:
            print("\n".join(error.problems), file=sys.stderr)
            code = 1
    return code


def _stop(target: SubmittedRun) -> str:
    status = target.status
    if status.state == "unknown":
        raise BadInput(f"{target.name}: its state is not known: {status.reason}")
    if not status.alive:
        raise BadInput(f"{target.name}: {_in_words(status.state)}; there is nothing to stop")
    reason = f"hatrain stop by {provenance.user()}"
    if status.job is None:
        from launch.backends.shared_files import stop_by_file

        return stop_by_file(target.directory, reason)
    return target.client.stop(status.job, target.directory, reason)


def _in_words(state: str) -> str:
    return f"has {state}" if state in ("finished", "stopped", "failed") else f"is {state}"
