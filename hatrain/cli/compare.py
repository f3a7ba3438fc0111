"""`hatrain compare`: two runs side by side, with the differences between their jobs and the results of each."""

import argparse

from hatrain.cli.columns import aligned
from hatrain.cli.jobs import submitted_run
from hatrain.contract.spec import leaves


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("a", metavar="A", help="name or folder of a run")
    parser.add_argument("b", metavar="B", help="name or folder of another run")


def run(args: argparse.Namespace) -> int:
    from hatrain.cli import summary

    runs = [submitted_run(args.a), submitted_run(args.b)]
    names = [each.name for each in runs]
    jobs = [dict(leaves(each.directory.plan().job.model_dump(mode="json"))) for each in runs]
    keys = [key for key in dict.fromkeys([*jobs[0], *jobs[1]]) if key != "name"]
    different = [(key, *(_cell(job.get(key)) for job in jobs)) for key in keys if jobs[0].get(key) != jobs[1].get(key)]
    results = [summary.results(each.directory) for each in runs]
    result_rows = [
        (name, *(result.get(name, "-") for result in results)) for name in dict.fromkeys([*results[0], *results[1]])
    ]
    state = ("state", *(each.status.state for each in runs))
    job_rows = [("JOB", *names), *different] if different else [("JOB", "the same", "")]
    print(aligned([*job_rows, ("", "", ""), ("RUN", *names), state, *result_rows]))
    return 0


def _cell(value: object) -> str:
    return "-" if value is None else str(value)
