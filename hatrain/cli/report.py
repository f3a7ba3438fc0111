"""`hatrain report`: one HTML page about a run, or about several side by side."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "runs", metavar="RUN", nargs="+", help="name or folder of a run, or of a sweep; several are set side by side"
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="where to write the page (default: report.html in the run's or the sweep's folder; for several, here)",
    )


def run(args: argparse.Namespace) -> int:
    from hatrain.contract.run import find_runs
    from hatrain.errors import BadInput
    from hatrain.report.page import missing, report
    from hatrain.runtime import seal
    from hatrain.runtime.waiting import waiting

    if problem := missing():
        raise BadInput(f"hatrain report: {problem}")
    if args.out is not None and args.out.is_dir():
        raise BadInput(f"--out {args.out}: found a folder; accepted: a file, such as {args.out / 'report.html'}")
    found = [find_runs(name) for name in args.runs]
    runs = list({each.folder: each for group in found for each in group}.values())
    if len(runs) == 1:
        out = runs[0].report
    elif len(found) == 1:
        out = runs[0].folder.parents[1] / "report.html"
    else:
        out = Path("report.html")
    title = ", ".join(dict.fromkeys(args.runs))
    out = args.out or out
    with waiting("writing the report"):
        seal.write_text(out, report(runs, title))
    print(out)
    return 0
