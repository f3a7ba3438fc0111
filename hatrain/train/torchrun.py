"""torchrun, as `python -m hatrain.train.torchrun`, without its traceback where a rank fails: the ranks say why, in a
line and in their exit reports."""

import logging
import sys

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import parse_args, run

REPORTED = (75, 78, 130)
"""Exit codes of a rank that has said why it ended."""


def main(arguments: list[str]) -> int:
    """Returns 0, or 1 where a rank failed or all were ended by a signal."""
    # The same failure again, with the address of each process.
    logging.getLogger("torch.distributed.elastic.multiprocessing.api").setLevel(logging.CRITICAL)
    try:
        run(parse_args(arguments))
    except SignalException as error:
        print(f"hatrain: the ranks of this node are ended by {error.sigval.name}", file=sys.stderr)
        return 1
    except ChildFailedError as error:
        for rank, failure in sorted(error.failures.items()):
            if failure.exitcode not in REPORTED:
                print(f"hatrain: rank {rank} on this node ended with exit code {failure.exitcode}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
