"""The commands in the comment at the head of a job file: what makes its rows, and what starts it."""

import re
from collections.abc import Iterable
from pathlib import Path

from hatrain.contract.load import find_job, read_source


def commands(job: Path) -> list[str]:
    """Return them in order. A command stands five spaces after the `#`."""
    lines = read_source(job).splitlines()
    head = next((number for number, line in enumerate(lines) if line and not line.startswith("#")), len(lines))
    return [found[1] for line in lines[:head] if (found := re.match(r"# {5}(\S.*)", line))]


def makes_missing(job: str | None, problems: Iterable[str]) -> list[str]:
    """Return a line for each command of a job file that makes its rows, if rows are among what is missing. `job` is as
    on the command line; None where there is no file."""
    if job is None or job == "-" or not any(problem.startswith("data.") for problem in problems):
        return []
    return [
        f"to make the rows: {command}" for command in commands(find_job(job)) if command.startswith("hatrain data ")
    ]
