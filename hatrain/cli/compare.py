"""`hatrain compare`: two runs side by side, or the runs of a sweep, the best first."""

import argparse
import json
from collections.abc import Iterator, Sequence
from typing import Any

from hatrain.cli import columns
from hatrain.cli.columns import aligned
from hatrain.cli.jobs import SubmittedRun, submitted_run, submitted_runs
from hatrain.errors import BadInput
from hatrain.report.read import RunFacts, read_run
from hatrain.report.several import RESULTS, best_first, different, results, shown


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("a", metavar="A", nargs="?", help="name or folder of a run")
    parser.add_argument("b", metavar="B", nargs="?", help="name or folder of another run")
    parser.add_argument("--sweep", metavar="NAME", help="compare the runs of this sweep instead, the best first")
    parser.add_argument(
        "--json", action="store_true", help="print the runs, the keys in which they differ, and all results"
    )


def run(args: argparse.Namespace) -> int:
    if args.sweep is not None:
        if args.a is not None:
            raise BadInput("hatrain compare: accepted: A and B, or --sweep NAME")
        targets = submitted_runs(args.sweep)
        if len(targets) == 1:
            raise BadInput(f"--sweep {args.sweep}: is one run; accepted: the name of a sweep, or A and B")
        print(_json(targets, best_first(_read(targets))) if args.json else of_sweep(targets, columns.width()))
        return 0
    if args.b is None:
        raise BadInput("hatrain compare: accepted: the names of two runs, or --sweep NAME")
    targets = [submitted_run(args.a), submitted_run(args.b)]
    print(_json(targets, _read(targets)) if args.json else _side_by_side(targets))
    return 0


def _read(targets: Sequence[SubmittedRun]) -> list[RunFacts]:
    return [read_run(target.directory) for target in targets]


def of_sweep(targets: Sequence[SubmittedRun], within: int | None = None) -> str:
    """A line for each run of a sweep, the best first. Where not all columns fit, the last ones are left out."""
    states = {target.name: target.status.state for target in targets}
    runs = best_first(_read(targets))
    keys = different([each.plan.job for each in runs])
    found = [_column("RUN", [each.name.rpartition("/")[2] for each in runs])]
    found += [_column(_short(key, [*keys]), map(shown, values)) for key, values in keys.items()]
    found.append(_column("STATE", [states[each.name] for each in runs]))
    found += [_column(result.short, map(result.text, runs)) for result in RESULTS.values()]
    found = [column for column in found if any(cell != "-" for cell in column[1:])]
    kept = list(_that_fit(found, within))
    left_out = f"\n(not shown: {', '.join(column[0] for column in found[len(kept) :])}; --json has all)"
    text = f"{targets[0].name.partition('/')[0]}, the best first\n{aligned(zip(*kept, strict=True))}"
    return text + (left_out if len(kept) < len(found) else "")


def _column(title: str, cells: Any) -> list[str]:
    return [title, *(cell or "-" for cell in cells)]


def _that_fit(found: Sequence[list[str]], within: int | None) -> Iterator[list[str]]:
    used = -2
    for column in found:
        used += max(map(len, column)) + 2
        if within is not None and used > within:
            return
        yield column


def _short(key: str, keys: Sequence[str]) -> str:
    """The last part of a key, where no other key ends in it."""
    last = key.rpartition(".")[2]
    return last if sum(other.rpartition(".")[2] == last for other in keys) == 1 else key


def _json(targets: Sequence[SubmittedRun], runs: Sequence[RunFacts]) -> str:
    states = {target.name: target.status.state for target in targets}
    keys = different([each.plan.job for each in runs])
    listed = [
        {
            "run": each.name,
            "state": states[each.name],
            "different": {key: values[place] for key, values in keys.items()},
            "results": results(each),
        }
        for place, each in enumerate(runs)
    ]
    return json.dumps(listed, indent=2, ensure_ascii=False)


def _side_by_side(targets: Sequence[SubmittedRun]) -> str:
    from hatrain.cli import summary

    names = [each.name for each in targets]
    keys = different([each.directory.plan().job for each in targets])
    job_rows = [(key, *(shown(value) or "-" for value in values)) for key, values in keys.items()]
    found = [summary.results(each.directory) for each in targets]
    result_rows = [(name, *(each.get(name, "-") for each in found)) for name in dict.fromkeys([*found[0], *found[1]])]
    state = ("state", *(each.status.state for each in targets))
    job_rows = [("JOB", *names), *job_rows] if job_rows else [("JOB", "the same", "")]
    rows = [*job_rows, ("", "", ""), ("RUN", *names), state, *result_rows]
    return columns.folded(rows, columns.width())
