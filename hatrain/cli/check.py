"""`hatrain check`: counts a dataset's rows for a model, and reports every bad one, without training."""

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from hatrain.cli.tokenizing import add_tokenizer, load, marked, model_spec, positive, token_ids, use_colour
from hatrain.contract import row_lengths
from hatrain.contract.inputs import require_file
from hatrain.errors import BadInput
from hatrain.runtime.waiting import waiting
from hatrain.text import count

if TYPE_CHECKING:
    from hatrain.data.labels import Example, Labeller
    from hatrain.data.prepared import Prepared

LISTED = 10
"""Overlong rows that are printed one by one."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dataset", type=Path, help="rows as JSON or JSON Lines, gzipped or not")
    parser.add_argument("--model", required=True, help="hub id, folder or run whose tokenizer is used")
    parser.add_argument("--ctx-size", type=positive, default=2048, metavar="N", help="tokens (default: 2048)")
    parser.add_argument(
        "--prefix-ids",
        type=token_ids,
        metavar="IDS",
        help="token ids before a reply, such as 151644,77091,198",
    )
    parser.add_argument(
        "--suffix-ids", type=token_ids, metavar="IDS", help="token ids that end a reply, such as 151645,198"
    )
    parser.add_argument(
        "--show", type=positive, default=0, metavar="N", help="print N rows, with the supervised text marked"
    )
    parser.add_argument(
        "--labels",
        type=Path,
        metavar="FILE",
        help="write ids and labels, one JSON line per kept row (two per pair)",
    )
    parser.add_argument(
        "--date",
        type=date.fromisoformat,
        metavar="YYYY-MM-DD",
        help="date for a chat template that writes it (default: today)",
    )
    add_tokenizer(parser)


def run(args: argparse.Namespace) -> int:
    """Returns 0, or 2 when a row is bad or none is left to train on."""
    require_file(args.dataset)
    model = model_spec(args)
    with waiting("loading transformers"):
        from hatrain.data.dataset import ROWS, problem_lines, raw_note
        from hatrain.data.labels import Labeller
        from hatrain.data.pairs import PAIRS, SIDES, holds_pairs
        from hatrain.data.prepare import prepare
        from hatrain.data.rows import grouped

    tokenizer = load(model)
    lengths = row_lengths.name_of(args.dataset, model, (args.prefix_ids, args.suffix_ids), Path.cwd())
    labeller = Labeller(tokenizer, args.prefix_ids, args.suffix_ids, args.date)
    is_pairs = holds_pairs(args.dataset)
    prepared = prepare(args.dataset, labeller, PAIRS if is_pairs else ROWS, say=_say, lengths=lengths)
    kept = [row for row, length in enumerate(prepared.longest.tolist()) if length <= args.ctx_size]
    sides = SIDES if is_pairs else ("",)
    with _whole_file(args.labels) as labels:
        for number, row in enumerate(kept if labels else kept[: args.show]):
            (examples,) = prepared.examples([row])
            for side, example in zip(sides, examples, strict=True):
                for part, sequence in enumerate(example.sequences, start=1):
                    if number < args.show:
                        index, line = prepared.place(row)
                        several = f", sequence {part} of {len(example.sequences)}" if example.earlier else ""
                        shown = marked(sequence, tokenizer, colour=use_colour())
                        print(f"--- row {index}, line {line}{side and f', {side}'}{several}\n{shown}\n")
                    if labels:
                        labels.write(_label_line(sequence, side))
    print(summary(args.dataset, prepared, kept, args.ctx_size))
    print("\n".join(_notes(prepared, kept, labeller)))
    if prepared.raw_rows:
        print(f"note: {raw_note(prepared.raw_rows)}", file=sys.stderr)
    for problem in grouped(problem_lines(prepared.bad)):
        print(problem, file=sys.stderr)
    return 2 if prepared.bad or not kept else 0


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _notes(prepared: "Prepared", kept: list[int], labeller: "Labeller") -> list[str]:
    """How replies are laid out, asked for and ended, and what of the rows does not reach the model."""
    lines = []
    if not labeller.prefix:
        markers = labeller.finder.markers
        lines.append(f"  prompt      {markers.prompt!r} is before a reply, in training and in evaluation")
        ends = markers.stops or (labeller.tokenizer.eos_token,)
        lines.append(f"  end         {' or '.join(map(repr, ends))} ends a reply and is trained on")
    if divided := int(prepared.counts(kept).divided):
        rows = f"{count(divided, 'row')} {'is' if divided == 1 else 'are'}"
        lines.append(
            f"  sequences   {rows} laid out once for each reply: the chat template renders earlier replies otherwise "
            "than it asks for them"
        )
    if prepared.null_rows:
        lines.append(f"  nulls       left out of the call arguments and tools of {count(prepared.null_rows, 'row')}")
    if prepared.ignored:
        keys = ", ".join(f"{key} ({rows:,})" for key, rows in prepared.ignored)
        lines.append(f"  ignored     keys that the model does not see, with their rows: {keys}")
    return lines


def summary(dataset: Path, prepared: "Prepared", kept: list[int], ctx_size: int) -> str:
    import numpy as np

    is_pairs = prepared.sides > 1 and len(prepared) > 0
    overlong = np.flatnonzero(prepared.longest > ctx_size).tolist()
    lines = [f"{dataset}: {len(prepared) + len(prepared.bad):,} {'pairs' if is_pairs else 'rows'}"]
    lines.append(f"  kept        {len(kept):,}")
    lines.append(f"  bad         {len(prepared.bad):,}")
    lines.append(f"  too long    {len(overlong):,}, of more than {ctx_size:,} tokens; training drops them")
    for row in overlong[:LISTED]:
        lines.append(f"    {dataset}:{prepared.place(row)[1]}: {int(prepared.longest[row]):,} tokens")
    if len(overlong) > LISTED:
        lines.append(f"    and {len(overlong) - LISTED:,} more")
    if kept:
        points = np.percentile(prepared.longest[kept], [0, 50, 90, 99, 100], method="higher")
        names = ("shortest", "50%", "90%", "99%", "longest")
        lengths = ", ".join(f"{name} {int(point):,}" for name, point in zip(names, points, strict=True))
        each = "on a pair's longer side" if is_pairs else "per row"
        counts = prepared.counts(kept)
        share = counts.supervised / counts.tokens
        lines.append(f"  tokens      {counts.tokens:,} ({lengths} {each})")
        lines.append(f"  supervised  {counts.supervised:,}, {share:.1%} of them, in {counts.replies:,} replies")
    return "\n".join(lines)


def _label_line(example: "Example", side: str) -> str:
    named = {"row": example.row} | ({"side": side} if side else {})
    ids = {"input_ids": example.input_ids.tolist(), "labels": example.labels.tolist()}
    return json.dumps(named | ids) + "\n"


@contextmanager
def _whole_file(path: Path | None) -> Iterator[TextIO | None]:
    """Open a file that gets its name only when it is complete."""
    if path is None:
        yield None
        return
    partial = path.with_name(f".{path.name}.partial")
    try:
        file = partial.open("w", encoding="utf-8")
    except OSError as error:
        raise BadInput(f"--labels: {path}: cannot be written: {error.strerror}") from None
    try:
        with file:
            yield file
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
