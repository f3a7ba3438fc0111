"""`hatrain memory report`: what runs were predicted to need of their GPUs, beside what they needed."""

import argparse
import statistics

from hatrain.cli.columns import aligned
from hatrain.contract.gpus import GIB
from hatrain.contract.run import all_runs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=["report"], help="report: predictions against peaks, of all runs")


def run(args: argparse.Namespace) -> int:
    print(report())
    return 0


def report() -> str:
    """One line for each attempt that recorded a peak, and the median error."""
    rows = [["RUN", "ATTEMPT", "DEVICE", "PREDICTED", "PEAK", "RESERVED", "ERROR", "ENDED"]]
    errors = []
    for directory in all_runs():
        for event in directory.events():
            if event.get("event") != "memory":
                continue
            predicted, peak = event.get("predicted"), event["allocated"]
            error = predicted / peak - 1 if predicted and peak else None
            # A run that ran out of memory never reached its peak.
            if error is not None and event["ended"] == "trained":
                errors.append(abs(error))
            rows.append(
                [
                    directory.name,
                    str(event["attempt"]),
                    event["device"],
                    f"{predicted / GIB:.2f} GiB" if predicted else "-",
                    f"{peak / GIB:.2f} GiB",
                    f"{event['reserved'] / GIB:.2f} GiB",
                    f"{error:+.1%}" if error is not None else "-",
                    event["ended"],
                ]
            )
    if len(rows) == 1:
        return "no run has recorded a peak: only GPUs have one"
    summary = f"median error {statistics.median(errors):.1%} of {len(errors)}" if errors else "no run was trained"
    return f"{aligned(rows)}\n{summary}"
