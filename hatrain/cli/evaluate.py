"""`hatrain evaluate`: asks a model each request of a dataset and writes what came of it."""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from hatrain.errors import BadInput
from hatrain.runtime import seal

if TYPE_CHECKING:
    from hatrain.data.rows import Row
    from hatrain.evaluate import Evaluation
    from hatrain.evaluate.sources import Source


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the verb takes."""
    parser.add_argument(
        "model", metavar="MODEL", help="a model, adapter or checkpoint folder, a run's name, a hub id"
    )
    parser.add_argument(
        "--dataset", type=Path, required=True, metavar="FILE", help="the requests, with their answers"
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="where evaluation.json and failures.jsonl go (default: in the run)",
    )
    parser.add_argument(
        "--batch-size", type=_positive, default=32, metavar="N", help="requests at a time (32)"
    )
    parser.add_argument("--limit", type=_positive, metavar="N", help="judge N rows, drawn at random")
    parser.add_argument("--seed", type=int, default=42, metavar="N", help="of that draw (42)")
    parser.add_argument(
        "--all-checkpoints", action="store_true", help="judge every checkpoint of the run MODEL"
    )


def run(args: argparse.Namespace) -> int:
    """Evaluate, print a table, write the files."""
    from hatrain.data.rows import read_rows
    from hatrain.model.quiet import quiet

    quiet()
    from hatrain.evaluate.requests import sample
    from hatrain.evaluate.sources import find_checkpoints, find_source
    from hatrain.evaluate.table import show

    rows = list(read_rows(args.dataset))
    if args.limit is not None:
        rows = sample(rows, args.limit, args.seed)
    if args.all_checkpoints:
        sources, passed_over = find_checkpoints(args.model)
        print("\n".join(passed_over), end="\n" if passed_over else "", file=sys.stderr)
    else:
        sources = [find_source(args.model)]
    out = args.out or _default_out(sources[0], args.dataset)
    evaluations: dict[str, Evaluation] = {}
    for source in sources:
        evaluations[source.name] = _evaluate(source, rows, args.batch_size)
        folder = out / source.name if args.all_checkpoints else out
        _write(folder, source, args.dataset, evaluations[source.name])
    if args.all_checkpoints:
        seal.write_json(out / "evaluation.json", {name: each.to_dict() for name, each in evaluations.items()})
    show(evaluations)
    print(out / "evaluation.json")
    return 0


def _evaluate(source: "Source", rows: "list[Row]", batch_size: int) -> "Evaluation":
    import torch

    from hatrain.evaluate import evaluate_model
    from hatrain.evaluate.sources import load

    model, tokenizer = load(source)
    try:
        with _progress(source.name) as progress:
            return evaluate_model(model, tokenizer, rows, batch_size=batch_size, progress=progress)
    except torch.OutOfMemoryError:
        raise BadInput(
            f"--batch-size: {batch_size} requests at a time do not fit on the GPU; try fewer"
        ) from None


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"found {text!r}, accepted: a whole number above 0")
    return int(text)


def _default_out(source: "Source", dataset: Path) -> Path:
    """A run keeps its evaluations; anything else has them in ./evaluations."""
    stem = dataset.name.removesuffix(".gz").rpartition(".")[0] or dataset.name
    if source.run is not None:
        return source.run.folder / "evaluations" / stem
    return Path("evaluations") / source.name.replace("/", "--") / stem


def _write(folder: Path, source: "Source", dataset: Path, evaluation: "Evaluation") -> None:
    figures = {"model": source.location, "dataset": str(dataset), **evaluation.to_dict()}
    failures = [json.dumps(failure, ensure_ascii=False) + "\n" for failure in evaluation.failures()]
    seal.write_text(folder / "failures.jsonl", "".join(failures))
    seal.write_json(folder / "evaluation.json", figures)


@contextmanager
def _progress(name: str) -> Iterator[Callable[[int, int], None]]:
    """Give a function that shows (done, total) on stderr: a bar on a terminal, else a line for each tenth."""
    if not sys.stderr.isatty():
        yield _lines(name)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(name), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(name, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _lines(name: str) -> Callable[[int, int], None]:
    told = -1

    def tell(done: int, total: int) -> None:
        nonlocal told
        if (tenth := done * 10 // total) > told:
            told = tenth
            print(f"{name}: {done} of {total} requests", file=sys.stderr)

    return tell
