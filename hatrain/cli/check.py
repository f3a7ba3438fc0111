"""`hatrain check`: counts a dataset's rows for a model, and reports every bad one, without training."""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, TextIO, TypeVar

from hatrain.cli.tokenizing import add_tokenizer, load, marked, positive, token_ids, use_colour
from hatrain.errors import BadInput
from hatrain.text import count

if TYPE_CHECKING:
    from hatrain.data.labels import Example, Labeller
    from hatrain.data.rows import BadRow, Row

T = TypeVar("T")

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


@dataclass
class Counts:
    """Counts over the rows of a file."""

    lengths: list[int] = field(default_factory=list)
    """Tokens of each kept row; of a pair's longer side."""
    tokens: int = 0
    supervised: int = 0
    replies: int = 0
    pairs: int = 0
    raw_rows: int = 0
    divided: int = 0
    """Rows that are laid out as several sequences."""
    nulls: int = 0
    """Rows whose call arguments or tools had keys without a value."""
    ignored: "Counter[str]" = field(default_factory=Counter)
    """Rows by the key that training does not read."""
    bad: "list[BadRow]" = field(default_factory=list)
    overlong: list[tuple[int, int]] = field(default_factory=list)
    """Line and tokens of each."""

    @property
    def rows(self) -> int:
        return len(self.lengths) + len(self.bad) + len(self.overlong)

    def note(self, row: "Row", labeller: "Labeller") -> None:
        """Count what of a row does not reach the model."""
        template = labeller.finder.template
        self.nulls += bool(row.nulls)
        self.ignored.update(row.meta.keys())
        if row.tools and not template.writes_tools:
            self.ignored["tools"] += 1
        keys = {key for message in row.messages for key in message.extra if not template.mentions(key)}
        keys |= {key for message in row.messages for key in message.ignored}
        self.ignored.update(f"turns: {key}" for key in keys)


def run(args: argparse.Namespace) -> int:
    """Returns 0, or 2 when a row is bad or none is left to train on."""
    from hatrain.data.dataset import problem_lines, raw_note
    from hatrain.data.labels import Labeller
    from hatrain.data.rows import BadRow, grouped

    tokenizer = load(args)
    labeller = Labeller(tokenizer, args.prefix_ids, args.suffix_ids, args.date)
    counts = Counts()
    with _whole_file(args.labels) as labels:
        for checked in _with_progress(_labelled(args.dataset, labeller)):
            if isinstance(checked, BadRow):
                counts.bad.append(checked)
                continue
            row, sides = checked
            counts.raw_rows += row.text is not None
            counts.note(row, labeller)
            length = max(example.length for example in sides.values())
            if length > args.ctx_size:
                counts.overlong.append((row.line, length))
                continue
            for side, example in sides.items():
                for number, sequence in enumerate(example.sequences, start=1):
                    several = f", sequence {number} of {len(example.sequences)}" if example.earlier else ""
                    if len(counts.lengths) < args.show:
                        shown = marked(sequence, tokenizer, colour=use_colour())
                        print(f"--- row {row.index}, line {row.line}{side and f', {side}'}{several}\n{shown}\n")
                    if labels:
                        labels.write(_label_line(sequence, side))
                    counts.replies += len(sequence.replies)
                counts.tokens += example.tokens
                counts.supervised += example.supervised
                counts.divided += bool(example.earlier)
            counts.lengths.append(length)
            counts.pairs += len(sides) > 1
    print(summary(args.dataset, counts, args.ctx_size))
    print("\n".join(_notes(counts, labeller)))
    if counts.raw_rows:
        print(f"note: {raw_note(counts.raw_rows)}", file=sys.stderr)
    for problem in grouped(problem_lines(counts.bad)):
        print(problem, file=sys.stderr)
    return 2 if counts.bad or not counts.lengths else 0


def _notes(counts: Counts, labeller: "Labeller") -> list[str]:
    """How replies are laid out, asked for and ended, and what of the rows does not reach the model."""
    lines = []
    if not labeller.prefix:
        markers = labeller.finder.markers
        lines.append(f"  prompt      {markers.prompt!r} is before a reply, in training and in evaluation")
        ends = markers.stops or (labeller.tokenizer.eos_token,)
        lines.append(f"  end         {' or '.join(map(repr, ends))} ends a reply and is trained on")
    if counts.divided:
        rows = f"{count(counts.divided, 'row')} {'is' if counts.divided == 1 else 'are'}"
        lines.append(
            f"  sequences   {rows} laid out once for each reply: the chat template renders earlier replies otherwise "
            "than it asks for them"
        )
    if counts.nulls:
        lines.append(f"  nulls       left out of the call arguments and tools of {count(counts.nulls, 'row')}")
    if counts.ignored:
        keys = ", ".join(f"{key} ({rows:,})" for key, rows in counts.ignored.most_common())
        lines.append(f"  ignored     keys that the model does not see, with their rows: {keys}")
    return lines


def _labelled(dataset: Path, labeller: "Labeller") -> "Iterator[BadRow | tuple[Row, dict[str, Example]]]":
    """Yield each row with its examples by side (`""` where it is no pair), or the bad row."""
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


def summary(dataset: Path, counts: Counts, ctx_size: int) -> str:
    import numpy as np

    lines = [f"{dataset}: {counts.rows:,} {'pairs' if counts.pairs else 'rows'}"]
    lines.append(f"  kept        {len(counts.lengths):,}")
    lines.append(f"  bad         {len(counts.bad):,}")
    lines.append(f"  too long    {len(counts.overlong):,}, of more than {ctx_size:,} tokens; training drops them")
    for line, tokens in counts.overlong[:LISTED]:
        lines.append(f"    {dataset}:{line}: {tokens:,} tokens")
    if len(counts.overlong) > LISTED:
        lines.append(f"    and {len(counts.overlong) - LISTED:,} more")
    if counts.lengths:
        points = np.percentile(counts.lengths, [0, 50, 90, 99, 100], method="higher")
        names = ("shortest", "50%", "90%", "99%", "longest")
        lengths = ", ".join(f"{name} {int(point):,}" for name, point in zip(names, points, strict=True))
        each = "on a pair's longer side" if counts.pairs else "per row"
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


def _with_progress(rows: Iterator[T]) -> Iterator[T]:
    """Print a running count on a terminal."""
    is_terminal = sys.stderr.isatty()
    for number, row in enumerate(rows, start=1):
        if is_terminal and number % 500 == 0:
            print(f"\r{number:,} rows", end="", file=sys.stderr, flush=True)
        yield row
    if is_terminal:
        print("\r\033[K", end="", file=sys.stderr, flush=True)
