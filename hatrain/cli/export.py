"""`hatrain export`: writes a model as GGUF files for llama.cpp and Ollama, compared with the model and judged."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from hatrain.contract.spec import GGUF_TYPES, ExportSpec
from hatrain.errors import BadInput, nearest
from hatrain.runtime.waiting import waiting

if TYPE_CHECKING:
    from hatrain.data.rows import Row
    from hatrain.evaluate.sources import Source


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="RUN|MODEL", help="run name, model or adapter folder, or hub id")
    parser.add_argument(
        "--gguf",
        default="f16,q8_0,q4_k_m",
        metavar="TYPES",
        help=f"types of files, with commas between (default: f16,q8_0,q4_k_m; accepted: {', '.join(GGUF_TYPES)})",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: export/ in the run, else export/MODEL")
    parser.add_argument("--no-ollama", action="store_true", help="write no Modelfile")
    parser.add_argument(
        "--dataset", type=Path, metavar="FILE", help="requests to judge by (default: the run's test rows)"
    )
    parser.add_argument(
        "--requests", type=int, default=50, metavar="N", help="rows to judge by; 0 for none (default: 50)"
    )


def run(args: argparse.Namespace) -> int:
    wanted = ExportSpec(gguf=types_of(args.gguf), ollama=not args.no_ollama, requests=max(0, args.requests))
    from hatrain.contract import extras
    from hatrain.export import tools
    from hatrain.model.weights import find_source

    # Before the imports that take seconds.
    if problems := extras.problems("train", "hatrain export"):
        raise BadInput(problems)
    source = find_source(args.model)
    refuse_unfinished(args.model, source)
    if problems := tools.missing():
        raise BadInput(problems)
    from hatrain.model.quiet import quiet

    with waiting("loading torch and transformers"):
        quiet()
        from rich.console import Console
        from rich.table import Table

        from hatrain.export import card
        from hatrain.export.export import Exporter
        from hatrain.export.files import plain_name
        from hatrain.export.table import rows_of

    rows, ctx_size = rows_for(source, args.dataset)
    out = args.out or (source.run.folder / "export" if source.run else Path("export") / plain_name(source.name))
    report = Exporter(source, wanted, out, rows, ctx_size=ctx_size, say=_say).run()
    if source.run and out.resolve() == source.run.export.resolve():
        card.write(source.run)
    header, *lines = rows_of(report)
    table = Table(box=None, pad_edge=False)
    for index, title in enumerate(header):
        table.add_column(title, justify="right" if index else "left")
    for line in lines:
        table.add_row(*line)
    console = Console()
    (console if console.is_terminal else Console(width=110)).print(table)
    if report.not_judged:
        print(f"not judged: {report.not_judged}")
    print(out)
    return 0


def types_of(text: str) -> tuple[str, ...]:
    """Return the types of `--gguf`. Raises BadInput with the nearest right name."""
    names = tuple(part.strip().lower() for part in text.split(",") if part.strip())
    problems = [
        f"--gguf: found {name!r}; accepted: {', '.join(GGUF_TYPES)}{nearest(name, GGUF_TYPES)}"
        for name in names
        if name not in GGUF_TYPES
    ]
    if problems or not names:
        raise BadInput(problems or [f"--gguf: found nothing; accepted: {', '.join(GGUF_TYPES)}"])
    return names


def refuse_unfinished(name: str, source: "Source") -> None:
    """Raise BadInput for a GGUF file, and for a run that has no model yet."""
    if source.is_gguf:
        raise BadInput(f"{name}: is a GGUF file already; accepted: a run, a model, an adapter or a checkpoint")
    if source.run and Path(source.location).parent == source.run.checkpoints and not Path(name).is_dir():
        raise BadInput(
            f"{name}: the run is not finished; hatrain submit its job again to finish it, or export one of its "
            f"checkpoints: {source.location}"
        )


def rows_for(source: "Source", dataset: Path | None) -> "tuple[list[Row], int | None]":
    """Return the rows to compare by, and the longest row of the run's training in tokens."""
    from hatrain.contract.inputs import resolve, workdir_of
    from hatrain.data.rows import read_rows

    if source.run is None:
        return list(read_rows(dataset)) if dataset else [], None
    plan = source.run.plan()
    test = plan.job.data.test
    in_job = test if plan.job.method.kind != "dpo" else None
    path = dataset or (resolve(in_job, workdir_of(plan, source.run)) if in_job else None)
    if path is None or not path.is_file():
        return [], plan.job.method.ctx_size
    return list(read_rows(path)), plan.job.method.ctx_size


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
