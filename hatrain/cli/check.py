"""`hatrain check`: what a dataset's rows become for a model, and every row that is wrong, without training."""

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TextIO, TypeVar

from hatrain.cli.tokenizing import add_tokenizer, colourful, load, marked, positive, token_ids
from hatrain.errors import BadInput

if TYPE_CHECKING:
    from hatrain.data.labels import Example, Labeller
    from hatrain.data.rows import BadRow, Row

T = TypeVar("T")

LISTED = 10
"""How many of the rows that are too long are named one by one."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.add_argument("dataset", type=Path, help="rows as JSON or JSON Lines, gzipped or not")
    parser.add_argument("--model", required=True, help="hub id, folder or run whose tokenizer is used")
    parser.add_argument("--ctx-size", type=positive, default=2048, metavar="N", help="tokens (default: 2048)")
    parser.add_argument(
        "--prefix-ids", type=token_ids, metavar="IDS", help="token ids before a reply: 151644,77091,198"
    )
    parser.add_argument(
        "--suffix-ids", type=token_ids, metavar="IDS", help="token ids that end one: 151645,198"
    )
    parser.add_argument(
        "--show", type=positive, default=0, metavar="N", help="print N rows, what is trained on marked"
    )
    parser.add_argument(
        "--labels",
        type=Path,
        metavar="FILE",
        help="write ids and labels, one JSON line per kept row (two per pair)",
    )
    add_tokenizer(parser)


@dataclass
class Findings:
    """What was found in a file, row by row."""

    lengths: list[int] = field(default_factory=list)
    """Tokens of each kept row, of its longer side where it is a pair."""
    tokens: int = 0
    supervised: int = 0
    """Tokens that are trained on."""
    replies: int = 0
    pairs: int = 0
    raw_rows: int = 0
    bad: "list[BadRow]" = field(default_factory=list)
    overlong: list[tuple[int, int]] = field(default_factory=list)
    """Line and tokens of each row that does not fit."""

    @property
    def rows(self) -> int:
        """All rows of the file."""
        return len(self.lengths) + len(self.bad) + len(self.overlong)


def run(args: argparse.Namespace) -> int:
    """Check a file. Returns 0, or 2 when a row is bad or none is left to train on."""
    from hatrain.data.dataset import problem_lines, raw_note
    from hatrain.data.labels import Labeller
    from hatrain.data.rows import BadRow

    tokenizer = load(args)
    labeller = Labeller(tokenizer, args.prefix_ids, args.suffix_ids)
    found = Findings()
    with _written_aside(args.labels) as labels:
        for checked in _with_progress(_labelled(args.dataset, labeller)):
            if isinstance(checked, BadRow):
                found.bad.append(checked)
                continue
            row, sides = checked
            found.raw_rows += row.text is not None
            length = max(example.length for example in sides.values())
            if length > args.ctx_size:
                found.overlong.append((row.line, length))
                continue
            for side, example in sides.items():
                if len(found.lengths) < args.show:
                    shown = marked(example, tokenizer, colour=colourful())
                    print(f"--- row {row.index}, line {row.line}{side and f', {side}'}\n{shown}\n")
                if labels:
                    labels.write(_label_line(example, side))
                found.tokens += example.length
                found.supervised += example.supervised
                found.replies += len(example.replies)
            found.lengths.append(length)
            found.pairs += len(sides) > 1
    print(summary(args.dataset, found, args.ctx_size))
    if found.raw_rows:
        print(f"note: {raw_note(found.raw_rows)}", file=sys.stderr)
    for problem in problem_lines(found.bad):
        print(problem, file=sys.stderr)
    return 2 if found.bad or not found.lengths else 0


def _labelled(dataset: Path, labeller: "Labeller") -> "Iterator[BadRow | tuple[Row, dict[str, Example]]]":
    """Yield what is wrong with a row, or the row and its examples: a pair's by side, any other row's one unnamed."""
    from hatrain.data.dataset import label_file
    from hatrain.data.pairs import Pair, holds_pairs, label_pairs
    from hatrain.data.rows import BadRow, Row

    if holds_pairs(dataset):
        for pair, both in label_pairs(dataset, labeller):
            if isinstance(both, BadRow):
                yield both
            elif isinstance(pair, Pair):
                yield pair.chosen, {"chosen": both.chosen, "rejected": both.rejected}
        return
    for row, labelled in label_file(dataset, labeller):
        if isinstance(labelled, BadRow):
            yield labelled
        elif isinstance(row, Row):
            yield row, {"": labelled}


def summary(dataset: Path, found: Findings, ctx_size: int) -> str:
    """Return counts, lengths and the supervised share for a person to read."""
    import numpy as np

    lines = [f"{dataset}: {found.rows:,} {'pairs' if found.pairs else 'rows'}"]
    lines.append(f"  kept        {len(found.lengths):,}")
    lines.append(f"  bad         {len(found.bad):,}")
    lines.append(
        f"  too long    {len(found.overlong):,}, of more than {ctx_size:,} tokens; training drops them"
    )
    for line, tokens in found.overlong[:LISTED]:
        lines.append(f"    {dataset}:{line}: {tokens:,} tokens")
    if len(found.overlong) > LISTED:
        lines.append(f"    and {len(found.overlong) - LISTED:,} more")
    if found.lengths:
        points = np.percentile(found.lengths, [0, 50, 90, 99, 100], method="higher")
        names = ("shortest", "50%", "90%", "99%", "longest")
        lengths = ", ".join(f"{name} {int(point):,}" for name, point in zip(names, points, strict=True))
        each = "on a pair's longer side" if found.pairs else "a row"
        share = found.supervised / found.tokens
        lines.append(f"  tokens      {found.tokens:,} ({lengths} {each})")
        lines.append(f"  supervised  {found.supervised:,}, {share:.1%} of them, in {found.replies:,} replies")
    return "\n".join(lines)


def _label_line(example: "Example", side: str) -> str:
    named = {"row": example.row} | ({"side": side} if side else {})
    ids = {"input_ids": example.input_ids.tolist(), "labels": example.labels.tolist()}
    return json.dumps(named | ids) + "\n"


@contextmanager
def _written_aside(path: Path | None) -> Iterator[TextIO | None]:
    """Open a file that appears under its name only once it is whole."""
    if path is None:
        yield None
        return
    aside = path.with_name(f".{path.name}.partial")
    try:
        file = aside.open("w", encoding="utf-8")
    except OSError as error:
        raise BadInput(f"--labels: {path}: cannot be written: {error.strerror}") from None
    try:
        with file:
            yield file
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def _with_progress(rows: Iterator[T]) -> Iterator[T]:
    """Count rows on a terminal while they pass."""
    shown = sys.stderr.isatty()
    for number, row in enumerate(rows, start=1):
        if shown and number % 500 == 0:
            print(f"\r{number:,} rows", end="", file=sys.stderr, flush=True)
        yield row
    if shown:
        print("\r\033[K", end="", file=sys.stderr, flush=True)
