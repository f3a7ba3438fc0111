"""`hatrain evaluate`: answers the requests of a dataset with a model, judges the answers, and writes the figures."""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from hatrain.cli.tokenizing import positive
from hatrain.contract.inputs import require_file
from hatrain.errors import BadInput
from hatrain.runtime import seal
from hatrain.runtime.counting import Counting
from hatrain.runtime.waiting import waiting

if TYPE_CHECKING:
    from hatrain.data.rows import Row
    from hatrain.evaluate import Evaluation, Progress
    from hatrain.evaluate.sources import Source


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model", metavar="MODEL", help="model, adapter or checkpoint folder, GGUF file, run name, or hub id"
    )
    parser.add_argument(
        "--dataset", type=Path, required=True, metavar="FILE", help="rows with requests and expected answers"
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder for evaluation.json and failures.jsonl (default: in the run)",
    )
    parser.add_argument(
        "--batch-size", type=positive, metavar="N", help="requests at a time, at most (default: as many as have room)"
    )
    parser.add_argument("--limit", type=positive, metavar="N", help="evaluate N rows, drawn at random")
    parser.add_argument("--seed", type=int, default=42, metavar="N", help="seed of --limit (default: 42)")
    parser.add_argument("--chat-template", metavar="FILE", help="Jinja file that replaces the chat template of MODEL")
    parser.add_argument(
        "--add-chatml-tokens", action="store_true", help="add ChatML's tokens and template to a base without them"
    )
    parser.add_argument("--all-checkpoints", action="store_true", help="evaluate every checkpoint of the run MODEL")
    parser.add_argument("--json", action="store_true", help="print all figures of each model as JSON, and no table")


def run(args: argparse.Namespace) -> int:
    from hatrain.model.weights import find_checkpoints, find_source, with_template

    # Before the imports that take seconds.
    require_file(args.dataset)
    if args.all_checkpoints:
        sources, skipped = find_checkpoints(args.model)
        for line in skipped:
            print(line, file=sys.stderr)
    else:
        sources = [find_source(args.model)]
    sources = [with_template(source, args.chat_template, args.add_chatml_tokens) for source in sources]
    from hatrain.model.quiet import quiet

    with waiting("loading torch and transformers"):
        quiet()
        from hatrain.data.rows import read_rows
        from hatrain.evaluate.requests import sample
        from hatrain.evaluate.table import show
        from hatrain.export import card

    rows = list(read_rows(args.dataset))
    if args.limit is not None:
        rows = sample(rows, args.limit, args.seed)
    out = args.out or _default_out(sources[0], args.dataset)
    evaluations: dict[str, Evaluation] = {}
    for source in sources:
        evaluations[source.name] = _evaluate(source, rows, args.batch_size)
        folder = out / source.name if args.all_checkpoints else out
        _write(folder, source, args.dataset, evaluations[source.name])
    if args.all_checkpoints:
        seal.write_json(out / "evaluation.json", {name: each.to_dict() for name, each in evaluations.items()})
    run = sources[0].run
    if run and not args.all_checkpoints and out.parent == run.folder / "evaluations":
        card.write(run)
    if args.json:
        figures = {name: each.to_dict() for name, each in evaluations.items()}
        print(json.dumps(figures, indent=2, ensure_ascii=False))
    else:
        show(evaluations)
        print(out / "evaluation.json")
    return 0


def _evaluate(source: "Source", rows: "list[Row]", batch_size: int | None) -> "Evaluation":
    import torch

    if source.is_gguf:
        return _evaluate_gguf(source, rows)
    from hatrain.evaluate import evaluate_model
    from hatrain.evaluate.sources import load

    model, tokenizer = load(source)
    try:
        with _progress(source.name) as progress:
            return evaluate_model(
                model, tokenizer, rows, batch_size=batch_size, progress=progress, say=_note, today=source.today
            )
    except torch.OutOfMemoryError:
        raise BadInput(
            f"{source.name}: one request of {rows[0].path} does not fit into the GPU's memory beside the model; "
            "use a GPU with more, or export a GGUF file and evaluate that"
        ) from None


def _evaluate_gguf(source: "Source", rows: "list[Row]") -> "Evaluation":
    from hatrain.evaluate.gguf import evaluate_gguf
    from hatrain.llamacpp.model import GgufModel

    with GgufModel(Path(source.location)) as model, _progress(source.name) as progress:
        return evaluate_gguf(model, rows, progress=progress, today=source.today)


def _default_out(source: "Source", dataset: Path) -> Path:
    stem = dataset.name.removesuffix(".gz").rpartition(".")[0] or dataset.name
    if source.run is not None:
        return source.run.folder / "evaluations" / stem
    return Path("evaluations") / source.name.replace("/", "--") / stem


def _write(folder: Path, source: "Source", dataset: Path, evaluation: "Evaluation") -> None:
    figures = {"model": source.location, "dataset": str(dataset), **evaluation.to_dict()}
    failures = [json.dumps(failure, ensure_ascii=False) + "\n" for failure in evaluation.failures()]
    seal.write_text(folder / "failures.jsonl", "".join(failures))
    seal.write_json(folder / "evaluation.json", figures)


def _note(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@contextmanager
def _progress(name: str) -> Iterator["Progress"]:
    """Yield a function that shows how far an evaluation is on stderr: as a bar on a terminal, else in lines."""
    if not sys.stderr.isatty():
        counting = Counting(name, "requests", _note)

        def show(done: int, total: int, work: float) -> None:
            if not work:
                _note(f"{name}: {total:,} requests")
            counting.at(done, total, work)

        yield show
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    count = TextColumn("{task.fields[answered]:,} of {task.total:,} requests, {task.fields[rate]:.1f}/s")
    with Progress(TextColumn(name), BarColumn(), count, TimeRemainingColumn(), console=Console(stderr=True)) as bar:
        started = time.monotonic()
        task = bar.add_task(name, total=0, answered=0, rate=0.0)
        yield lambda done, total, work: bar.update(
            task, completed=work, total=total, answered=done, rate=work / max(time.monotonic() - started, 0.1)
        )
