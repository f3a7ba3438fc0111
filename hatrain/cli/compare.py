"""`hatrain compare`: two runs side by side: what sets their jobs apart, and what each came to."""

import argparse

from hatrain.cli.columns import aligned
from hatrain.cli.jobs import one
from hatrain.contract.spec import leaves


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.add_argument("a", metavar="A", help="a run's name, or its folder")
    parser.add_argument("b", metavar="B", help="another's")


def run(args: argparse.Namespace) -> int:
    """Print what differs in the jobs, then what the runs came to."""
    from hatrain.cli import summary

    sides = [one(args.a), one(args.b)]
    names = [side.run.name for side in sides]
    jobs = [dict(leaves(side.run.plan().job.model_dump(mode="json"))) for side in sides]
    keys = [key for key in dict.fromkeys([*jobs[0], *jobs[1]]) if key != "name"]
    differing = [
        (key, *(_said(job.get(key)) for job in jobs)) for key in keys if jobs[0].get(key) != jobs[1].get(key)
    ]
    results = [summary.results(side.run) for side in sides]
    came = [
        (what, *(result.get(what, "-") for result in results))
        for what in dict.fromkeys([*results[0], *results[1]])
    ]
    state = ("state", *(side.now.word for side in sides))
    blocks = [("JOB", *names), *differing] if differing else [("JOB", "the same", "")]
    print(aligned([*blocks, ("", "", ""), ("RUN", *names), state, *came]))
    return 0


def _said(value: object) -> str:
    return "-" if value is None else str(value)
