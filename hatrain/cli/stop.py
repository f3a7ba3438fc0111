"""`hatrain stop`: asks a run to save a checkpoint and leave, for good. It kills nothing."""

import argparse
import sys

from hatrain.cli.jobs import Known, add_run, known
from hatrain.errors import BadInput
from hatrain.runtime import provenance


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    add_run(parser)


def run(args: argparse.Namespace) -> int:
    """Ask the live attempt of the run, or of each run of a sweep. Returns 1 when there is nothing to stop."""
    code = 0
    for there in known(args.run):
        try:
            print(f"{there.run.name}: {_stop(there)}")
        except BadInput as error:
            print("\n".join(error.problems), file=sys.stderr)
            code = 1
    return code


def _stop(there: Known) -> str:
    now = there.now
    if not now.alive:
        raise BadInput(f"{there.run.name}: {_is(now.word)}; there is nothing to stop")
    reason = f"hatrain stop by {provenance.user()}"
    if now.job is None:
        from launch.backends.local.client import stop_by_file

        return stop_by_file(there.run, reason)
    return there.speaker.stop(now.job, there.run, reason)


def _is(word: str) -> str:
    return {"finished": "has finished", "stopped": "has stopped", "failed": "has failed"}.get(
        word, f"is {word}"
    )
